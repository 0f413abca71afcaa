import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from pipeline.content import encoders, store
from pipeline.data import files
from pipeline.retrieval import metrics, search, vectors
from pipeline.training import grid, outputs, runs, schedule
from tests.training.conftest import N_ITEMS, run_in, work

FILES = {
    "items.npy",
    "queries_valid.npy",
    "queries_test.npy",
    "ids.parquet",
    "curve.csv",
    "search.csv",
    "run.json",
    "model.json",
    "model.safetensors",
}


@pytest.fixture(scope="module")
def done(target, public, tmp_path_factory):
    """The folder of each kind of run, and the run."""
    made = {run: work(run, target, public) for run in ("id", "frozen", "end2end")}
    return {run: (run_in(tmp_path_factory.mktemp(run), one), one) for run, one in made.items()}


@pytest.mark.parametrize("run", ["id", "frozen", "end2end"])
def test_a_run_folder_has_all_that_later_tools_need(run, done):
    folder, made = done[run]
    assert {path.name for path in folder.iterdir() if path.is_file()} == FILES
    folders = {path.name for path in folder.iterdir() if path.is_dir()}
    assert folders == ({"encoder"} if run == "end2end" else set())
    U = len(made.prepared.users)
    found = vectors.load(folder, N_ITEMS, U)
    assert (found.seed, found.items.shape) == (0, (N_ITEMS + 1, 8))
    assert found.items.dtype == np.float32
    assert not found.items[0].any()
    assert found.items[1:].any(1).all()  # every item, whether it is a candidate or not
    assert {part: q.shape for part, q in found.queries.items()} == {
        "valid": (U, 8),
        "test": (U, 8),
    }
    ids = pl.read_parquet(folder / "ids.parquet")["id"].to_list()
    assert ids == [f"i{n}" for n in range(1, N_ITEMS + 1)]
    whose = files.read_json(folder / "run.json")["users_sha256"]
    assert whose == vectors.digest(made.prepared.users["id"])
    assert whose != vectors.digest(made.prepared.users["id"].reverse())


@pytest.mark.parametrize("run", ["id", "frozen", "end2end"])
def test_the_vectors_written_give_the_validation_that_was_selected(run, done):
    folder, made = done[run]
    items, queries = (np.load(folder / f"{name}.npy") for name in ("items", "queries_valid"))
    ranks = search.rank(queries, items, made.split.valid, made.split.candidates, 10)
    described = files.read_json(folder / "run.json")
    assert described["valid"] == {
        "hr@10": metrics.hit(ranks, 10).mean(),
        "ndcg@10": metrics.ndcg(ranks, 10).mean(),
    }
    curve = pl.read_csv(folder / "curve.csv")
    last = curve.filter(phase=described["best_phase"])
    assert last["hr@10"].max() == described["valid"]["hr@10"]


def test_a_run_says_what_it_is(done):
    described = files.read_json(done["end2end"][0] / "run.json")
    told = {"run": "end2end", "domain": "target", "content": "both", "user": "sasrec", "seed": 0}
    assert {key: described[key] for key in told} == told
    assert described["epochs"] == 2 + 1
    assert described["capped"] is True
    assert described["best_phase"] == "joint"
    curve = pl.read_csv(done["end2end"][0] / "curve.csv").filter(phase="joint")
    at = curve.filter(epoch=described["best_epoch"])
    assert at["hr@10"].to_list() == [described["valid"]["hr@10"]] == [curve["hr@10"].max()]


def test_a_model_folder_explains_itself(done, target):
    folder, made = done["end2end"]
    shaped = files.read_json(folder / "model.json")
    for modality in ("text", "image"):  # whole, so that no other folder is needed
        own = files.read_json(target.embedded / modality / "passport.json")
        assert shaped["passports"][modality] == own
        assert own["encoder"]["library"] and own["weights"] and own["width"]
    assert (shaped["width"], shaped["length"], shaped["items"]) == (8, 6, N_ITEMS)
    own = made.settings.user_encoders.sasrec.model_dump()
    assert shaped["user_encoders"] == {"sasrec": own}
    assert shaped["head"] == made.settings.tower.model_dump(exclude={"paper_head"})
    assert files.read_json(done["id"][0] / "model.json")["head"] is None
    model = made.start(0)
    state = load_file(folder / "model.safetensors")
    assert {n: v.shape for n, v in state.items()} == {
        n: v.shape for n, v in model.own_state().items()
    }


def test_tuned_encoders_are_written_as_encoders_are_and_give_the_items_written(
    done, target, tmp_path
):
    folder, made = done["end2end"]
    model = made.join(made.start(0), made.unfrozen(0), tmp_path)
    state = load_file(folder / "model.safetensors")
    model.load_state_dict(state, strict=False)
    for modality in ("text", "image"):
        tuned = encoders.load(folder / "encoder" / modality, modality)
        model.tower.encoders[modality].load_state_dict(tuned.state_dict())
    found = model.item_vectors(np.arange(N_ITEMS + 1) > 0, 16)
    np.testing.assert_allclose(found, np.load(folder / "items.npy"), atol=1e-6)
    assert store.load(target.embedded).keys() == model.tower.encoders.keys()


def test_items_that_are_no_candidates_have_vectors_too(target, public, tmp_path):
    made = work("id", target, public)
    made.split = made.split._replace(candidates=np.arange(N_ITEMS + 1) == 3)
    outputs.write_vectors(tmp_path, made, made.start(0))
    assert np.load(tmp_path / "items.npy").any(1).tolist() == [False, *[True] * N_ITEMS]


def row(epoch, phase, hr=0.0, ndcg=0.0):
    return schedule.Row(epoch, phase, 0.5, hr, ndcg, 0.01)


def fitted(rows, best, epochs, capped=False):
    return schedule.Fitted(rows[best], rows, epochs, capped, 1.0, 1, 2.0)


def test_the_second_phase_goes_on_counting_where_the_first_ended():
    probe = fitted([row(0, "probe"), row(2, "probe"), row(3, "probe")], 1, 3)
    joint = fitted([row(0, "joint"), row(1, "joint")], 1, 1)
    curve = outputs.curve([probe, joint])
    assert curve.columns == ["epoch", "phase", "loss", "hr@10", "ndcg@10", "learning_rate"]
    assert curve["epoch"].to_list() == [0, 2, 3, 3, 4]
    assert curve["phase"].to_list() == ["probe"] * 3 + ["joint"] * 2
    # The probe's best epoch is 2; the joint phase's first is the fourth of all.
    assert runs.Trained(None, {"probe": probe, "joint": joint}).best_epoch == 3 + 1


def test_the_search_table_says_what_was_tried_and_taken(tmp_path):
    points = [grid.Point(rate, 0.1, 0.2) for rate in (1.0, 2.0)]
    tried = [
        (points[0], {"probe-0": fitted([row(1, "probe", 0.3, 0.2)], 0, 5)}),
        (
            points[1],
            {
                "probe-0": fitted([row(1, "probe", 0.1, 0.1)], 0, 5, capped=True),
                "joint-0": fitted([row(1, "joint", 0.4, 0.3)], 0, 2),
            },
        ),
    ]
    outputs.write_search(tmp_path, tried, tried[1][1])
    assert pl.read_csv(tmp_path / "search.csv").to_dicts() == [
        {
            "phase": phase,
            "learning_rate": rate,
            "weight_decay": 0.1,
            "encoder_learning_rate": 0.2,
            "hr@10": hr,
            "ndcg@10": ndcg,
            "epochs": epochs,
            "is_capped": is_capped,
            "is_chosen": is_chosen,
        }
        for phase, rate, hr, ndcg, epochs, is_capped, is_chosen in [
            ("probe", 1.0, 0.3, 0.2, 5, False, False),
            ("joint", 2.0, 0.4, 0.3, 7, True, True),
        ]
    ]
