import json

import numpy as np
import polars as pl
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.data import demo, files, pictures

SMALL = demo.Size(users=40, items=96, mean_length=7.0)
DEMO = demo.DemoData(seed=3, harbor=SMALL, near=SMALL, far=SMALL, cold=SMALL)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "raw"
    demo.write(DEMO, out)
    return out


def test_the_chain_is_a_distribution_in_every_state():
    chain = demo.chain()
    assert chain.shape == (demo.STATES, demo.STATES)
    np.testing.assert_allclose(chain.sum(axis=1), 1.0)


def test_the_chain_by_hand():
    """From taste 0 on to taste 3 with 0.70, to 1 with 0.18, to any with 0.12; a style stays."""
    moves = demo.chain()[0].reshape(demo.TASTES, demo.STYLES)  # of taste 0 and style 0
    any_taste, any_style = 0.12 / 12, 0.2 / 4
    assert moves[3, 0] == pytest.approx((any_taste + 0.70) * (any_style + 0.8))
    assert moves[3, 1] == pytest.approx((any_taste + 0.70) * any_style)
    assert moves[1, 0] == pytest.approx((any_taste + 0.18) * (any_style + 0.8))
    assert moves[0, 0] == pytest.approx(any_taste * (any_style + 0.8))


def test_next_item_by_hand():
    """Items 0 and 1 are of taste 0, item 2 is of taste 3; the user is at 0 and has had it.

    Of the same style 0.12 / 12 of the moves stay, and 0.12 / 12 + 0.70 lead from 0 to 3.
    """
    catalogue = demo.Catalogue(np.array([0, 0, 3 * demo.STYLES]), np.array([5.0, 2.0, 1.0]))
    chances = demo.next_item(catalogue, np.array([0]), np.array([[True, False, False]]))
    np.testing.assert_allclose(chances, [[0.0, 1 / 72, 71 / 72]])  # one unseen item each


def test_users_follow_the_distribution_they_are_said_to():
    states = np.arange(96) % demo.STATES
    catalogue = demo.Catalogue(states, np.ones(96))
    rng = np.random.default_rng(0)
    path, final = demo.walk(catalogue, np.full(4000, 6), rng)
    assert ((path >= 0).sum(axis=1) == 6).all()
    assert all(len(set(row[:6])) == 6 for row in path)  # nobody has an item twice
    np.testing.assert_allclose(final.sum(axis=1), 1.0)
    answer = demo.oracle(path, final)
    deviation = np.sqrt(answer["hr@10"] * (1 - answer["hr@10"]) / 4000)
    assert abs(answer["hr@10"] - answer["hits@10"]) < 4 * deviation


def test_oracle_by_hand():
    # 12 items, and one nobody had; user 0 had 0, then 1 (held out), user 1 all others, then 11.
    path = np.full((2, demo.LONGEST), -1)
    path[0, :2] = [0, 1]
    path[1, :11] = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    final = np.zeros((2, 13))
    final[0, 1:12] = [0.01, *[0.099] * 10]  # the one held out is the least likely of eleven
    final[1, [1, 11]] = [0.4, 0.6]
    answer = demo.oracle(path, final)
    assert answer["hr@10"] == pytest.approx((10 * 0.099 + 1.0) / 2)
    assert answer["hits@10"] == pytest.approx((0 + 1) / 2)
    assert answer["random@10"] == pytest.approx((10 / 11 + 1) / 2)  # 11 and 2 candidates left
    assert answer["candidates"] == 12


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"users": 0}, "users.*greater than or equal to 1"),
        ({"items": 32}, "items.*greater than or equal to 33"),
        ({"mean_length": 4.9}, "mean_length.*greater than or equal to 5"),
        ({"mean_length": 23.1}, "mean_length.*less than or equal to 23"),
    ],
)
def test_sizes_that_no_demo_can_have_are_refused(change, rule):
    with pytest.raises(ValidationError, match=rf"(?s){rule}"):
        demo.Size(**{**SMALL.model_dump(), **change})


def test_a_seed_below_zero_is_refused():
    with pytest.raises(
        ValidationError, match=r"seed\n  Input should be greater than or equal to 0"
    ):
        demo.DemoData(**{**DEMO.model_dump(), "seed": -1})


def test_the_smallest_demo_and_the_longest_histories(tmp_path):
    least = demo.Size(users=1, items=33, mean_length=5.0)
    longest = demo.Size(users=60, items=33, mean_length=23.0)
    demo.write(demo.DemoData(seed=0, harbor=least, near=longest, far=least, cold=least), tmp_path)
    for place in tmp_path.glob("*/*"):
        answer = demo.read_oracle(place)
        assert 0 < answer["random@10"] <= 1
        assert 0 <= answer["hr@10"] <= 1 + 1e-9


def test_a_raw_folder_without_a_known_answer_has_none(tmp_path):
    assert demo.read_oracle(tmp_path) is None


def test_same_seed_same_bytes(raw, tmp_path):
    demo.write(DEMO, tmp_path / "again")
    demo.write(DEMO.model_copy(update={"seed": 4}), tmp_path / "other")
    assert files.sha256(tmp_path / "again") == files.sha256(raw)
    assert files.sha256(tmp_path / "other") != files.sha256(raw)


@pytest.mark.parametrize("name", demo.DIALECTS)
def test_the_layout_is_ninerecs(raw, name):
    root = "Source_datasets" if name == "harbor" else "Downstream_datasets"
    folder = raw / root / name
    items = pl.read_csv(
        folder / f"{name}_item.csv",
        has_header=False,
        infer_schema=False,
        new_columns=["id", "zh", "en"],
    )
    pairs = pl.read_csv(
        folder / f"{name}_pair.csv",
        has_header=False,
        schema={"item": pl.String, "user": pl.String, "time": pl.Int64},
    )
    assert items["id"].n_unique() == SMALL.items
    assert pairs["user"].n_unique() == SMALL.users
    assert set(pairs["item"]) <= set(items["id"])
    lengths = pairs.group_by("user").len()["len"]
    assert lengths.min() >= demo.SHORTEST
    assert lengths.max() <= demo.LONGEST
    assert not pairs.select("user", "time").is_duplicated().any()  # so the order is certain
    answer = json.loads(next(raw.glob(f"*/{name}/oracle.json")).read_text())
    assert answer["candidates"] == pairs["item"].n_unique()
    assert answer["random@10"] < answer["hr@10"] < 1


def test_the_planted_gaps(raw):
    folder = raw / "Source_datasets" / "harbor"
    items = pl.read_csv(folder / "harbor_item.csv", has_header=False, infer_schema=False)
    bare, broken, untitled = items.rows()[:3]
    covers = folder / "harbor_cover"
    assert not (covers / f"{bare[0]}.jpg").exists()
    with (
        pytest.raises(OSError, match="truncated"),
        Image.open(covers / f"{broken[0]}.jpg") as cover,
    ):
        cover.load()
    assert not untitled[-1]
    assert all(row[-1] for row in items.rows()[3:])


def test_a_title_names_its_taste_first_and_its_maker_last():
    states = np.arange(demo.STATES)
    words = demo.invented_words()
    assert len({word for own in words for word in own}) == demo.TASTES * (demo.TASTES - 1)
    far = demo.DIALECTS["far"]
    for state, title in zip(
        states, demo.titles(states, far, np.random.default_rng(0)), strict=True
    ):
        _, own, by, maker = title.split()
        assert by == "by"
        assert own in words[state // demo.STYLES][far.words]
        assert maker not in words[state // demo.STYLES]
        assert any(maker in other[far.words] for other in words)


def test_domains_of_one_seed_are_drawn_apart_and_far_shares_half_its_words(raw):
    def titles(name):
        (table,) = raw.glob(f"*/{name}/{name}_item.csv")
        return pl.read_csv(table, has_header=False, infer_schema=False).to_series(2).to_list()

    assert len({tuple(titles(name)) for name in demo.DIALECTS}) == 4  # though of one size
    own, far = ({*demo.invented_words()[0][demo.DIALECTS[n].words]} for n in ("harbor", "far"))
    assert (len(own), len(far), len(own & far)) == (4, 4, 2)


def test_the_log_has_every_walk_in_the_order_of_time():
    path = np.stack(
        [np.random.default_rng(user).permutation(30)[: demo.LONGEST] for user in (0, 1)]
    )
    path[1, 7:] = -1  # user 1 has 7 items
    log = demo.pairs(path, [f"v{item}" for item in range(30)], "h", np.random.default_rng(2))
    assert log["timestamp"].is_sorted()
    for user, length in enumerate((demo.LONGEST, 7)):
        walked = [f"v{item}" for item in path[user, :length]]
        assert log.filter(user=f"h{user}")["item"].to_list() == walked


def test_covers_of_a_style_are_alike_and_of_another_not():
    rng = np.random.default_rng(0)

    def colour(style):
        covers = [np.asarray(pictures.draw(0, style, "plain", rng), float) for _ in range(20)]
        return np.mean([c[:8].mean(axis=(0, 1)) for c in covers], axis=0)

    means = [colour(style) for style in range(demo.STYLES)]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(apart) > 30
