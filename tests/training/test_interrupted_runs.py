"""What a kill at any moment leaves of a run, and what one does that waited for another."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.data import files
from pipeline.training import loop, runs, trials
from tests.small_domains import OTHERS, settings
from tests.training.conftest import AXES, contents, counted_steps, run_in, work

ROOT = Path(__file__).parents[2]
KILLED = """
import json, os, signal, sys
from pathlib import Path
import open_clip, sentence_transformers, transformers.models.bert.modeling_bert
from pipeline.training import checkpoint, loop, objective, outputs, runs, trials
from pipeline.training.inputs import Inputs

given = json.loads(sys.argv[1])
out, cost, scratch = map(Path, given["to"])


def run(moment, count):
    left = [count]

    def die():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(owner, name):
        real = getattr(owner, name)
        setattr(owner, name, lambda *args: (die(), real(*args))[1])

    def half(state, opened):
        if left[0] == 1:
            opened.write(b"half of a state")
            opened.flush()
        die()
        save(state, opened)

    save = checkpoint.torch.save
    if moment == "save":
        checkpoint.torch.save = half
    else:
        owners = {"step": loop.Phase, "validate": objective, "write_model": outputs}
        before(owners[moment], moment)
    paths = {name: Path(path) for name, path in given["inputs"].items()}
    settings = runs.SETTINGS["end2end"].model_validate(given["settings"])
    work = runs.Work(runs.Name(*given["name"]), Inputs(**paths), settings)
    trials.run(work, out, cost, scratch)
    os._exit(0)


for kill in given["kills"]:
    process = os.fork()  # so that the imports, those of encoders too, are paid once
    if not process:
        run(*kill)
    found = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print(json.dumps([found, out.exists(), len([*scratch.rglob("state.part")])]))
"""


def kill(made, folder, *kills):
    """Do a run in processes of which each is killed with SIGKILL, at the count-th such moment.

    Returns, after each: how it ended, whether there is a result, and how many half states.
    """
    given = {
        "inputs": {k: str(v) for k, v in made.inputs._asdict().items() if v is not None},
        "settings": made.settings.model_dump(),
        "name": list(made.name),
        "to": [str(folder / name) for name in ("out", "cost.json", "scratch")],
        "kills": kills,
    }
    done = subprocess.run(
        [sys.executable, "-u", "-c", KILLED, json.dumps(given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_killed_again_and_again_ends_with_the_bytes_of_one_that_never_was(
    target, public, tmp_path
):
    sasrec = settings().user_encoders.sasrec.model_dump() | {"dropout": 0.2}
    made = work(
        "end2end",
        target,
        public,
        search=AXES | {"learning_rate": []},
        user_encoders={"sasrec": sasrec, **OTHERS},
        machine__checkpoint_seconds=0,
    )
    whole = contents(run_in(tmp_path / "whole", made))
    folder = tmp_path / "killed"
    found = kill(
        made,
        folder,
        ("step", 5),  # in the probe's second epoch
        ("save", 2),  # a state is half on disk, the one before counts
        ("validate", 5),  # both probes are done, nothing of the first joint phase
        ("validate", 2),  # in the first joint phase, at the end of its epoch
        ("step", 2),  # in the second joint phase
        ("write_model", 1),  # after training, in the middle of the run's folder
    )
    assert found == [[-9, False, n] for n in (0, 1, 0, 0, 0, 0)]
    run_in(folder, made)
    # What the killed processes had begun to write is gone too.
    assert {path.name for path in folder.iterdir()} == {"out", "cost.json", "scratch"}
    ended = contents(folder / "out")
    assert ended.keys() == whole.keys()
    assert [name for name in whole if whole[name] != ended[name]] == []


def test_a_second_process_waits_for_the_first_and_takes_its_result(
    target, public, monkeypatch, capfd, tmp_path
):
    made = work("id", target, public)
    run_in(tmp_path, made)
    key = files.read_json(tmp_path / "cost.json")["key"]
    before = contents(tmp_path / "out")
    hold = (
        "import sys, time; from pathlib import Path; from pipeline.data import scratch\n"
        "with scratch.locked(Path(sys.argv[1])): print(flush=True); time.sleep(0.5)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "scratch" / key)]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert first.stdout.readline()
    monkeypatch.setattr(loop, "fit", None)
    run_in(tmp_path, made)
    assert first.wait() == 0
    assert f"waiting for process {first.pid}," in capfd.readouterr().err
    assert contents(tmp_path / "out") == before


def test_who_waited_for_other_settings_does_its_own_work(target, public, monkeypatch, tmp_path):
    made = work("id", target, public)
    run_in(tmp_path, made)
    files.write_json(tmp_path / "cost.json", {"key": "another"})
    steps = counted_steps(monkeypatch)

    @contextlib.contextmanager
    def waited(folder):
        yield True

    monkeypatch.setattr(trials.scratch, "locked", waited)
    monkeypatch.setattr(runs.Work, "probes", lambda self, root: root / "fresh")
    run_in(tmp_path, made)
    assert steps


def test_a_result_that_vanished_while_it_was_waited_for_is_made_again(
    target, public, monkeypatch, tmp_path
):
    out = run_in(tmp_path, work("frozen", target, public))
    shutil.rmtree(out)  # as DVC does before a stage
    waited = contextlib.nullcontext(True)
    monkeypatch.setattr(trials.scratch, "locked", lambda folder: waited)
    run_in(tmp_path, work("frozen", target, public))
    assert (out / "run.json").exists()
