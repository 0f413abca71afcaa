"""GRU4Rec: the next item by a recurrent net."""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.rows import Rows, UserEncoder
from pipeline.params import Section


class Gru4recSettings(Section):
    """GRU4Rec (Hidasi et al., 2016); NineRec's has 2 layers, dropout 0.1."""

    layers: PositiveInt
    dropout: float = Field(ge=0, lt=1)  # of the items' vectors


class Gru4rec(UserEncoder):
    """Gated recurrent units over item vectors, without biases (NineRec c.2)."""

    def __init__(self, width: int, length: int, settings: Gru4recSettings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.gru = nn.GRU(width, width, settings.layers, bias=False)
        weights = dict(self.gru.named_parameters())
        for name in ("weight_ih_l0", "weight_hh_l0"):  # of the first layer alone, as in NineRec
            nn.init.xavier_uniform_(weights[name])

    def forward(self, vectors: Tensor, rows: Rows) -> Tensor:
        """Encode histories, see `UserEncoder`; a step computes only who has an item there."""
        order = rows.by_step()
        # Not under autocast, which runs recurrent nets in float16 where all else is bfloat16.
        with torch.autocast(vectors.device.type, enabled=False):
            own = self.dropout(vectors.to(self.gru.all_weights[0][0].dtype))
            hidden, _ = self.gru(rows.in_steps(own, order))
            return F.embedding(torch.argsort(order), hidden.data)
