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
