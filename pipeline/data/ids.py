"""Columns of ids: each id is kept once, every row has its code."""

import re

import numpy as np
import polars as pl

SPARSEST = 4  # numbers up to so many times the rows are looked up in a table
DIGITS = 10  # of a number of 32 bits, at most


def encode(texts: pl.Series) -> pl.Series:
    """Give a column of ids (String) the codes of a Categorical type that is its own.

    Numbers, perhaps after letters with which all ids begin, are coded without hashing a text.
    """
    kind = pl.Categorical(pl.Categories.random())
    letters = re.match("[^0-9]*", texts[0] or "") if len(texts) else None
    prefix = letters.group() if letters else ""
    numbers = _numbers(texts, prefix)
    if numbers is None:
        return texts.cast(kind)
    is_there = np.zeros(int(numbers.max()) + 1, bool)
    is_there[numbers] = True
    code = np.cumsum(is_there, dtype=np.uint32) - np.uint32(1)
    known = (prefix + pl.Series(np.flatnonzero(is_there)).cast(pl.String)).cast(kind)
    is_in_order = (codes(known) == np.arange(len(known))).all()
    assert is_in_order, "codes are given in the order in which ids come"
    return pl.Series(texts.name, code[numbers]).cat.to(kind)


def names(ids: pl.Series) -> pl.Series:
    """List the ids of a column by their codes: String."""
    assert isinstance(ids.dtype, pl.Categorical)
    return ids.dtype.categories.to_series()


def codes(ids: pl.Series) -> np.ndarray:
    """Give each row of a column the place of its id among `names`: uint32."""
    return ids.to_physical().to_numpy()


def spelling(lost: pl.Series, known: pl.Series, where: str) -> str:
    """Point out an id that is missed and is there in another spelling: 067, 67.0 and 67.

    Args:
        lost: ids for which something was not found: String.
        known: ids that there are: String.
        where: what they are ids of.

    Returns:
        A blank and a sentence; nothing if there is no such id.
    """
    ours, theirs = ({"id": column, "plain": _plain(column)} for column in (lost, known))
    found = pl.DataFrame(ours).join(pl.DataFrame(theirs), on="plain", maintain_order="left")
    other_spelling = found.filter(pl.col("id") != pl.col("id_right"))
    if not len(other_spelling):
        return ""
    one, other = other_spelling.select("id", "id_right").row(0)
    return f" {one!r} is perhaps {other!r} {where}; write ids alike everywhere."


def _plain(ids: pl.Series) -> pl.Series:
    """Write numbers among ids in one way: without blanks, leading zeros and .0."""
    bare = ids.str.strip_chars().str.replace(r"\.0+$", "")
    return bare.str.replace("^0+([0-9])", "$1")


def _numbers(texts: pl.Series, prefix: str) -> np.ndarray | None:
    """Read ids as numbers after a prefix: [n] uint32; none if an id is not written as plainly."""
    digits = texts.str.slice(len(prefix)) if prefix else texts
    numbers = digits.cast(pl.UInt32, strict=False)
    if not len(texts) or numbers.null_count() or not texts.str.starts_with(prefix).all():
        return None
    values = numbers.to_numpy()
    if values.max() >= SPARSEST * len(values):
        return None
    # No text is shorter than its number: where all together are as long, none says 007 or +7.
    plain = len(values) + sum(int((values >= 10**k).sum()) for k in range(1, DIGITS))
    return values if digits.str.len_bytes().sum() == plain else None
