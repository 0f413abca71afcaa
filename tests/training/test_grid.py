import pytest

from pipeline.training import grid

DEFAULT = grid.Point(learning_rate=1.0, weight_decay=2.0, encoder_learning_rate=3.0)


def search(rates=(), decays=(), encoder_rates=()):
    return grid.Search(
        learning_rate=list(rates),
        weight_decay=list(decays),
        encoder_learning_rate=list(encoder_rates),
    )


@pytest.mark.parametrize("encoder_trains", [False, True])
def test_without_values_there_is_the_one_default_point(encoder_trains):
    assert grid.points(search(), DEFAULT, encoder_trains) == [DEFAULT]


def test_the_second_axis_is_what_the_run_has_to_tune():
    axes = search([0.1, 0.2], [5.0, 6.0, 7.0], [0.5, 0.6, 0.7])
    assert grid.points(axes, DEFAULT, encoder_trains=False) == [
        (rate, decay, 3.0) for rate in (0.1, 0.2) for decay in (5.0, 6.0, 7.0)
    ]
    assert grid.points(axes, DEFAULT, encoder_trains=True) == [
        (rate, 2.0, own) for rate in (0.1, 0.2) for own in (0.5, 0.6, 0.7)
    ]


@pytest.mark.parametrize(
    "axes", [search(), search([0.1, 0.2, 0.3]), search([], [1.0, 2.0], [3.0, 4.0])]
)
def test_every_run_tries_as_many_points(axes):
    plain, joint = (grid.points(axes, DEFAULT, trains) for trains in (False, True))
    assert len(plain) == len(joint) == len(set(plain)) == len(set(joint))


def test_axes_are_of_one_length_and_name_each_value_once():
    unequal = r"weight_decay has 2 values and encoder_learning_rate 0; .*same number"
    with pytest.raises(ValueError, match=unequal):
        search([], [1.0, 2.0], [])
    with pytest.raises(ValueError, match=r"learning_rate\n.*a value is listed twice"):
        search([0.1, 0.2, 0.1])


def test_the_joint_phase_tries_the_encoders_rates_from_the_best_probe():
    best = grid.Point(0.2, 6.0, 0.0)
    axes = search([0.1, 0.2], [5.0, 6.0], [0.5, 0.6])
    assert grid.joint_points(axes, best, DEFAULT) == [(0.2, 6.0, 0.5), (0.2, 6.0, 0.6)]
    assert grid.joint_points(search(), best, DEFAULT) == [(0.2, 6.0, 3.0)]
