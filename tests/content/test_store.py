"""Embeddings on disk: statistics by hand, round trips, stale joins."""

import subprocess
import sys

import numpy as np
import pytest

from pipeline.content import store
from pipeline.data import files


def about(modality):
    return {
        "modality": modality,
        "encoder": {"model": "a"},
        "weights": "0",
        "dtype": "float32",
        "inputs": "1",
    }


def saved(folder, modality, items=4):
    rng = np.random.default_rng(len(modality))
    present = np.arange(items + 1) % 3 != 0
    vectors = np.where(present[:, None], rng.normal(size=(items + 1, 2)), 0).astype(np.float32)
    store.save(folder, vectors, present, about(modality))
    return vectors, present


def test_statistics_by_hand():
    # Over rows 1 and 3: means (2, 10), deviations (1, 3); scale is sqrt((1 + 9) / 2).
    vectors = np.array([[0, 0], [1, 7], [99, 99], [3, 13]], dtype=np.float32)
    mean, sd, scale = store.statistics(vectors, np.array([False, True, False, True]))
    assert mean.tolist() == [2, 10]
    assert sd.tolist() == [1, 3]
    assert scale == pytest.approx(np.sqrt((1 + 9) / 2))


def test_statistics_agree_with_numpy_over_many_chunks():
    vectors = np.random.default_rng(0).normal(5, 2, (20_001, 3)).astype(np.float32)
    present = np.random.default_rng(1).random(20_001) < 0.7
    mean, sd, _ = store.statistics(vectors, present)
    np.testing.assert_allclose(mean, vectors[present].mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(sd, vectors[present].std(axis=0, dtype=np.float64), rtol=1e-12)


def test_a_constant_dimension_is_scaled_as_the_others_are():
    vectors = np.array([[0, 0], [1, 0.5], [-1, 0.5]], dtype=np.float32)
    _, sd, scale = store.statistics(vectors, np.array([False, True, True]))
    assert scale == pytest.approx(np.sqrt(1 / 2))
    assert sd.tolist() == [1, pytest.approx(scale)]


def test_a_dimension_that_varies_little_but_does_vary_keeps_its_own_deviation():
    vectors = np.array([[0, 0], [1, 0.02], [-1, -0.02]], dtype=np.float32)
    assert store.statistics(vectors, np.array([False, True, True])).sd[1] == pytest.approx(0.02)


def test_a_dimension_that_varies_by_less_than_a_hundredth_of_the_scale_says_nothing():
    # The scale is sqrt((1 + s^2) / 2), 0.707: 0.008 is more than a hundredth of it, 0.006 is less.
    for sd, is_own in [(0.008, True), (0.006, False)]:
        vectors = np.array([[0, 0], [1, sd], [-1, -sd]], dtype=np.float32)
        found = store.statistics(vectors, np.array([False, True, True]))
        assert found.sd[1] == pytest.approx(sd if is_own else found.scale)


def test_equal_vectors_have_unit_statistics():
    vectors = np.full((4, 2), 0.1, np.float32)
    _, sd, scale = store.statistics(vectors, np.array([False, True, True, True]))
    assert (sd.tolist(), scale) == ([1, 1], 1)
    vectors[1] = np.nextafter(vectors[1], np.float32(1))  # equal but for rounding
    _, sd, scale = store.statistics(vectors, np.array([False, True, True, True]))
    assert (sd.tolist(), scale) == ([1, 1], 1)


def test_a_leaf_comes_back(tmp_path):
    vectors, present = saved(tmp_path / "hm-text", "text")
    found = store.load(tmp_path / "hm-text")
    assert list(found) == ["text"]
    text = found["text"]
    np.testing.assert_array_equal(text.vectors, vectors)
    np.testing.assert_array_equal(text.present, present)
    np.testing.assert_allclose(text.mean, vectors[present].mean(axis=0), rtol=1e-6)
    assert text.mean.dtype == text.sd.dtype == text.vectors.dtype == np.float32


def test_a_joint_passport_leads_to_both_and_survives_a_move(tmp_path):
    text, _ = saved(tmp_path / "embed" / "hm-text", "text")
    image, _ = saved(tmp_path / "embed" / "hm-image", "image")
    parts = {m: tmp_path / "embed" / f"hm-{m}" for m in ("text", "image")}
    with files.atomic_folder(tmp_path / "embed" / "hm-both") as part:
        store.join(parts, part)
    (tmp_path / "embed").rename(tmp_path / "elsewhere")

    found = store.load(tmp_path / "elsewhere" / "hm-both")

    assert list(found) == ["image", "text"]
    np.testing.assert_array_equal(found["text"].vectors, text)
    np.testing.assert_array_equal(found["image"].vectors, image)


def test_a_stale_join_stops(tmp_path):
    saved(tmp_path / "text", "text")
    store.join({"text": tmp_path / "text"}, tmp_path / "both")
    saved(tmp_path / "text", "text", items=7)
    with pytest.raises(files.Stop, match=r"has changed since .* Run the stage join again"):
        store.load(tmp_path / "both")


def test_parts_that_do_not_belong_together_stop(tmp_path):
    saved(tmp_path / "text", "text")
    saved(tmp_path / "image", "image", items=7)
    with pytest.raises(files.Stop, match="different item tables"):
        store.join({m: tmp_path / m for m in ("text", "image")}, tmp_path / "both")
    with pytest.raises(files.Stop, match="holds image, not text embeddings"):
        store.join({"text": tmp_path / "image"}, tmp_path / "both")
    with pytest.raises(files.Stop, match=r"passport.json is missing. Run the stage embed"):
        store.load(tmp_path / "nowhere")


def test_reading_embeddings_needs_no_torch():
    code = "import sys, pipeline.content.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
