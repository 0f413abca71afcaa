"""SASRec: the next item by causal self-attention."""

from pipeline.models.attention import BlockSettings, Stack


class SasrecSettings(BlockSettings):
    """SASRec (Kang and McAuley, 2018); NineRec's is post-norm with relu and dropout 0.1."""


class Sasrec(Stack):
    """Stacked causal blocks over item vectors with learned positions."""

    def __init__(self, width: int, length: int, settings: SasrecSettings) -> None:
        super().__init__(width, length, settings, causal=True)
