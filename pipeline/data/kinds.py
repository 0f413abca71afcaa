"""The runs there are: where each takes item vectors from, what it starts from, what it trains."""

from typing import Literal, NamedTuple


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
