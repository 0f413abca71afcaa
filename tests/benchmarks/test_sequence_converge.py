import polars as pl
import pytest

from benchmarks import measure
from benchmarks import sequence_converge as convergence
from benchmarks.sequence_sides import Outcome, Side
from pipeline.data import files


def place(folder):
    rows = [(user, item, item) for user in (1, 2) for item in range(5)]
    table = pl.DataFrame(rows, ["user_id", "item_id", "datetime"], orient="row")
    table.with_columns(weight=1).write_csv(folder / "synth.csv")
    return folder


class Best5:
    """A training that is best at 5 epochs; remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, folder, length, epochs):
        interactions = len(pl.read_csv(folder / "synth.csv"))
        self.asked.append((interactions, length, epochs))
        return Outcome(1.0, 1.0, 0.5, 1 - abs(epochs - 5) / 100)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [([], False), ([0.1], False), ([0.1, 0.2, 0.1], False), ([0.2, 0.1, 0.2], True)],
)
def test_it_is_over_two_tries_after_the_best(judged, expected):
    assert convergence.is_over(judged) == expected


def test_the_best_number_of_epochs_is_tested_on_all_but_the_last_item(tmp_path):
    side, known, kept = Best5(), {"converged": {}}, []
    named = {"RecTools": Side("0.19.0", side)}
    convergence.train(place(tmp_path), 20, named, known, kept.append)
    assert side.asked == [*((8, 20, epochs) for epochs in (1, 2, 3, 5, 8, 12)), (10, 20, 5)]
    own = known["converged"]["20"]["RecTools"]
    assert own["epochs"] == 5
    assert len(kept) == len(side.asked)
    assert convergence.ended(known["converged"]) == [own]
    marked = measure.marks([own["machine"]])
    _, table = convergence.tables(known["converged"], marked)
    assert "| 20 | RecTools 0.19.0 | 5 | 1.0000 | 1.0000 | 0.5000 | [1] |" in table


def test_what_is_known_is_not_trained_again(tmp_path):
    side, known = Best5(), {"converged": {}}
    named = {"ours": Side("", side)}
    convergence.train(place(tmp_path), 20, named, known, lambda _: None)
    done = known["converged"]["20"]["ours"]
    del done["test"], done["tried"]["12"]
    side.asked.clear()
    convergence.train(tmp_path, 20, named, known, lambda _: None)
    assert side.asked == [(8, 20, 12), (10, 20, 5)]


def test_a_side_without_ndcg_stops(tmp_path):
    def silent(folder, length, epochs):
        return Outcome(1.0, 1.0, None, None)

    with pytest.raises(files.Stop, match=r"RePlay's script prints no NDCG@10.*--scripts.*--side"):
        convergence.train(
            place(tmp_path), 20, {"RePlay": Side("", silent)}, {"converged": {}}, lambda _: None
        )
