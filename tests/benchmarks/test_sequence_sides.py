import sys
from importlib import metadata
from pathlib import Path

import faiss
import numpy as np
import polars as pl
import pytest
import torch

from benchmarks import sequence_sides as sides
from pipeline.data import files

PRINTED = "epoch 1 2.0s\n{'epoch_s_median': np.float64(2.5), 'metrics': {'ndcg@10': 0.1}}\n"


def whole(folder):
    """Three users of 4, 3 and 2 interactions."""
    rows = [(1, 7, 10), (1, 8, 11), (1, 9, 12), (1, 7, 13), (2, 8, 5), (2, 9, 6), (2, 8, 7)]
    columns = ["user_id", "item_id", "datetime"]
    table = pl.DataFrame([*rows, (3, 9, 1), (3, 8, 2)], columns, orient="row")
    table.with_columns(weight=1).write_csv(folder / "synth.csv")
    return folder


def script(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return path


def peer(read=lambda found: found):
    return sides.Peer(
        "none", "numpy", "script.py", 1, lambda length, epochs: [length, epochs], read
    )


def test_the_last_dictionary_is_read_with_numpys_numbers():
    found = sides.parse("{'a': 1}\n" + PRINTED)
    assert found == {"epoch_s_median": 2.5, "metrics": {"ndcg@10": 0.1}}


def test_a_script_without_a_result_stops():
    with pytest.raises(files.Stop, match=r"must print a dictionary last, not 'epoch 1'"):
        sides.parse("epoch 1")


def test_a_script_is_given_its_arguments_and_the_data(tmp_path):
    text = "import os, sys; print(dict(got=sys.argv[1:], data=os.environ['PEER_DATA']))"
    found = sides.run(
        peer(), Path(sys.executable), script(tmp_path, text), tmp_path, length=20, epochs=3
    )
    assert found == {"got": ["20", "3"], "data": str(tmp_path)}


def test_a_script_that_fails_stops_with_its_own_words(tmp_path):
    broken = script(tmp_path, "raise SystemExit('no such loss')")
    with pytest.raises(files.Stop, match=r"script\.py 20 3 failed:\nno such loss"):
        sides.run(peer(), Path(sys.executable), broken, tmp_path, length=20, epochs=3)


def test_a_peer_is_named_with_its_version_and_torchs():
    said = sides.version(peer(), Path(sys.executable))
    assert said == f"{np.__version__} (torch {metadata.version('torch')})"


def test_a_peer_that_its_environment_lacks_stops():
    with pytest.raises(files.Stop, match=r"python\S* lacks no-such or torch .*no-such.*--side"):
        sides.version(peer()._replace(package="no-such"), Path(sys.executable))


def test_only_sides_wanted_and_installed_take_part(tmp_path):
    assert [*sides.installed(None, tmp_path, ["ours", "RePlay"])] == ["ours"]
    assert [*sides.installed(None, tmp_path, ["ours-narrow"])] == ["ours-narrow"]
    assert [*sides.installed(tmp_path, tmp_path, ["RePlay"])] == []
    python = tmp_path / "replay/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 0.22.0 2.13.0\n")
    python.chmod(0o755)
    found = sides.installed(tmp_path, tmp_path, ["RePlay"])
    assert {name: side.version for name, side in found.items()} == {
        "RePlay": "0.22.0 (torch 2.13.0)"
    }


def test_a_metric_that_a_script_failed_to_get_is_none():
    assert sides.quality("KeyError(-1)", "ndcg@10") is None
    assert sides.quality({"ndcg@10": 0.1}, "ndcg@10") == 0.1


def test_the_last_item_alone_is_held_out(tmp_path):
    parts = sides.divide(whole(tmp_path), length=2)
    assert parts.candidates.tolist() == [False, True, True, True]  # items 7, 8, 9 are 1, 2, 3
    assert parts.valid.items.tolist() == [1, 2, 2]
    np.testing.assert_array_equal(parts.train.items, [1, 2, 3, 2, 3, 3])
    np.testing.assert_array_equal(parts.valid.histories.items, [2, 3, 2, 3, 3])
    assert not len(parts.valid.masked.items)


def test_fewer_users_without_their_last_items(tmp_path):
    place = sides.derive(whole(tmp_path), tmp_path / "fewer", n_users=2, held_back=1)
    kept = pl.read_csv(place / "synth.csv")
    assert kept["item_id"].to_list() == [7, 8, 9, 8, 9]
    lines = (place / "recbole/synth/synth.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    assert lines[1] == "1\t7\t10" and len(lines) == 6


@pytest.fixture
def threads():
    """Leave the numbers of threads as they were."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("expansion", sides.OURS)
def test_our_side_trains_and_evaluates(tmp_path, expansion):
    outcome = sides.ours(expansion, whole(tmp_path), 2, 1)
    assert outcome.epoch > 0 and outcome.evaluation > 0
    assert outcome.hr == 1  # three items are all within the first ten
