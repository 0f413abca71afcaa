"""How many items may lack a text or a cover before a domain is refused."""

from collections.abc import Sequence

from pipeline.data.files import Stop

SHOWN = 20  # item ids named in a message


def check(what: str, ids: Sequence[str], total: int, allowed: float, fix: str) -> None:
    """Stop if more than a share of the items lack something.

    Args:
        what: where and what is missing, "hm: no text".
        ids: the items that lack it.
        total: the number of all items.
        allowed: the largest share, in [0, 1], that may lack it.
        fix: what the user can do.

    Raises:
        Stop: the share is above `allowed`; names the count and the first items.
    """
    if len(ids) > allowed * total:
        shown = ", ".join(map(repr, ids[:SHOWN]))
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        raise Stop(
            f"{what} for {len(ids):,} of {total:,} items ({len(ids) / total:.2%}), more than "
            f"max_missing = {allowed:.2%} allows: {shown}{more}. {fix}"
        )
