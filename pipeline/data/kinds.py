"""The runs there are: where each takes item vectors from, what it starts from, how it may learn."""

from typing import Literal, NamedTuple, get_args

from pipeline.data import files

LossName = Literal["in_batch", "bce", "gbce", "bpr", "sampled_softmax", "full_softmax"]


class Kind(NamedTuple):
    """What makes a run this run, and who may list it."""

    vectors: Literal["id", "frozen", "tuned", "end2end"]  # `tuned`: of the source-tuned encoder
    listed: str  # the field of params.yaml's `runs` that may list it; "": it is always there
    start: str = ""  # the run on the source whose model it starts from; "": scratch
    trains: bool = True  # on the target
    paper_head: bool = False  # instead of the head of all others


RUNS = {  # in the order of every table
    "id": Kind("id", ""),
    "frozen": Kind("frozen", "frozen"),
    "frozen_paper": Kind("frozen", "frozen", paper_head=True),
    "end2end": Kind("end2end", "end2end"),
    "frozen_transfer": Kind("frozen", "frozen_transfer", "frozen"),
    "tuned_transfer": Kind("tuned", "tuned_transfer", "end2end"),
    "end2end_transfer": Kind("end2end", "end2end_transfer", "end2end"),
    "frozen_zeroshot": Kind("frozen", "frozen_transfer", "frozen", trains=False),
    "tuned_zeroshot": Kind("tuned", "tuned_transfer", "end2end", trains=False),
}
ZEROSHOT = tuple(name for name, kind in RUNS.items() if not kind.trains)


def check_loss(loss: object, encodes: bool) -> None:
    """See that a loss is one, and that runs can take it.

    Args:
        loss: its name, or whatever stands in its place.
        encodes: whether there is a run whose encoders train.

    Raises:
        Stop: it is none, or it needs the vectors of more items than such a run can encode.
    """
    if loss not in get_args(LossName):
        raise files.Stop(
            f"params.yaml: training.loss: {loss!r} is not one of {', '.join(get_args(LossName))}"
        )
    if encodes and loss == "full_softmax":
        raise files.Stop(
            "params.yaml: training.loss: full_softmax needs every item's vector at every step, "
            "which an end2end run would have to encode; use in_batch, which encodes a batch's "
            "items alone, or sampled_softmax, bce, gbce or bpr, which encode their negatives too; "
            "or list no end2end runs, in pretrain_end2end, end2end and what starts from them"
        )
