"""The numbers NineRec's paper publishes, for domains that carry its data sets' names.

HR@10 in percent, test, one training; text encoder BERT-base, image encoder Swin-B. From the results
table that the authors publish as a figure in their repository westlake-repl/NineRec (arXiv
2309.07705): learned ids, the content model without and with pre-training on their source. The
authors mark BERT4Rec's image numbers without pre-training on Bili_Food and Bili_Movie as failed
trainings.
"""

from pathlib import Path
from typing import Any

import polars as pl

from pipeline.reporting.results import Group

FILE = Path(__file__).with_name("ninerec.csv")
OURS = {"id": "id", "scratch": "end2end", "transfer": "end2end_transfer"}  # column -> our run


def published(group: Group, names: set[str]) -> dict[str, float]:
    """Find the paper's HR@10, as fractions, by the run of ours that each stands for.

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
    return {run: rows[0][column] / 100 for column, run in OURS.items()} if rows else {}
