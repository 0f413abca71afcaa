"""BERT4Rec: hidden items of a history by attention in both directions."""

import torch
from torch import Tensor, nn

from pipeline.models.attention import BlockSettings, Stack
from pipeline.models.rows import Masking, Rows


class Bert4recSettings(BlockSettings):
    """BERT4Rec (Sun et al., 2019); NineRec's: as its SASRec, mask share 0.4, last 0."""

    mask: Masking


class Bert4rec(Stack):
    """Stacked blocks that see the whole history; the next item is a hidden one at its end.

    [MASK] is a vector of the user encoder's: no item, no candidate, no negative. While training,
    the caller puts it where `masking` hides items.
    """

    def __init__(self, width: int, length: int, settings: Bert4recSettings) -> None:
        super().__init__(width, length + 1, settings, causal=False)  # a history and [MASK]
        self.masking = settings.mask
        self.mask = nn.Parameter(torch.randn(width) * width**-0.5)  # as long as an item's vector

    def last(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode whole histories: what [MASK] is told that is put at their ends."""
        assert self.mask is not None
        longer = rows.longer()
        places = torch.arange(len(vectors), device=vectors.device) + rows.owners
        masks = self.mask.to(vectors.dtype).expand(len(longer.owners), -1)
        return super().last(masks.index_copy(0, places, vectors), longer)
