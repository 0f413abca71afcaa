"""The numbers NineRec's paper publishes, for domains that carry its data sets' names.

HR@10 in percent, test, one training; text encoder BERT-base, image encoder Swin-B. From the results
table that the authors publish as a figure in their repository westlake-repl/NineRec (arXiv
2309.07705): learned ids, the content model without and with pre-training on their source. The
column `failed` names the number that the authors mark as a failed training: BERT4Rec's on images
without pre-training, on Bili_Food and Bili_Movie.
"""

from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from pipeline.reporting.results import Group

FILE = Path(__file__).with_name("ninerec.csv")
OURS = {"id": "id", "scratch": "end2end", "transfer": "end2end_transfer"}  # column -> our run


class Published(NamedTuple):
    """One number of the paper."""

    hr: float  # HR@10, a fraction
    failed: bool  # whether the authors mark the training as failed


def published(group: Group, names: set[str]) -> dict[str, Published]:
    """Find the paper's numbers by the run of ours that each stands for.

    Args:
        group: content and user encoder; the paper has no `both`.
        names: what the target is called: its word, its folder's name. Case does not matter.
    """
    known = pl.read_csv(FILE).filter(
        pl.col("domain").str.to_lowercase().is_in([name.lower() for name in names]),
        content=group.content,
        user=group.user,
    )
    rows: list[dict[str, Any]] = known.to_dicts()
    return {
        run: Published(row[column] / 100, row["failed"] == column)
        for row in rows
        for column, run in OURS.items()
    }
