"""What is left of a params.yaml for one point of the curve, and what it is refused for."""

import copy
import re

import pytest
from ruamel.yaml import YAML
from stub_flow import ROOT

from pipeline.data import agreement, files, lists
from pipeline.reporting import breakeven_params
from pipeline.reporting.results import Group

SHIPPED = YAML(typ="safe").load(ROOT / "params.yaml")
NEAR = Group("near", "text", "sasrec")


def shipped(**changes):
    """The shipped params.yaml with other lists; `runs__frozen` is `frozen` in `runs`."""
    content = copy.deepcopy(SHIPPED)
    for path, value in changes.items():
        *above, key = path.split("__")
        (content[above[0]] if above else content)[key] = value
    return lists.Lists.model_validate(content)


def test_numbers_ascend_and_all_users_come_last():
    assert breakeven_params.numbers([3000, 0, 750]) == [750, 3000, 0]


@pytest.mark.parametrize("users", [[750, 0, 750], [0, 0]])
def test_a_number_that_is_given_twice_stops(users):
    message = f"--users {users[0]} is given twice: each number is one point of the curve"
    with pytest.raises(files.Stop, match=message):
        breakeven_params.numbers(users)


def test_the_only_ones_there_are_need_no_name():
    only = shipped(targets=["far"], contents=["text"])
    assert breakeven_params.group(only, "", "", "") == Group("far", "text", "sasrec")


def test_of_several_the_named_ones_are_taken():
    several = shipped(contents=["text", "image"], users=["sasrec", "gru4rec"])
    found = breakeven_params.group(several, "cold", "image", "gru4rec")
    assert found == Group("cold", "image", "gru4rec")


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        (
            {}, ("", "", ""),
            "targets: ['near', 'far', 'cold']: the curve is of one; say which with --target",
        ),
        (
            {"contents": ["text", "both"]}, ("near", "", ""),
            "contents: ['text', 'both']: the curve is of one; say which with --content",
        ),
        (
            {"users": ["sasrec", "gru4rec"]}, ("near", "", ""),
            "users: ['sasrec', 'gru4rec']: the curve is of one; say which with --user-encoder",
        ),
        ({}, ("harbor", "", ""), "targets: ['near', 'far', 'cold']: --target harbor is none of"),
        ({}, ("near", "text", ""), "contents: ['both']: --content text is none of them"),
        ({}, ("near", "", "gru"), "users: ['sasrec']: --user-encoder gru is none of them"),
        (
            {"runs__frozen": []}, ("near", "", ""),
            "runs.frozen: []: the curve compares ('frozen', 'end2end'); list 'frozen' there",
        ),
        (
            {"runs__frozen": ["frozen_paper"]}, ("near", "", ""),
            "runs.frozen: ['frozen_paper']: the curve compares",
        ),
        (
            {"runs__end2end": []}, ("near", "", ""),
            "runs.end2end: []: the curve compares ('frozen', 'end2end'); list 'end2end' there",
        ),
    ],
)  # fmt: skip
def test_what_is_not_one_curve_stops(changes, asked, message):
    with pytest.raises(files.Stop, match=re.escape(message)):
        breakeven_params.group(shipped(**changes), *asked)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("text", {"all", "text"}),
        ("image", {"all", "image"}),
        ("both", {"all", "text", "image", "both"}),
    ],
)
def test_the_arms_of_one_group_are_left_and_its_lists_agree(content, parts):
    params = copy.deepcopy(SHIPPED)
    params["runs"]["frozen"] = ["frozen_paper", "frozen"]  # the one is no arm
    breakeven_params.narrow(params, NEAR._replace(content=content), 250)
    agreed = lists.Lists.model_validate(params)
    agreement.check(agreed)
    assert agreed.runs.names(agreed.sources) == ["id", "frozen", "end2end"]
    domains = agreed.domains.model_dump()
    assert {part for part, listed in domains.items() if listed} == parts
    assert all([*domains[part]] == ["near"] for part in parts)
    assert {*agreed.origins} == parts & {"text", "image"}
    assert (agreed.targets, agreed.contents) == (["near"], [content])
    assert params["prepare"] == {**SHIPPED["prepare"], "max_users": 250}
    for section in ("training", "end2end", "search", "seeds", "encoders", "demo", "protocol"):
        assert params[section] == SHIPPED[section]


@pytest.mark.parametrize("users", [[750, 1000], [0], [750, 0], [1000]])
def test_as_many_users_as_there_are_can_be_asked_for(users):
    breakeven_params.check("near", users, 1000)


def test_more_users_than_there_are_stop():
    message = "--users 1001: near has 1,000 users; name fewer, or 0 for all of them"
    with pytest.raises(files.Stop, match=message):
        breakeven_params.check("near", [750, 1001], 1000)


def test_all_users_named_twice_stop():
    message = "--users 1000 and --users 0: near has 1,000 users; name one of them"
    with pytest.raises(files.Stop, match=message):
        breakeven_params.check("near", [750, 1000, 0], 1000)
