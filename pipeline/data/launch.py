"""Whether this is one of several processes of one command, as torchrun's environment says it."""

import os


def is_one_of_several() -> bool:
    """Tell whether this is one of several processes that were started together.

    RANK or LOCAL_RANK alone are of something else, such as the scheduler of a cluster.
    """
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Tell whether this process writes and speaks: the first of several, or the only one."""
    return not is_one_of_several() or os.environ["RANK"] == "0"


def local_rank() -> int | None:
    """Give this process's number on its machine, from 0; none where it is alone."""
    number = os.environ.get("LOCAL_RANK") if is_one_of_several() else None
    return None if number is None else int(number)
