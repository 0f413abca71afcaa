"""What of an encoder trains: one of two forms, and a mistake is named where it stands."""

import pytest
from pydantic import ValidationError

from pipeline import command
from tests.small_domains import settings

LORA = {"rank": 8, "alpha": 16, "dropout": 0.0, "layers": "all"}


@pytest.mark.parametrize("form", [{"layers": 2}, {"layers": "all"}, {"lora": LORA}])
def test_either_form_is_read_and_comes_back_from_what_it_dumps(form):
    read = settings(end2end__trainable=form)
    assert read.end2end.trainable.model_dump() == form
    assert type(read).model_validate(read.model_dump()) == read


@pytest.mark.parametrize(
    ("form", "problems"),
    [
        ({}, ["trainable: it is {layers: blocks of each encoder} or {lora: settings} (found: {})"]),
        ({"layers": 2, "lora": LORA}, ["trainable: there is no 'layers'; the keys are lora"]),
        (
            {"rank": 8},
            ["trainable: it is {layers: blocks of each encoder} or {lora: settings} (fo"],
        ),
        (7, ["trainable: Input should be a valid dictionary or instance of Layers (found: 7)"]),
        ({"lora": 8}, ["trainable.lora: Input should be a valid dictionary or instance of Lora"]),
        (
            {"lora": {"rank": 8, "alpha": 16, "layers": 2}},
            ["trainable.lora.dropout: Field required"],
        ),
        (
            {"lora": LORA | {"rank": 0}},
            ["trainable.lora.rank: Input should be greater than 0 (found: 0)"],
        ),
        (
            {"lora": LORA | {"rank": "8"}},
            ["trainable.lora.rank: Input should be a valid integer (found: '8')"],
        ),
        ({"lora": LORA | {"alpha": 0}}, ["trainable.lora.alpha: Input should be greater than 0"]),
        (
            {"lora": LORA | {"dropout": 1.0}},
            ["trainable.lora.dropout: Input should be less than 1 (found: 1.0)"],
        ),
        (
            {"lora": LORA | {"layers": "most"}},
            [
                "trainable.lora.layers.constrained-int: Input should be a valid integer",
                "trainable.lora.layers.literal['all']: Input should be 'all'",
            ],
        ),
    ],
)
def test_what_is_neither_form_stops_with_place_and_value(form, problems):
    with pytest.raises(ValidationError) as caught:
        settings(end2end__trainable=form)
    lines = command.message(caught.value).splitlines()
    assert lines[0] == "params.yaml does not fit:"
    assert len(lines[1:]) == len(problems)
    for line, problem in zip(lines[1:], problems, strict=True):
        assert line.startswith(f"  end2end.{problem}")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_no_64_bits_stops_before_training(seed):
    with pytest.raises(ValidationError, match=r"seeds\.1\n  Input should be (greater|less)"):
        settings(seeds=[2**63 - 1, seed])


def test_no_seed_at_all_stops():
    with pytest.raises(ValidationError, match=r"seeds\n  List should have at least 1 item"):
        settings(seeds=[])


def test_a_seed_twice_stops_and_is_named():
    with pytest.raises(ValidationError) as caught:
        settings(seeds=[0, 1, 0])
    assert command.message(caught.value).endswith(
        "seeds: a seed is listed twice; its training would be the same (found: [0, 1, 0])"
    )
