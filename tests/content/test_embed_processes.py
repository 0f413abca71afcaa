"""Several processes embed a domain: whoever is killed, and whoever goes on, the bytes of one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from ruamel.yaml import YAML

from pipeline.content import embed, spool
from pipeline.content.text import TextContent
from tests.content.embedding import folder_bytes, run

ROOT = Path(__file__).parents[2]

# Imported as Python starts: shards of 4 items, and the second process dies over the last of them.
SMALL = """
import os, signal
from pipeline.content import spool
spool.SHARD = 4
write = spool.Spool.write
def write_or_die(self, number, vectors, seconds):
    if os.environ.get("RANK") == "1" and number == len(self.shards) - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, number, vectors, seconds)
if "DIES" in os.environ:
    spool.Spool.write = write_or_die
"""


def embed_by(count, folder, **environment):
    """Run the stage's own command by so many processes, in a folder with what it reads."""
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    params["machine"] |= {"device": "cpu", "threads": 1, "embed_batch": 2, "processes": count}
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    (folder / "sitecustomize.py").write_text(SMALL)
    options = "--modality text --encoder encoder --prepared prepared --out out --scratch scratch"
    return subprocess.run(
        [sys.executable, "-m", "stages.embed", *options.split(), "--cost", "cost.json"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "OMP_NUM_THREADS": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_processes_killed_and_others_that_go_on_give_the_bytes_of_one(
    bert, fetch, many, tmp_path, monkeypatch
):
    encoder = fetch(str(bert), "text")  # which writes tmp_path / "encoder"
    (tmp_path / "prepared").mkdir()
    items = pl.DataFrame({"id": map(str, range(len(many))), "text": many, "cover": None})
    items.write_parquet(tmp_path / "prepared" / "items.parquet")

    killed = embed_by(2, tmp_path, DIES="yes")
    assert killed.returncode == 1
    assert "one of 2 processes (machine.processes) was killed by signal 9" in killed.stderr
    assert not (tmp_path / "out").exists()

    done = embed_by(3, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "embed: 21 of 23 items have text -> out\n"
    # Of its three shards the second process had written two; the first one perhaps all.
    known = re.findall(r"embed text: (\d+) items are done already, going on\n", done.stderr)
    assert len(known) == 1 and 8 <= int(known[0]) <= 20
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["device"].startswith("3 x cpu") and cost["seconds"] > 0
    assert not [p for p in (tmp_path / "scratch").iterdir()]

    monkeypatch.setattr(spool, "SHARD", 4)
    run(embed.Job(encoder, TextContent(many, encoder)), tmp_path / "one")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "one" / "out")
