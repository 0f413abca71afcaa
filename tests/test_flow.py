"""What DVC runs again and what it leaves alone, asked of DVC itself, with stages that take no time.

The flow has one source, one target and the contents text and both: so text must stand still where
only images change.
"""

import contextlib
import json

import pytest
import stub_flow
from ruamel.yaml import YAML


@contextlib.contextmanager
def restored(flow, *paths):
    """Give files back their content afterwards."""
    kept = {flow.folder / path: (flow.folder / path).read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, content in kept.items():
            path.write_bytes(content)


def status_after(flow, **sections):
    """What `dvc status` names after a change of params.yaml, which is taken back."""
    with restored(flow, "params.yaml"):
        flow.edit(**sections)
        return flow.status()


def blocks(stages):
    return {stage.split("@")[0] for stage in stages}


def contents(stages):
    """The contents of run stages, by the words of their names: text, image or both."""
    return {word for stage in stages for word in stage.split("@")[-1].split("-")} & {
        "text", "image", "both"
    }  # fmt: skip


def declared(flow, section, key):
    """The blocks of dvc.yaml that declare a section of params.yaml, or this key of it."""
    stages = YAML(typ="safe").load(flow.folder / "dvc.yaml")["stages"]
    named = {name: block.get("do", block).get("params", []) for name, block in stages.items()}
    return {name for name, params in named.items() if {section, f"{section}.{key}"} & {*params}}


def test_the_whole_flow_ran_once(flow_done):
    lock = YAML(typ="safe").load(flow_done.folder / "dvc.lock")["stages"]
    flow = YAML(typ="safe").load(flow_done.folder / "dvc.yaml")["stages"]
    assert blocks(lock) == set(flow), "every block has a stage"
    assert (flow_done.folder / "artifacts/report/report.md").exists()


def test_a_second_repro_runs_nothing(flow_done):
    before = (flow_done.folder / "dvc.lock").read_bytes()
    assert flow_done.repro() == set()
    assert (flow_done.folder / "dvc.lock").read_bytes() == before


def test_another_image_encoder_reruns_image_and_both_and_no_text_and_no_id(own_flow):
    own_flow.edit(encoders__image="timm:resnet18")
    ran = own_flow.repro()
    assert {
        "encoder@image", "embed_image@harbor", "embed_image@near", "join@harbor", "join@near"
    } <= ran  # fmt: skip
    runs = {stage for stage in ran if stage.startswith(("pretrain", "train", "transfer"))}
    assert contents(runs) == {"both"}
    assert blocks(runs) == {
        "pretrain_frozen", "pretrain_end2end", "train_frozen", "train_end2end",
        "transfer_frozen", "transfer_tuned", "transfer_end2end",
    }  # fmt: skip
    assert "embed_tuned" in blocks(ran)
    assert {"evaluate@near-both-sasrec", "report"} <= ran
    assert not blocks(ran) & {"baseline", "prepare", "covers", "embed_text", "demo_encoder"}
    assert contents(ran - {"encoder@image"}) == {"both"}
    assert "encoder@text" not in ran


def test_a_change_of_the_demos_encoder_is_seen_by_the_image_encoder_alone(flow_done):
    made = "artifacts/demo/encoder/made.txt"
    with restored(flow_done, made):
        (flow_done.folder / made).unlink()  # not through the link into the cache
        (flow_done.folder / made).write_text("another")
        assert flow_done.status() == {"demo_encoder@demo", "encoder@image"}


def test_another_text_encoder_reruns_no_image_encoder_and_no_id(flow_done):
    said = status_after(flow_done, encoders__text="other/name")
    assert said == {"encoder@text", "report"}  # the report names the encoders


def test_a_comment_in_reporting_reruns_the_report_alone(flow_done, small_flow):
    for flow in (flow_done, small_flow):
        with restored(flow, "pipeline/reporting/plots.py"):
            with (flow.folder / "pipeline/reporting/plots.py").open("a") as file:
                file.write("# a comment\n")
            assert flow.status() == {"report"}
            if flow is small_flow:
                assert flow.repro() == {"report"}


def test_a_comment_in_a_room_reruns_no_stage_that_cannot_reach_it(flow_done):
    room = "pipeline/training/losses.py"
    with restored(flow_done, room):
        with (flow_done.folder / room).open("a") as file:
            file.write("# a comment\n")
        changed = blocks(flow_done.status())
    assert {"baseline", "train_frozen", "transfer_end2end"} <= changed
    assert not changed & {"prepare", "covers", "embed_text", "embed_tuned", "evaluate", "report"}


def test_what_lies_about_in_code_folders_reruns_nothing(flow_done):
    rest = [
        "pipeline/reporting/__pycache__/plots.cpython-311.pyc",
        "stages/__pycache__/report.cpython-311.pyc",
    ]
    for path in rest:
        (flow_done.folder / path).parent.mkdir(exist_ok=True)
        (flow_done.folder / path).write_text("bytes")
    assert flow_done.status() == set()


def test_the_parts_and_locks_of_a_killed_stage_rerun_nothing(flow_done):
    parts = [
        flow_done.folder / "artifacts/prepare/.near.4711.part/items.parquet",
        flow_done.folder / "artifacts/runs/near-both-sasrec/.frozen.4711.part/items.npy",
        flow_done.folder / "artifacts/costs/near-both-sasrec/.frozen.json.4711.part",
        flow_done.folder / "artifacts/runs/near-both-sasrec/.frozen.lock",
        flow_done.folder / "artifacts/cards/near/.prepare.lock",
    ]
    try:
        for part in parts:
            part.parent.mkdir(exist_ok=True)
            part.write_text("half")
        assert flow_done.status() == set()
    finally:
        for part in parts:
            part.unlink()
            if part.parent.name.endswith(".part"):
                part.parent.rmdir()


def test_machine_reruns_nothing(flow_done):
    machine = {
        "device": "cpu",
        "threads": 7,
        "embed_batch": 3,
        "prefix_cache": "off",
        "micro_batch_items": 5,
        "compile": True,
        "processes": 2,
        "checkpoint_seconds": 1,
    }
    assert status_after(flow_done, machine=machine) == set()


def test_end2end_reruns_no_frozen_run(own_flow):
    end2end = YAML(typ="safe").load(own_flow.folder / "params.yaml")["end2end"]
    own_flow.edit(end2end={key: {"layers": 3} for key in end2end})
    assert blocks(own_flow.status()) == {"pretrain_end2end", "train_end2end", "transfer_end2end"}
    assert blocks(own_flow.repro("evaluate@near-text-sasrec")) == {
        "pretrain_end2end", "embed_tuned", "train_end2end", "transfer_tuned", "transfer_end2end",
        "evaluate",
    }  # fmt: skip


def test_cutoffs_rerun_evaluate_and_report_alone(flow_done, small_flow):
    assert blocks(status_after(flow_done, evaluate__cutoffs=[5])) == {"evaluate"}
    small_flow.edit(evaluate__cutoffs=[5])
    assert blocks(small_flow.repro()) == {"evaluate", "report"}
    small_flow.edit(evaluate__cutoffs=[10, 20])
    assert small_flow.repro() == set(), "going back takes results from the cache of runs"


@pytest.mark.parametrize(
    "section", ["protocol", "tower", "covers", "demo_encoder", "search", "report"]
)
def test_a_section_reruns_the_blocks_that_declare_it(flow_done, section):
    with restored(flow_done, "params.yaml"):
        file = flow_done.folder / "params.yaml"
        changed = YAML(typ="safe").load(file)
        key = next(iter(changed[section]))
        flow_done.edit(**{f"{section}__{key}": "something else"})
        assert blocks(flow_done.status()) == declared(flow_done, section, key)


def test_other_pixels_are_other_runs_to_dvcs_cache_too(own_flow):
    """DVC's cache of runs looks past keys called `size`: covers of another one came from it."""
    own_flow.edit(covers__pixels=32)
    assert {"covers@harbor", "covers@near"} <= own_flow.repro()


def test_the_papers_head_reruns_frozen_runs_from_scratch_alone(flow_done):
    with restored(flow_done, "params.yaml"):
        flow_done.edit(tower__paper_head__layers=2)
        assert blocks(flow_done.status()) == {"train_frozen"}


def names(flow):
    return set(flow.dvc("stage", "list", "--name-only").split())


def test_without_a_source_there_is_no_pretraining_and_no_transfer(flow_done, small_flow_done):
    with restored(flow_done, "params.yaml"):
        flow_done.edit(sources=[])
        left = blocks(names(flow_done))
    assert not {b for b in left if b.startswith(("pretrain", "transfer", "embed_tuned"))}
    assert {"train_frozen", "train_end2end", "baseline", "evaluate", "report"} <= left
    assert (small_flow_done.folder / "artifacts/report/report.md").exists()
    assert small_flow_done.repro() == set()


def test_texts_alone_need_no_covers_and_no_image_encoder(small_flow_done):
    assert names(small_flow_done) == {
        "demo@demo", "demo_encoder@demo", "encoder@text", "prepare@near", "embed_text@near",
        "baseline@near-sasrec", "train_frozen@near-text-frozen-sasrec",
        "train_end2end@near-text-end2end-sasrec", "evaluate@near-text-sasrec", "report",
    }  # fmt: skip
    assert not (small_flow_done.folder / "artifacts/covers").exists()


def test_data_of_ones_own_needs_no_demo(small_flow):
    (small_flow.folder / "artifacts/demo/raw").rename(small_flow.folder / "mine")
    params = YAML(typ="safe").load(small_flow.folder / "params.yaml")
    for listed in params["domains"].values():
        for domain in listed.values():
            domain["folder"] = domain["folder"].replace("artifacts/demo/raw", "mine")
    small_flow.edit(demo=[], domains=params["domains"])
    assert not blocks(names(small_flow)) & {"demo", "demo_encoder"}
    assert "prepare@near" in small_flow.repro()
    assert small_flow.status() == set()


def test_an_experiment_takes_an_encoder_by_its_plain_name(small_flow):
    done = small_flow.dvc("exp", "run", "--name", "other-text", "-S", "encoders.text=some/name")
    assert stub_flow.ran(done) == {
        "encoder@text", "embed_text@near", "train_frozen@near-text-frozen-sasrec",
        "train_end2end@near-text-end2end-sasrec", "evaluate@near-text-sasrec", "report",
    }  # fmt: skip
    params = YAML(typ="safe").load(small_flow.folder / "params.yaml")
    assert params["encoders"]["text"] == "some/name"
    assert "other-text" in small_flow.dvc("exp", "list")


def test_an_experiment_may_put_a_specification_for_a_name(small_flow):
    entry = "{library: sentence-transformers, model: some/name, max_tokens: 30}"
    small_flow.dvc("exp", "run", "-S", f"encoders.text={entry}", "encoder@text")
    params = YAML(typ="safe").load(small_flow.folder / "params.yaml")
    assert params["encoders"]["text"]["max_tokens"] == 30


def test_metrics_and_plots_are_shown(flow_done):
    shown = json.loads(flow_done.dvc("metrics", "show", "--json"))
    metrics = shown[""]["data"]["artifacts/report/metrics.json"]["data"]
    assert metrics["near-both-sasrec"]["id"]["hr@10"] == 0.1
    plots = json.loads(flow_done.dvc("plots", "show", "--json", "--out", "artifacts/plots"))
    assert not plots.get("errors")
    names = " ".join(plots["data"])
    assert "curves" in names and "bars" in names and "figures" in names
    assert all(drawn for drawn in plots["data"].values())


def test_metrics_diff_compares_with_a_commit(small_flow):
    metrics = small_flow.folder / "artifacts/report/metrics.json"
    metrics.unlink()
    metrics.write_text('{"near-both-sasrec": {"id": {"hr@10": 0.3, "ndcg@10": 0.05}}}')
    diff = json.loads(small_flow.dvc("metrics", "diff", "--json"))
    changed = diff["artifacts/report/metrics.json"]["near-both-sasrec.id.hr@10"]
    assert changed["diff"] == pytest.approx(0.3 - 0.1)
