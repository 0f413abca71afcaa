import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.data import files, sequences
from pipeline.models import items, recommender
from pipeline.models.rows import Rows
from pipeline.models.sasrec import Sasrec
from tests.memory import out_of_memory
from tests.small_domains import LENGTH, SASREC

WIDTH, N_ITEMS = 8, 7
HEAD = items.HeadSettings(standardise="dimension", layers=2, expansion=2)


def model_of(tower, seed=0, length=LENGTH):
    torch.manual_seed(seed)
    return recommender.Recommender(tower, Sasrec(WIDTH, length, SASREC))


def id_model(seed=0, n_items=N_ITEMS):
    torch.manual_seed(seed + 100)
    return model_of(items.IdTower(n_items, WIDTH), seed)


def frozen(world, seed=0, scale=1.0, head=HEAD):
    """A frozen model; `scale` makes another catalogue of the same encoder."""
    torch.manual_seed(seed)
    embedded = {
        m: e._replace(
            vectors=(e.vectors * scale).astype(np.float32), mean=e.mean * scale, sd=e.sd * scale
        )
        for m, e in world.embedded.items()
    }
    fusion = items.Fusion(embedded, WIDTH, head, "sum")
    for one in fusion.heads.values():
        torch.nn.init.normal_(one.missing)
    return model_of(items.FrozenTower(embedded, fusion, 0.1).float(), seed).float()


def test_slots_are_the_queries_after_each_item_row_by_row():
    model = id_model().eval()
    vectors = model.tower(torch.arange(1, 8))
    histories = [[0, 1, 2], [3], [4, 5]]
    rows = Rows.of(np.array([3, 1, 2]))
    slots = model.slots(vectors, torch.tensor([0, 1, 2, 3, 4, 5]), rows)
    expected = torch.cat(
        [model.users(vectors[one], Rows.of(np.array([len(one)]))) for one in histories]
    )
    assert slots.shape == (6, WIDTH)
    torch.testing.assert_close(slots, expected)


def test_item_vectors_are_the_same_in_any_batch_and_0_where_not_wanted(world):
    model = frozen(world).train()
    wanted = np.array([False, True, True, True, False, True, True, True])
    vectors = model.item_vectors(wanted, batch=3)
    assert vectors.shape == (N_ITEMS + 1, WIDTH)
    assert vectors.dtype == np.float32
    assert not vectors[[0, 4]].any()
    assert not model.training  # no modality was dropped
    one = model.item_vectors(wanted, batch=1)
    np.testing.assert_allclose(vectors, one, atol=1e-6)
    with torch.no_grad():
        expected = model.tower(torch.tensor([1, 2, 3, 5, 6, 7])).numpy()
    np.testing.assert_allclose(vectors[[1, 2, 3, 5, 6, 7]], expected, atol=1e-6)


def test_processes_share_the_items_and_have_them_all(monkeypatch):
    model, wanted = id_model(), np.arange(N_ITEMS + 1) > 0
    whole = model.item_vectors(wanted, 4)
    monkeypatch.setattr(recommender.processes, "size", lambda: 2)
    monkeypatch.setattr(recommender.processes, "summed", lambda own: own)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(recommender.processes, "rank", lambda rank=rank: rank)
        parts.append(model.item_vectors(wanted, 4))
    assert [part[1:].any(1).sum() for part in parts] == [4, 3]
    assert np.array_equal(sum(parts), whole)


def test_like_lengths_are_encoded_together(world):
    fusion = items.Fusion(world.embedded, WIDTH, HEAD, "sum").double()
    tower = items.EndToEndTower(world.encoders, world.contents, fusion, 0.0)
    model = recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC).double())
    asked = []
    batch = world.contents["text"].batch
    world.contents["text"].batch = lambda some: asked.append(some) or batch(some)
    model.item_vectors(np.arange(8) > 0, batch=2)
    lengths = world.contents["text"].lengths + world.contents["image"].lengths
    order = [int(lengths[item]) for some in asked for item in some]
    assert order == sorted(order)


def test_too_little_memory_for_item_vectors_names_the_batch(world, monkeypatch):
    fusion = items.Fusion(world.embedded, WIDTH, HEAD, "sum").double()
    tower = items.EndToEndTower(world.encoders, world.contents, fusion, 0.0)
    model = recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC).double())

    monkeypatch.setattr(tower, "encode", out_of_memory)
    with pytest.raises(files.Stop, match=r"encode 4 items at once; .* machine.embed_batch to 2$"):
        model.item_vectors(np.arange(8) > 0, batch=4)


def test_too_little_memory_without_an_encoder_names_the_device(monkeypatch):
    tower = items.IdTower(N_ITEMS, WIDTH)
    model = recommender.Recommender(tower, Sasrec(WIDTH, LENGTH, SASREC))

    monkeypatch.setattr(tower, "forward", out_of_memory)
    with pytest.raises(files.Stop, match=r"cpu has .* encode 7 items at once; free some"):
        model.item_vectors(np.arange(8) > 0, batch=4)


def test_progress_counts_the_items_and_users_that_are_encoded(slow, capsys, monkeypatch):
    monkeypatch.setattr(recommender, "USERS_A_COPY", 2)
    monkeypatch.setattr(recommender, "ITEMS_A_PASS", 3)
    model = id_model()
    vectors = model.item_vectors(np.arange(8) > 0, 1)
    model.queries(sequences.from_rows([[1, 2, 3], [4], [5, 6]]), vectors)
    said = [line.rsplit(", ", 2)[0] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        *(f"item vectors: {done} of 7" for done in (3, 6, 7)),
        *(f"query vectors, users: {done} of 3" for done in (2, 3)),
    ]


def test_a_users_query_is_the_one_after_the_last_item_whoever_else_is_asked_for(monkeypatch):
    model = id_model().train()
    vectors = model.item_vectors(np.arange(8) > 0, 4)
    rows = [[1, 2, 3], [4], [5, 6, 7, 1, 2, 3], [2, 2]]
    queries = model.queries(sequences.from_rows(rows), vectors)
    assert queries.shape == (4, WIDTH)
    assert queries.dtype == np.float32
    monkeypatch.setattr(recommender, "USERS_A_PASS", 2)
    np.testing.assert_allclose(
        model.queries(sequences.from_rows(rows), vectors), queries, atol=1e-6
    )
    for row, query in zip(rows, queries, strict=True):
        with torch.no_grad():
            alone = Rows.of(np.array([len(row)]))
            encoded = model.users(torch.tensor(vectors[row]), alone)
        np.testing.assert_allclose(encoded[-1].numpy(), query, atol=1e-6)


def test_queries_are_made_without_dropout():
    settings = SASREC.model_copy(update={"dropout": 0.5})
    tower, users = items.IdTower(N_ITEMS, WIDTH), Sasrec(WIDTH, LENGTH, settings)
    model = recommender.Recommender(tower, users).train()
    vectors = np.ones((N_ITEMS + 1, WIDTH), np.float32)
    histories = sequences.from_rows([[1, 2, 3], [4]])
    one, other = (model.train().queries(histories, vectors) for _ in range(2))
    assert np.array_equal(one, other)


def test_what_is_saved_is_what_was_learned(world, tmp_path):
    model = frozen(world, seed=1)
    recommender.save(tmp_path, model, {"width": WIDTH})
    state = load_file(tmp_path / "model.safetensors")
    learned = {n for n, _ in model.named_parameters()}
    assert learned < set(state)
    assert set(state) - learned == {
        f"tower.head.heads.{m}.{b}" for m in ("image", "text") for b in ("mean", "scale")
    }
    assert files.read_json(tmp_path / "model.json") == {"width": WIDTH}


def test_a_start_takes_head_and_user_encoder_but_keeps_its_own_standardisation(world, tmp_path):
    source, target = frozen(world, seed=1), frozen(world, seed=2, scale=3.0)
    own = {n: b.clone() for n, b in target.named_buffers()}
    recommender.save(tmp_path, source, {})
    recommender.load_start(tmp_path, target)
    carried = dict(target.named_parameters())
    for name, value in source.named_parameters():
        assert torch.equal(carried[name], value), name
    assert "users.positions.weight" in carried
    assert "tower.head.heads.text.missing" in carried
    for name, value in target.named_buffers():
        assert torch.equal(own[name], value), name
    mean = torch.tensor(world.embedded["text"].mean * 3.0, dtype=torch.float32)
    assert torch.equal(target.tower.head.heads["text"].mean, mean)
    assert not torch.equal(mean, source.tower.head.heads["text"].mean)


def test_an_end_to_end_model_saves_encoders_apart_and_a_frozen_one_starts_from_it(world, tmp_path):
    torch.manual_seed(4)
    fusion = items.Fusion(world.embedded, WIDTH, HEAD, "sum")
    tower = items.EndToEndTower(world.encoders, world.contents, fusion, 0.0)
    model = model_of(tower, seed=5)
    recommender.save(tmp_path, model, {})
    assert not any("encoder" in name for name in load_file(tmp_path / "model.safetensors"))
    target = frozen(world, seed=2)
    recommender.load_start(tmp_path, target)
    own = dict(target.named_parameters())
    for name, value in model.named_parameters():
        if not name.startswith("tower.encoders."):
            assert torch.equal(own[name], value.to(own[name].dtype)), name


@pytest.mark.parametrize("other", ["head", "length", "ids"])
def test_a_start_that_does_not_fit_stops_and_changes_nothing(world, tmp_path, other):
    recommender.save(tmp_path, frozen(world, seed=1), {})
    target = {
        "head": lambda: frozen(world, head=HEAD.model_copy(update={"expansion": 3})),
        "length": lambda: model_of(frozen(world).tower, length=LENGTH + 1),
        "ids": id_model,
    }[other]()
    before = {n: p.clone() for n, p in target.named_parameters()}
    with pytest.raises(files.Stop, match=r"does not fit this run: .* differ; pre-train again"):
        recommender.load_start(tmp_path, target)
    assert all(torch.equal(before[n], p) for n, p in target.named_parameters())
