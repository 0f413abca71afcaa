"""What the break-even curve asks of a params.yaml, and what it leaves of one."""

from collections.abc import Sequence
from typing import Any

from pipeline.data import lists
from pipeline.data.files import Stop
from pipeline.reporting.breakeven import ARMS
from pipeline.reporting.results import Group


def numbers(users: Sequence[int]) -> list[int]:
    """Put the numbers of users in order, 0, which is all of them, last.

    Raises:
        Stop: one is given twice.
    """
    for number in users:
        if users.count(number) > 1:
            raise Stop(f"--users {number} is given twice: each number is one point of the curve")
    return sorted(users, key=lambda number: number or float("inf"))


def group(listed: lists.Lists, target: str, content: str, user: str) -> Group:
    """Say whose runs are compared: those asked for, or the only ones there are.

    Args:
        listed: the lists of the params.yaml.
        target: the one that is asked for, "" for the only one; so are the others.
        content: text, image or both.
        user: the user encoder.

    Raises:
        Stop: an arm is not among the runs, or there are several groups and none is asked for, or
            one that is not there.
    """
    runs = listed.runs.model_dump()
    for arm in ARMS:
        if arm not in runs[arm]:
            lists.stop(f"runs.{arm}: {runs[arm]}", f"the curve compares {ARMS}; list {arm!r} there")
    return Group(
        _one("targets", listed.targets, "--target", target),
        _one("contents", listed.contents, "--content", content),
        _one("users", listed.users, "--user-encoder", user),
    )


def narrow(params: Any, compared: Group, users: int) -> None:  # noqa: ANN401  # whatever YAML holds
    """Leave of a whole params.yaml one group, its arms from scratch, and so many of its users.

    Args:
        params: it, changed in place.
        compared: the group.
        users: how many; 0 = all.
    """
    modalities = lists.MODALITIES[compared.content]
    for part, domains in params["domains"].items():
        is_read = part in ("all", compared.content, *modalities)
        params["domains"][part] = {compared.target: domains[compared.target]} if is_read else {}
    params["origins"] = {modality: params["origins"][modality] for modality in modalities}
    params["sources"] = []
    for field, word in zip(("targets", "contents", "users"), compared, strict=True):
        params[field] = [word]
    for arm in ARMS:
        params["runs"][arm] = [arm]
    params["prepare"]["max_users"] = users


def check(target: str, users: Sequence[int], known: int) -> None:
    """See that there are as many users as are asked for, and no point of the curve twice.

    Args:
        target: the domain.
        users: the numbers that are asked for.
        known: how many users there are, at least where one of the numbers is larger.

    Raises:
        Stop: a number is larger than that, or the same as 0.
    """
    if max(users) > known:
        raise Stop(
            f"--users {max(users)}: {target} has {known:,} users; name fewer, or 0 for all of them"
        )
    if 0 in users and known in users:
        raise Stop(f"--users {known} and --users 0: {target} has {known:,} users; name one of them")


def _one(field: str, listed: Sequence[str], option: str, asked: str) -> str:
    if asked and asked not in listed:
        lists.stop(f"{field}: {[*listed]}", f"{option} {asked} is none of them")
    if not asked and len(listed) > 1:
        lists.stop(f"{field}: {[*listed]}", f"the curve is of one; say which with {option}")
    return asked or listed[0]
