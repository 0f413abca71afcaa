import polars as pl

from pipeline.data import sequences, tables
from pipeline.reporting import overlap


def domain(texts, users):
    """Users' held-out test items are 1, 2, 3, ... in turn."""
    n = len(texts)
    return tables.Prepared(
        items=pl.DataFrame(
            {"id": [str(i) for i in range(n)], "text": texts, "cover": [None] * n},
            schema=tables.ITEMS,
        ),
        users=pl.DataFrame(
            {"id": users, "valid": [1] * len(users), "test": [*range(1, len(users) + 1)]},
            schema=tables.USERS,
        ),
        sequences=sequences.from_rows([[1]] * len(users)),
    )


def test_texts_are_compared_but_for_case_and_white_space_at_their_ends():
    source = domain(["Toy Story", "Heat ", None, ""], ["u1", "u2"])
    target = domain(["toy story", " Heat", None, "", "Alien"], ["u2", "u3", "u4", "u5", "u6"])
    shared = overlap.measure(source, target)
    assert (shared.items, shared.shared_items) == (5, 2)  # no text is shared with no text
    assert (shared.users, shared.shared_users) == (5, 1)
    assert shared.is_known.tolist() == [True, True, False, False, False]
