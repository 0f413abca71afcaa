"""MovieLens-1M as the SASRec, BERT4Rec and gSASRec papers read it, prepared as a domain."""

import gzip
import hashlib
import io
import tempfile
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from pipeline.data import files, prepare, readers, scratch, split, table, tables

FILE = Path("../shared/data/ml1m_sasrec/ml-1m.txt.gz")  # beside the checkout
MD5 = "f7699aece54d883579ea84535bacdda0"  # of ml-1m.txt, the file that published values are of
LENGTH = 200  # L
PROTOCOL = split.Protocol(
    min_items=5,
    window=LENGTH + split.HELD_OUT + 1,
    train="window",
    mask="all",
    catalogue="all",
    select="ndcg@10",
)
PREPARE = prepare.Prepare(
    max_users=0,
    seed=0,
    max_unknown=0.0,
    max_missing=1.0,  # no item has a text
    duplicates="keep",
    table=table.Table(
        interactions="interactions.parquet",
        items="items.parquet",
        user="user",
        item="item",
        timestamp="",  # the file is in time order
        id="item",
        text=[],
        cover="",
    ),
)


def make(file: Path, work: Path) -> Path:
    """Prepare the domain in a work folder and give its folder; one that is there is taken as it is.

    Args:
        file: lines `user item`, each user's in time order; .gz or plain.
        work: where the prepared domain goes.

    Raises:
        Stop: the file is absent, another one, or no such file at all.
    """
    prepared = work / "prepared"
    with scratch.locked(prepared):  # another recipe may begin at the same time
        if prepared.exists():
            return prepared
        interactions = read(file)
        with files.atomic_folder(prepared) as part, tempfile.TemporaryDirectory() as folder:
            raw = Path(folder)
            interactions.write_parquet(raw / PREPARE.table.interactions)
            items = interactions.select(pl.col("item").unique().sort())
            items.write_parquet(raw / PREPARE.table.items)
            found = readers.read("table", raw, "", PREPARE.table)
            domain, _ = prepare.prepare("ml1m", found, PREPARE, PROTOCOL)
            tables.save(part, domain)
    return prepared


def read(file: Path) -> pl.DataFrame:
    """Read the interactions in the file's order: user, item.

    Raises:
        Stop: the file is absent, another one, or no such file at all.
    """
    if not file.exists():
        raise files.Stop(
            f"{file}: no such file; it should be ml-1m.txt of the SASRec paper, lines `user item` "
            "in time order, plain or .gz. Name it by --data"
        )
    content = file.read_bytes()
    if file.suffix == ".gz":
        content = gzip.decompress(content)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5:
        raise files.Stop(
            f"{file}: its MD5 is {found}, and {MD5} is that of the file which published values "
            "are of; bring ml-1m.txt of the SASRec paper"
        )
    columns = {"user": pl.Int64, "item": pl.Int64}
    try:
        return pl.read_csv(io.BytesIO(content), has_header=False, separator=" ", schema=columns)
    except PolarsError as error:
        raise files.Stop(f"{file}: not lines `user item`: {str(error).splitlines()[0]}") from error
