"""NextItNet: the next item by dilated causal convolutions."""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.rows import Rows, UserEncoder
from pipeline.params import Section


class NextitnetSettings(Section):
    """NextItNet (Yuan et al., 2019); NineRec's: dilations 1 and 4, twice; kernel 3, no dropout."""

    dilations: list[PositiveInt] = Field(min_length=1)  # a residual block each
    repeats: PositiveInt  # times the whole list stands one upon the other
    kernel: int = Field(ge=2)  # items that a convolution sees
    dropout: float = Field(ge=0, lt=1)  # of the items' vectors


class Convolution(nn.Module):
    """A causal convolution along histories: an item and those before it, `dilation` apart."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        # Its initial weights are those of a convolution of as many inputs.
        self.mix = nn.Linear(kernel * width, width)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Map [P, D] to [P, D]; before a history's first item there are zeros."""
        zero = x.new_zeros(1, x.shape[1])
        far = [rows.earlier(self.dilation * n) for n in range(self.kernel - 1, -1, -1)]
        seen = F.embedding(torch.stack(far, 1), torch.cat([x, zero]))  # [P, kernel, D]
        mixed: Tensor = self.mix(seen.flatten(1))
        return mixed


class Residual(nn.Module):
    """Two convolutions, the second twice as wide, each with LayerNorm and relu; and a sum."""

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Convolution(width, kernel, own) for own in (dilation, 2 * dilation)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(2))

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """Map [P, D] to [P, D]."""
        changed = x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            changed = F.relu(norm(convolution(changed, rows)))
        return x + changed


class Nextitnet(UserEncoder):
    """Residual blocks of dilated convolutions over item vectors (NineRec c.2)."""

    def __init__(self, width: int, length: int, settings: NextitnetSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Residual(width, settings.kernel, dilation)
            for dilation in settings.dilations * settings.repeats
        )

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories, see `UserEncoder`."""
        x: Tensor = self.dropout(vectors)
        for block in self.blocks:
            x = block(x, rows)
        return x
