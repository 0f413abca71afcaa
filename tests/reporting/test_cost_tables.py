from pipeline.data import files
from pipeline.reporting import cost_tables, costs
from pipeline.reporting.markdown import NOTHING
from pipeline.reporting.results import Group
from tests.reporting.conftest import rows


def test_costs_with_and_without_what_they_stand_on(world):
    """Two targets share the source's 1,000 s (end2end) and 100 s (frozen), and its 10 s."""
    world.cost("embed_tuned/near-old-text-sasrec", seconds=20.0)
    world.cost("embed/near-text", seconds=5.0)
    world.cost("embed/old-text", seconds=10.0)
    world.cost("embed/dropped-text", seconds=5.0)  # a domain that params.yaml no longer lists
    world.cost("near-text-sasrec/frozen_zeroshot", seconds=9.0, users_per_second=3.0)
    text = world.report()
    share = 5 + cost_tables.SPENT.index("with its share of pre-training")

    def spent(run, at=0):
        row = rows(text, run)[at]
        return row[5], row[share]

    assert spent("id") == ("30.0 s", NOTHING)
    assert spent("frozen") == ("30.0 s", "35.0 s")  # and the target's embedding
    assert spent("end2end") == ("6 min 40 s", "6 min 45 s")  # whose probe stands on it too
    assert spent("frozen_transfer") == ("30.0 s", "1 min 30 s")  # 30 + 5 + (10 + 100) / 2
    assert spent("tuned_transfer") == ("30.0 s", "9 min 15 s")  # 30 + 20 + (10 + 1000) / 2
    assert spent("tuned_transfer", at=1) == ("30.0 s", "8 min 55 s")
    assert spent("end2end_transfer")[1] == "15 min 25 s"  # 400 + 20 + 505
    assert spent("frozen_zeroshot") == (NOTHING, "1 min 00 s")  # nothing, 5 + 55
    assert rows(text, "frozen_zeroshot")[0][share + 1] == NOTHING  # users/s
    assert rows(text, "id")[0][share + 1 :] == [
        "120", "2.50 GB", "1,000,000", "23,000,000", "12", "2", "2 cores",
    ]  # fmt: skip
    assert rows(text, "embed/near-text")[0][1] == "5.0 s"
    assert "dropped-text" not in text


def test_what_is_done_on_the_source_is_shared_within_a_content_and_user_encoder(tmp_path):
    """A share: the target's embedding, and the source's with its training over the targets."""
    spent = {
        "embed/old-text": 10.0, "embed/old-image": 20.0, "embed/near-text": 5.0,
        "embed/far-text": 6.0, "embed/near-image": 7.0, "pretrain/old-text-frozen-sasrec": 100.0,
        "pretrain/old-text-frozen-gru4rec": 60.0, "pretrain/old-image-frozen-sasrec": 40.0,
    }  # fmt: skip
    for name, seconds in spent.items():
        files.write_json(tmp_path / f"{name}.json", {"seconds": seconds})
    expected = {
        Group("near", "text", "sasrec"): 5 + (10 + 100) / 2,
        Group("far", "text", "sasrec"): 6 + (10 + 100) / 2,
        Group("near", "image", "sasrec"): 7 + (20 + 40) / 1,
        Group("near", "text", "gru4rec"): 5 + (10 + 60) / 1,
    }
    found = costs.load(tmp_path, [*expected], ["frozen_transfer"], ["old"])
    assert found.shares == {(group, "frozen_transfer"): share for group, share in expected.items()}
    assert {name: cost.seconds for name, cost in found.others.items()} == spent


def test_what_several_runs_stand_on_says_its_rate_epochs_and_trials(world):
    world.cost("embed/near-text", seconds=5.0, items_per_second=250.4)
    world.cost("pretrain/old-text-end2end-sasrec", 1000.0, epochs=7, trials=3)
    text = world.report()
    assert rows(text, "embed/near-text")[0][4] == "250 items/s"
    (source,) = rows(text, "pretrain/old-text-end2end-sasrec")
    assert source[4:] == ["120 users/s", "2.50 GB", "1,000,000", "7", "3", "2 cores"]


def test_the_search_and_the_phases_of_one_training_are_shown(world):
    more = {"search_seconds": 300.0, "probe_seconds": 40.0, "joint_seconds": 90.0}
    world.cost("near-text-sasrec/end2end", 500.0, prefix_seconds=7.0, **more)
    world.cost("far-text-sasrec/end2end", 500.0, trials=1, **more | {"joint_seconds": 0.0})
    world.cost("pretrain/old-text-end2end-sasrec", 1000.0, **more)
    text = world.report()
    near, far = rows(text, "end2end")
    assert near[5:8] == ["8 min 20 s", "5 min 00 s", "probe 40.0 s, joint 1 min 30 s, prefix 7.0 s"]
    assert far[5:8] == ["8 min 20 s", NOTHING, "probe 40.0 s"]  # one point is no search
    (source,) = rows(text, "pretrain/old-text-end2end-sasrec")
    assert source[2:4] == ["5 min 00 s", "probe 40.0 s, joint 1 min 30 s"]


def test_steps_epochs_and_artifacts_are_shown(world):
    """One run of two phases, one of one, and one that trains nothing."""
    world.cost(
        "near-text-sasrec/end2end", 500.0, probe_step_flops=2_000_000, probe_epoch_seconds=0.5,
        joint_step_flops=345_678_000_000, joint_epoch_seconds=75.0, best_epoch_seconds=200.0,
        run_bytes=1_500_000, embeddings_bytes=2_340_000, prefix_bytes=12_000_000_000,
    )  # fmt: skip
    world.cost("near-text-sasrec/frozen_zeroshot", 0.0, run_bytes=1_000_000, prefix_bytes=0)
    found = {row[1]: row[2:] for row in rows(world.report(), "near")}
    assert found["end2end"] == [
        "probe 0.002 G, joint 346 G", "probe 0.5 s, joint 1 min 15 s", "3 min 20 s",
        "1.5 MB", "2.3 MB", "12,000.0 MB",
    ]  # fmt: skip
    assert found["frozen_zeroshot"] == [*[NOTHING] * 3, "1.0 MB", NOTHING, NOTHING]


def test_runs_of_a_cap_are_marked_where_their_work_is_shown(world):
    world.evaluate("near", capped=["end2end"])
    assert any(row[1] == "end2end†" for row in rows(world.report(), "near"))
