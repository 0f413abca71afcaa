import json

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline import params
from pipeline.content import store
from pipeline.data import files, sequences, split, tables
from pipeline.retrieval import catalogue, evaluation, metrics, ranking, search, vectors
from stages import evaluate

N, U, D = 30, 40, 8
PARAMS = """
protocol: {min_items: 5, window: 23, train: window, mask: window, catalogue: all, select: hr@10}
evaluate: {cutoffs: [5, 10]}
sources: []
seeds: [1, 2]
runs:
  pretrain_frozen: []
  pretrain_end2end: []
  frozen: [frozen]
  end2end: []
  frozen_transfer: [frozen_transfer]
  tuned_transfer: []
  end2end_transfer: []
machine:
  {device: auto, threads: 0, embed_batch: 1, prefix_cache: "off", micro_batch_items: 0,
   compile: false, processes: 1, checkpoint_seconds: 0}
"""
PROTOCOL = split.Protocol(
    min_items=5, window=23, train="window", mask="window", catalogue="all", select="hr@10"
)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A prepared domain, its embeddings and two runs: `id` once, `frozen` with two seeds."""
    rng = np.random.default_rng(0)
    histories = [rng.permutation(N)[: rng.integers(5, 12)] + 1 for _ in range(U)]
    ids = [f"v{i}" for i in range(1, N + 1)]
    held = {"valid": [int(h[-2]) for h in histories], "test": [int(h[-1]) for h in histories]}
    prepared = tables.Prepared(
        items=pl.DataFrame({"id": ids, "text": ids, "cover": [None] * N}, schema=tables.ITEMS),
        users=pl.DataFrame({"id": [f"u{u}" for u in range(U)], **held}, schema=tables.USERS),
        sequences=sequences.from_rows(histories),
    )
    tables.save(tmp_path / "prepared", prepared)
    embeddings = rng.standard_normal((N + 1, 4), dtype=np.float32)
    embeddings[0] = 0
    store.save(tmp_path / "embeddings", embeddings, np.arange(N + 1) > 0, {"modality": "text"})
    for folder, seed, capped in [
        ("here-id-sasrec/id", 1, False),
        ("here-text-sasrec/frozen/1", 1, False),
        ("here-text-sasrec/frozen/2", 2, True),
    ]:
        write_run(tmp_path / "runs" / folder, rng, seed, capped)
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.setattr(params, "FILE", tmp_path / "params.yaml")
    return tmp_path


def write_run(folder, rng, seed, capped):
    folder.mkdir(parents=True)
    np.save(folder / "items.npy", rng.standard_normal((N + 1, D), dtype=np.float32))
    for part in ("valid", "test"):
        np.save(folder / f"queries_{part}.npy", rng.standard_normal((U, D), dtype=np.float32))
    files.write_json(folder / "run.json", {"seed": seed, "capped": capped, "best_epoch": 3})


def run(world):
    evaluate.main(
        "here",
        "text",
        "sasrec",
        world / "runs",
        world / "prepared",
        world / "embeddings",
        world / "out",
    )
    found = json.loads((world / "out" / "evaluation.json").read_text())
    return found, pl.read_parquet(world / "out" / "ranks.parquet")


def score(ranks, run, part, metric):
    """Average a metric over the users of a run of one seed."""
    rows = evaluation.ranks_of(ranks.filter(run=run, split=part))
    return metrics.summary(rows, [5, 10])[metric]


@pytest.mark.parametrize("capped", [(True, False), (False, True), (False, False)])
def test_a_run_is_capped_where_one_of_its_seeds_is(capped, world):
    for seed, is_capped in enumerate(capped, 1):
        about = {"seed": seed, "capped": is_capped, "best_epoch": 3}
        files.write_json(world / f"runs/here-text-sasrec/frozen/{seed}/run.json", about)
    assert run(world)[0]["capped"] == {"id": False, "frozen": any(capped)}


def test_the_stage_writes_each_users_ranks_and_what_stands_behind_them(world):
    found, ranks = run(world)
    assert found["counts"] == {
        "users": U,
        "candidates": N,
        "unreachable_valid": 0,
        "unreachable_test": 0,
    }
    assert found["cutoffs"] == [5, 10]
    assert found["capped"] == {"id": False, "frozen": True}
    assert {name: len(seeds) for name, seeds in found["catalogue"].items()} == {
        "popularity": 1, "itemknn": 1, "contentknn": 1, "id": 1, "frozen": 2
    }  # fmt: skip
    assert ranks.schema == evaluation.RANKS
    assert len(ranks) == 2 * U * (3 + 1 + 2)
    divided = split.split(tables.load(world / "prepared").sequences, N, PROTOCOL)
    for seed in (1, 2):
        model = vectors.load(world / f"runs/here-text-sasrec/frozen/{seed}", N, U)
        own = search.rank(model.queries["test"], model.items, divided.test, divided.candidates, 10)
        rows = ranks.filter(run="frozen", seed=seed, split="test")
        assert rows["user"].to_list() == [*range(U)]
        np.testing.assert_array_equal(evaluation.ranks_of(rows), own)


def test_a_seed_may_be_large():
    ranks = ranking.Ranks(np.array([0, 3], np.int32), np.array([1, 1], np.int32))
    assert evaluation.table("id", 2**63 - 1, "test", ranks)["seed"].to_list() == [2**63 - 1] * 2


def test_the_stage_looks_at_the_lists_of_the_test_users(world):
    """Coverage and Gini at every cutoff, of each seed, and of recommenders without training."""
    found, _ = run(world)
    divided = split.split(tables.load(world / "prepared").sequences, N, PROTOCOL)
    model = vectors.load(world / "runs/here-text-sasrec/frozen/2", N, U)
    scores = model.queries["test"] @ model.items.T
    scores[:, 0] = -np.inf
    for user in range(U):
        begin, end = divided.test.masked.offsets[user : user + 2]
        scores[user, divided.test.masked.items[begin:end]] = -np.inf
    own = found["catalogue"]["frozen"][1]
    for k in (5, 10):
        best = np.argsort(-scores, axis=1)[:, :k]
        assert own[f"coverage@{k}"] == len(np.unique(best)) / N
        counts = np.bincount(best.ravel(), minlength=N + 1)[1:]
        assert own[f"gini@{k}"] == pytest.approx(catalogue.gini(counts))
    for seeds in found["catalogue"].values():
        for one in seeds:
            assert {*one} == {"coverage@5", "gini@5", "coverage@10", "gini@10"}


def test_the_stage_says_of_each_user_what_results_are_divided_by(world):
    run(world)
    users = pl.read_parquet(world / "out" / "users.parquet")
    assert users.schema == evaluation.USERS and len(users) == U
    prepared = tables.load(world / "prepared")
    rows = np.split(prepared.sequences.items, prepared.sequences.offsets[1:-1])
    train = [item for row in rows for item in row[:-2]]
    assert users["occurrences"].to_list() == [train.count(row[-1]) for row in rows]
    assert users["history"].to_list() == [len(row) - 1 for row in rows]  # none is cut


@pytest.mark.parametrize("part", evaluation.PARTS)
def test_recommenders_without_training_learn_from_the_train_parts_alone(part):
    """All train parts are 1 2 3, then come 5 and 4: neither was seen, so they tie behind three.

    The histories of the test hold 5 too: from these it would be better than 4, and score with it.
    """
    protocol = PROTOCOL.model_copy(update={"mask": "none", "catalogue": "window"})
    divided = split.split(sequences.from_rows([[1, 2, 3, 5, 4]] * 3), 7, protocol)
    nothing = np.zeros((8, 2), np.float32)
    judged = evaluation.sanity(divided, [nothing], evaluation.Evaluation(cutoffs=[5]))
    found = {one.run: evaluation.ranks_of(one.ranks.filter(split=part)) for one in judged}
    for run, better, tied in [("popularity", 3, 2), ("itemknn", 3, 2), ("contentknn", 0, 5)]:
        assert found[run].better.tolist() == [better] * 3
        assert found[run].tied.tolist() == [tied] * 3
    for one in judged:
        assert one.catalogue["coverage@5"] == 5 / 5  # of the windows' items; 6 and 7 are in none


def test_embeddings_of_other_data_are_refused(world):
    present = np.arange(N) > 0
    vectors = np.random.default_rng(0).random((N, 2), np.float32)
    store.save(world / "embeddings", vectors, present, {"modality": "text"})
    said = rf"/embeddings has vectors of {N - 1} items, and .*/prepared has {N}: they come from"
    with pytest.raises(files.Stop, match=said):
        run(world)
    assert not (world / "out").exists()


def test_histories_are_counted_as_far_as_a_user_encoder_reads():
    """A window of 6: 3 items are read before the test item, of the 6 that user 1 had.

    Train parts are 1 2 and 2 3 4 5: item 2 stands there twice, 6 never.
    """
    lists = sequences.from_rows([[1, 2, 3, 2], [1, 2, 3, 4, 5, 7, 6]])
    protocol = PROTOCOL.model_copy(update={"min_items": 3, "window": 6})
    users = evaluation.users(split.split(lists, 7, protocol))
    assert users["history"].to_list() == [3, 3]
    assert users["occurrences"].to_list() == [2, 0]


def test_the_same_inputs_give_the_same_bytes(world):
    run(world)
    first = files.sha256(world / "out")
    run(world)
    assert files.sha256(world / "out") == first


def test_vectors_are_ranked_for_their_own_users(world):
    """A model that knows the answer scores 1 on the part it knows."""
    prepared = tables.load(world / "prepared")
    folder = world / "runs" / "here-id-sasrec" / "id"
    items = np.eye(N + 1, dtype=np.float32)
    np.save(folder / "items.npy", items)
    for part in ("valid", "test"):
        np.save(folder / f"queries_{part}.npy", items[prepared.users[part].to_numpy()])
    _, ranks = run(world)
    assert score(ranks, "id", "test", "hr@5") == score(ranks, "id", "valid", "ndcg@10") == 1


def test_a_missing_run_is_named(world):
    (world / "runs/here-text-sasrec/frozen/2/run.json").unlink()
    with pytest.raises(files.Stop, match=r"frozen/2 holds no run: .* Run `dvc repro`, or take"):
        run(world)
    assert not (world / "out").exists()


@pytest.mark.parametrize(
    ("name", "rows"), [("queries_valid", U), ("queries_test", U), ("items", N + 1)]
)
def test_vectors_of_other_data_are_refused(world, name, rows):
    folder = world / "runs" / "here-id-sasrec" / "id"
    np.save(folder / f"{name}.npy", np.zeros((rows - 1, D), np.float32))
    with pytest.raises(files.Stop, match=rf"{name}.npy has {rows - 1} rows.* asks for {rows}"):
        vectors.load(folder, N, U)


@pytest.mark.parametrize("cutoff", [31, 200])
def test_a_cutoff_beyond_the_candidates_is_refused(world, cutoff):
    params.FILE.write_text(PARAMS.replace("[5, 10]", f"[10, {cutoff}]"))
    with pytest.raises(
        files.Stop,
        match=rf"here: 30 candidates, fewer than the largest cutoff, {cutoff}.*evaluate\.cutoffs",
    ):
        run(world)
    assert not (world / "out").exists()


def test_a_cutoff_twice_is_refused():
    with pytest.raises(ValidationError, match="a cutoff is listed twice"):
        evaluation.Evaluation(cutoffs=[10, 20, 10])


def test_a_cutoff_may_be_as_large_as_the_catalogue(world):
    params.FILE.write_text(PARAMS.replace("[5, 10]", "[10, 30]"))
    found, ranks = run(world)
    rows = evaluation.ranks_of(ranks.filter(run="popularity", split="test"))
    assert found["cutoffs"] == [10, 30] and metrics.summary(rows, [30])["hr@30"] == 1


def test_ranks_go_as_deep_as_the_report_looks():
    assert evaluation.Evaluation(cutoffs=[5]).depth == 10
    assert evaluation.Evaluation(cutoffs=[5, 50]).depth == 50


def test_repeated_held_out_items_are_counted():
    divided = split.split(sequences.from_rows([[1, 2, 3, 4, 1], [1, 2, 3, 3, 5]]), 5, PROTOCOL)
    counts = evaluation.counts(divided)
    assert (counts["unreachable_valid"], counts["unreachable_test"]) == (1, 1)


def test_items_occur_as_often_as_is_learned_from():
    divided = split.split(
        sequences.from_rows([[5, 3, 1, 2, 3, 4]]), 5, PROTOCOL.model_copy(update={"window": 4})
    )
    assert evaluation.users(divided)["occurrences"].to_list() == [0]
    longer = PROTOCOL.model_copy(update={"window": 4, "train": "all"})
    divided = split.split(sequences.from_rows([[5, 4, 1, 2, 3, 4]]), 5, longer)
    assert evaluation.users(divided)["occurrences"].to_list() == [2]  # pieces 5 4, 4 1 and 1 2


@pytest.mark.parametrize("mask", ["window", "all", "none"])
@pytest.mark.parametrize("catalogue", ["window", "all"])
def test_random_is_what_random_lists_score(mask, catalogue):
    """Users with repeats, unreachable test items, candidates that nobody met."""
    rng, protocol = np.random.default_rng(0), {"mask": mask, "catalogue": catalogue, "window": 9}
    lists = sequences.from_rows([rng.integers(1, 31, size) for size in rng.integers(5, 15, 80)])
    divided = split.split(lists, 33, PROTOCOL.model_copy(update=protocol))
    random = metrics.chance(evaluation.users(divided)["candidates"].to_numpy(), [10])
    scored = []
    for _ in range(100):
        queries, items = rng.normal(size=(80, 8)), rng.normal(size=(34, 8))
        asked = [queries.astype(np.float32), items.astype(np.float32), divided.test]
        scored.append(metrics.summary(search.rank(*asked, divided.candidates, 10), [10]))
    for name, expected in random.items():
        drawn = [one[name] for one in scored]
        assert np.mean(drawn) == pytest.approx(expected, abs=4 * np.std(drawn) / 10)
