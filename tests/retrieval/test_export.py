"""Lists for other tools: what they read back is what our own metrics say."""

import hashlib
import json
import re
import sys
import tracemalloc
import urllib.parse

import numpy as np
import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline import params
from pipeline.data import files, sequences, split, tables
from pipeline.retrieval import export, metrics, search, vectors
from stages import export as stage

N, U, D = 60, 50, 8
PROTOCOL = {
    "min_items": 5, "window": 8, "train": "window", "mask": "window", "catalogue": "window",
    "select": "hr@10",
}  # fmt: skip
MACHINE = {
    "device": "auto", "threads": 0, "embed_batch": 1, "prefix_cache": "off", "micro_batch_items": 0,
    "compile": False, "processes": 1, "checkpoint_seconds": 0
}  # fmt: skip


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A prepared domain whose ids have blanks, and two runs: one alone, one with two seeds."""
    rng = np.random.default_rng(0)
    histories = [rng.permutation(N - 5)[: rng.integers(5, 20)] + 1 for _ in range(U)]
    ids = [f"v {i}%\u3000é" if i % 7 == 0 else f"v{i}" for i in range(1, N + 1)]
    held = {"valid": [int(h[-2]) for h in histories], "test": [int(h[-1]) for h in histories]}
    names = [f"u\t{u}" if u % 5 == 0 else f"u{u}" for u in range(U)]
    domain = tables.Prepared(
        pl.DataFrame({"id": ids, "text": ids, "cover": [None] * N}, tables.ITEMS),
        pl.DataFrame({"id": names, **held}, tables.USERS),
        sequences.from_rows(histories),
    )
    tables.save(tmp_path / "prepared", domain)
    for folder, seed in [("id", 3), ("frozen/1", 1), ("frozen/2", 2)]:
        made = tmp_path / "runs" / folder
        made.mkdir(parents=True)
        np.save(made / "items.npy", rng.standard_normal((N + 1, D), dtype=np.float32))
        for part in ("valid", "test"):
            np.save(made / f"queries_{part}.npy", rng.standard_normal((U, D), dtype=np.float32))
        domain.items.select("id").write_parquet(made / "ids.parquet")
        about = {"seed": seed, "capped": False, "run": folder.split("/")[0]}
        about["users_sha256"] = hashlib.sha256(json.dumps(names).encode()).hexdigest()
        files.write_json(made / "run.json", about)
        files.write_json(made / "model.json", {"length": PROTOCOL["window"] - 3})
    monkeypatch.setattr(params, "FILE", tmp_path / "params.yaml")
    set_protocol(tmp_path)
    return tmp_path


def set_protocol(world, **changes):
    sections = {"protocol": {**PROTOCOL, **changes}, "machine": MACHINE}
    YAML().dump(sections, world / "params.yaml")


def write(world, run="id", k=20, part="test"):
    stage.main(world / "runs" / run, world / "prepared", world / "out", k, part)
    return world / "out"


def expected(world, part, **changes):
    """What the protocol says of the domain, and our own ranks by the run `id`."""
    domain = tables.load(world / "prepared")
    protocol = split.Protocol(**{**PROTOCOL, **changes})
    divided = split.split(domain.sequences, N, protocol)
    held_out = {"valid": divided.valid, "test": divided.test}[part]
    queries, items = (np.load(world / f"runs/id/{n}.npy") for n in (f"queries_{part}", "items"))
    return divided, held_out, search.rank(queries, items, held_out, divided.candidates, 20)


@pytest.mark.parametrize("part", ["test", "valid"])
@pytest.mark.parametrize("mask", ["window", "all", "none"])
def test_ranx_reads_back_our_own_metrics(world, monkeypatch, part, mask):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    ranx = pytest.importorskip("ranx")
    set_protocol(world, mask=mask)
    out = write(world, part=part)
    _, _, ranks = expected(world, part, mask=mask)
    assert (ranks.tied <= 1).all(), "no ties"
    qrels = ranx.Qrels.from_file(str(out / "qrels.trec"), kind="trec")
    run = ranx.Run.from_file(str(out / "run.trec"), kind="trec")
    assert len(qrels) == len(run) == U
    for k in (5, 20):
        names = [f"hit_rate@{k}", f"ndcg@{k}", f"mrr@{k}"]
        found = ranx.evaluate(qrels, run, names, make_comparable=True)
        ours = metrics.summary(ranks, [k])
        assert ours[f"hr@{k}"] > 0
        assert [found[name] for name in names] == pytest.approx(
            [ours[f"{name}@{k}"] for name in ("hr", "ndcg", "mrr")]
        )


@pytest.mark.parametrize("catalogue", ["window", "all"])
def test_lists_hold_raw_ids_ranks_and_scores_of_unmasked_candidates(world, catalogue):
    set_protocol(world, catalogue=catalogue)
    lists = pl.read_parquet(write(world) / "lists.parquet")
    assert lists.schema == export.LISTS
    domain = tables.load(world / "prepared")
    divided, held_out, _ = expected(world, "test", catalogue=catalogue)
    candidates = np.flatnonzero(divided.candidates) - 1
    queries, items = (np.load(world / f"runs/id/{n}.npy") for n in ("queries_test", "items"))
    scores = queries @ items.T
    assert lists["user"].unique(maintain_order=True).to_list() == domain.users["id"].to_list()
    for user, (_, own) in enumerate(lists.group_by("user", maintain_order=True)):
        hidden = sequences.take(held_out.masked, [user]).items - 1
        allowed = [i for i in candidates if i not in hidden]
        best = sorted(allowed, key=lambda item: -scores[user, item + 1])[:20]
        assert own["item"].to_list() == domain.items["id"].gather(best).to_list()
        assert own["rank"].to_list() == list(range(1, 21))
        assert own["score"].to_list() == pytest.approx(
            [scores[user, i + 1] for i in best], abs=1e-5
        )


@pytest.mark.parametrize(("k", "cutoff"), [(3, 3), (20, 10)])
def test_the_scores_that_are_told_are_of_what_was_listed(k, cutoff, world, capsys):
    write(world, k=k)
    ranks = metrics.summary(expected(world, "test")[2], [cutoff])
    assert f"candidates, test hr@{cutoff} {ranks[f'hr@{cutoff}']:.4f}, " in capsys.readouterr().out


def test_lines_of_trec_have_their_fields_and_escaped_ids(world):
    out = write(world, k=3)
    run = [line.split() for line in (out / "run.trec").read_text().splitlines()]
    assert {len(fields) for fields in run} == {6}
    assert len(run) == U * 3
    assert run[0][:2] == ["u%090", "Q0"] and run[0][3] == "1" and run[0][5] == "id-3"
    qrels = [line.split() for line in (out / "qrels.trec").read_text().splitlines()]
    assert {(len(fields), fields[1], fields[3]) for fields in qrels} == {(4, "0", "1")}
    assert len(qrels) == U
    lists = pl.read_parquet(out / "lists.parquet")
    assert {item.startswith("v ") for item in lists["item"]} == {True, False}


def test_ids_are_escaped_as_in_an_address_where_they_must():
    ids = pl.Series(["a b", "50%", "\u3000", "é", "x\ty", "%20"])
    assert export.escape(ids).to_list() == ["a%20b", "50%25", "%E3%80%80", "é", "x%09y", "%2520"]
    plain = pl.Series(["a", "é"])
    assert export.escape(plain) is plain


def test_nothing_that_parts_a_line_in_python_is_left_in_an_id():
    blanks = [chr(code) for code in range(sys.maxunicode + 1) if len(f"a{chr(code)}b".split()) > 1]
    assert {"\x1c", "\x1f", "\x85", "\u2028"} <= {*blanks}
    for blank in blanks:
        (escaped,) = export.escape(pl.Series([f"a{blank}b"]))
        assert escaped.split() == [escaped] and urllib.parse.unquote(escaped) == f"a{blank}b"


def test_several_seeds_have_a_folder_each(world, capsys):
    out = write(world, "frozen")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        f"{seed}/{file}" for seed in (1, 2) for file in ("lists.parquet", "qrels.trec", "run.trec")
    ]
    assert (out / "1/run.trec").read_text() != (out / "2/run.trec").read_text()
    said = capsys.readouterr().out
    assert re.search(r"export: frozen-2, 50 users, 20 of \d+ candidates, test hr@10 0\.\d+", said)


def test_one_seed_of_several_can_be_named(world):
    assert {path.name for path in write(world, "frozen/2").iterdir()} == {
        "lists.parquet", "qrels.trec", "run.trec"
    }  # fmt: skip


def test_many_chunks_are_one_file(world, monkeypatch):
    whole = pl.read_parquet(write(world) / "lists.parquet")
    (world / "out").rename(world / "before")
    monkeypatch.setattr("pipeline.retrieval.export.CHUNK_LINES", 7 * 20 + 19)
    assert pl.read_parquet(write(world) / "lists.parquet").equals(whole)
    assert (world / "out/run.trec").read_text() == (world / "before/run.trec").read_text()


def test_few_lines_and_few_vectors_are_held_at_once(monkeypatch):
    """All vectors at once would be 300 users x 200 items x 64 numbers x 12 bytes: 46 MB."""
    rng = np.random.default_rng(0)
    queries, items = (rng.standard_normal((n, 64), dtype=np.float32) for n in (300, 500))
    lists = rng.integers(1, 500, (300, 200), np.int32)
    tracemalloc.start()
    (whole,) = export.chunks(queries, items, lists)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6
    monkeypatch.setattr("pipeline.retrieval.export.CHUNK_LINES", 1000)
    parts = [*export.chunks(queries, items, lists)]
    assert [len(best.users) for best in parts] == [5] * 60
    for part, expected in zip(zip(*parts, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), expected)


def test_more_than_the_candidates_stops_naming_both(world):
    candidates = int(expected(world, "test")[0].candidates.sum())
    message = rf"--k 61: more than the {candidates} candidates of .*prepared; lower it"
    with pytest.raises(files.Stop, match=message):
        write(world, k=61)
    assert not (world / "out").exists()


def test_what_is_there_already_is_left_alone(world):
    (world / "out").mkdir()
    write(world, k=1)
    with pytest.raises(files.Stop, match=r"out is there already; name a new folder, or remove it"):
        write(world)


def test_a_folder_without_a_run_stops(world):
    with pytest.raises(files.Stop, match=r"runs/none holds no run: .*the rule is artifacts/runs"):
        write(world, "none")


def test_the_runs_of_a_group_are_no_seeds(world):
    message = r"runs holds no run: .*called by its number; .*name the run, not the group"
    with pytest.raises(files.Stop, match=message):
        write(world, "")
    assert not (world / "out").exists()


def test_seeds_come_in_order_of_their_numbers(world):
    (world / "runs/frozen/1").rename(world / "runs/frozen/10")
    assert [folder.name for folder in vectors.folders(world / "runs/frozen")] == ["2", "10"]


def test_a_run_on_other_items_stops(world):
    ids = pl.read_parquet(world / "runs/id/ids.parquet")["id"].reverse()
    ids.to_frame().write_parquet(world / "runs/id/ids.parquet")
    with pytest.raises(
        files.Stop, match=r"id: its items \(60\) are not those of .*prepared \(60\)"
    ):
        write(world)
    assert not (world / "out").exists()


def test_a_run_on_as_many_other_users_stops(world):
    users = tables.load(world / "prepared").users.with_columns(pl.col("id").reverse())
    users.write_parquet(world / "prepared/users.parquet")
    message = r"id: its users are not the 50 of .*prepared, or stand in another order; name the"
    with pytest.raises(files.Stop, match=message):
        write(world)
    assert not (world / "out").exists()


def test_a_run_that_does_not_say_whose_users_it_has_stops(world):
    described = files.read_json(world / "runs/id/run.json")
    del described["users_sha256"]
    files.write_json(world / "runs/id/run.json", described)
    with pytest.raises(files.Stop, match=r"run\.json has no users_sha256, .*run `dvc repro`"):
        write(world)


def test_a_model_that_has_diverged_stops(world):
    queries = np.load(world / "runs/id/queries_test.npy")
    queries[3] = np.nan
    np.save(world / "runs/id/queries_test.npy", queries)
    with pytest.raises(ValueError, match="1 of 50 query vectors hold NaN or infinity"):
        write(world)
    assert not (world / "out").exists()


@pytest.mark.parametrize(("window", "leaves"), [(20, 17), (6, 3)])
def test_a_run_that_was_trained_on_another_window_is_not_exported(world, window, leaves):
    set_protocol(world, window=window)
    with pytest.raises(
        files.Stop,
        match=rf"histories of 5 items, and protocol.window {window} .* leaves {leaves}: "
        ".* to 8, or run",
    ):
        write(world)
    assert not (world / "out").exists()
