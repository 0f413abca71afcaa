"""Embedding a domain: the same bytes whenever it was killed; a passport that tells changes."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.content import device, embed, encoders, feed, spool, store
from pipeline.content.image import ImageContent
from pipeline.content.text import TextContent
from pipeline.data import files
from pipeline.machine import Machine
from tests.content.conftest import TEXTS, WORDS

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SOON = 30  # seconds that a thread waits for another before the test fails
MACHINE = Machine(
    device="cpu",
    threads=1,
    embed_batch=2,
    prefix_cache="auto",
    micro_batch_items=0,
    compile=False,
    processes=1,
    checkpoint_seconds=60,
)


class KilledError(Exception):
    """Stands for kill -9: nothing of ours gets to clean up."""


@pytest.fixture
def many():
    """Texts of 23 items, two of them missing."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 15))) for _ in range(23)]
    texts[3] = texts[11] = None
    return texts


def run(job, folder, machine=MACHINE):
    jobs = {job.encoder.modality: job}
    embed.run(jobs, False, folder / "out", folder / "cost.json", folder / "scratch", machine)


def folder_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_item_has_the_encoders_vector(bert, fetch, many, tmp_path):
    encoder = fetch(str(bert), "text")
    content = TextContent(many, encoder)
    run(embed.Job(encoder, content), tmp_path)

    found = store.load(tmp_path / "out")["text"]

    assert found.vectors.shape == (24, 16)
    assert np.flatnonzero(~found.present).tolist() == [0, 4, 12]
    assert not found.vectors[~found.present].any()
    with torch.inference_mode():
        for item in np.flatnonzero(found.present):
            expected = encoder(content.batch(np.array([item])))[0].numpy()
            np.testing.assert_allclose(found.vectors[item], expected, atol=1e-6)
    assert not [p for p in (tmp_path / "scratch").iterdir() if p.is_dir()]
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert cost["items_per_second"] > 0
    assert cost["parameters"] == sum(p.numel() for p in encoder.parameters())


@pytest.mark.parametrize("calls", [2, 3, 7])  # shards of 4 items in batches of 2: 2 is a boundary
def test_a_killed_embed_goes_on_to_the_same_bytes(
    calls, bert, fetch, many, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(spool, "SHARD", 4)
    encoder = fetch(str(bert), "text")
    job = embed.Job(encoder, TextContent(many, encoder))
    run(job, tmp_path / "whole")
    made = []

    class Dying:
        """The content, until a number of batches were read."""

        present, lengths, digest = job.content.present, job.content.lengths, job.content.digest

        def batch(self, items):
            if len(made) == calls:
                raise KilledError
            made.append(items)
            return job.content.batch(items)

    with pytest.raises(KilledError):
        run(embed.Job(encoder, Dying()), tmp_path / "killed")
    assert not (tmp_path / "killed" / "out").exists()
    capsys.readouterr()
    run(job, tmp_path / "killed")

    done = calls // 2 * 4
    assert f"embed text: {done} items are done already" in capsys.readouterr().err
    assert folder_bytes(tmp_path / "killed" / "out") == folder_bytes(tmp_path / "whole" / "out")


class Said:
    """As many items as asked for, each of which says its number, and who asked for which."""

    def __init__(self, n, asked=lambda _: None):
        self.present, self.lengths = np.arange(n + 1) > 0, np.ones(n + 1, np.int64)
        self.asked, self.batches = asked, []

    def batch(self, items):
        self.asked(len(self.batches))
        self.batches.append(items.tolist())
        return {"number": torch.from_numpy(items)}

    def digest(self):
        return "said"


class Repeating(encoders.Encoder):
    """An encoder that gives the number an item says, and notes what it is called with."""

    modality, width = "text", 3
    spec = encoders.Spec(library="sentence-transformers", model="repeating")

    def __init__(self, called=lambda _: None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.called, self.batches = called, []

    def forward(self, batch):
        self.called(len(self.batches))
        self.batches.append(batch["number"].tolist())
        return batch["number"][:, None] * self.weight


@pytest.mark.parametrize(("n", "calls"), [(1, 1), (4, 2), (23, 12)])
def test_each_item_is_read_and_encoded_once_in_whole_batches(n, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    encoder, content = Repeating(), Said(n)
    run(embed.Job(encoder, content), tmp_path)
    assert len(encoder.batches) == calls
    assert encoder.batches == content.batches
    assert np.concatenate(encoder.batches).tolist() == list(range(1, n + 1))
    found = store.load(tmp_path / "out")["text"].vectors
    np.testing.assert_array_equal(found, np.arange(n + 1)[:, None].repeat(3, axis=1))


def test_the_next_batch_is_read_while_the_model_works(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    reads = [threading.Event() for _ in range(6)]

    def wait_for_the_next(number):
        assert number == 5 or reads[number + 1].wait(SOON)

    run(embed.Job(Repeating(wait_for_the_next), Said(12, lambda n: reads[n].set())), tmp_path)


def test_batches_are_read_no_further_ahead_than_they_have_room(tmp_path):
    ahead = []
    encoder = Repeating()
    content = Said(60, lambda number: ahead.append(number - len(encoder.batches)))
    run(embed.Job(encoder, content), tmp_path)
    assert max(ahead) <= feed.AHEAD


def test_a_shard_is_written_while_the_model_works_on_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    written = threading.Event()
    write = spool.Spool.write
    monkeypatch.setattr(spool.Spool, "write", lambda *a: (write(*a), written.set()))

    def wait_for_the_last(number):
        assert number != 2 or written.wait(SOON)  # the third batch is of the second shard

    run(embed.Job(Repeating(wait_for_the_last), Said(12)), tmp_path)


def test_a_disk_that_is_full_says_so_and_keeps_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    save, saved = np.save, []

    def fill(*given):
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(save(*given))

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left on device"):
        full.setattr(np, "save", fill)
        run(embed.Job(Repeating(), Said(24)), tmp_path)
    encoder = Repeating()
    run(embed.Job(encoder, Said(24)), tmp_path)
    assert np.concatenate(encoder.batches).tolist() == list(range(9, 25))


def test_a_truncated_shard_is_made_again(bert, fetch, many, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    encoder = fetch(str(bert), "text")
    job = embed.Job(encoder, TextContent(many, encoder))
    about = embed.passport(job, CPU)
    embed.embed(job, about, tmp_path / "a", tmp_path / "shards", CPU, 2)
    shard = tmp_path / "shards" / "00001.npy"
    shard.write_bytes(shard.read_bytes()[:-40])
    embed.embed(job, about, tmp_path / "b", tmp_path / "shards", CPU, 2)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_batches_hold_like_lengths_and_no_pad_beyond_them(bert, fetch, many):
    content = TextContent(many, fetch(str(bert), "text"))
    items = embed.order(content)
    assert sorted(items.tolist()) == np.flatnonzero(content.present).tolist()
    assert (np.diff(content.lengths[items]) <= 0).all()


def test_the_passport_tells_what_changed_and_nothing_else(bert, clip, pack, fetch):
    def passport(encoder, content):
        return embed.passport(embed.Job(encoder, content), CPU)

    encoder = fetch(str(bert), "text")
    said = passport(encoder, TextContent(TEXTS, encoder))
    assert passport(encoder, TextContent(list(TEXTS), fetch(str(bert), "text"))) == said
    assert passport(encoder, TextContent(["red", *TEXTS[1:]], encoder)) != said
    short = encoders.Spec(library="sentence-transformers", model=str(bert), max_tokens=5)
    short_encoder = fetch(short, "text", "short")
    assert passport(short_encoder, TextContent(TEXTS, short_encoder)) != said
    with torch.no_grad():
        next(encoder.parameters())[0, 0] += 1e-3
    changed = passport(encoder, TextContent(TEXTS, encoder))
    assert {key for key in said if changed[key] != said[key]} == {"weights"}

    seeing = fetch(str(clip), "image")
    seen = passport(seeing, ImageContent(pack, seeing))
    pixels = pack.pixels.copy()
    pixels[0, 0, 0] = 255 - pixels[0, 0, 0]
    other = passport(seeing, ImageContent(pack._replace(pixels=pixels), seeing))
    assert {key for key in seen if other[key] != seen[key]} == {"inputs"}


def test_several_modalities_get_a_joint_passport(bert, clip, pack, fetch, tmp_path):
    reading, seeing = fetch(str(bert), "text", "text"), fetch(str(clip), "image", "image")
    jobs = {
        "text": embed.Job(reading, TextContent(TEXTS, reading)),
        "image": embed.Job(seeing, ImageContent(pack, seeing)),
    }
    embed.run(jobs, True, tmp_path / "o", tmp_path / "c.json", tmp_path / "s", MACHINE)
    found = store.load(tmp_path / "o")
    assert {m: e.vectors.shape for m, e in found.items()} == {"text": (8, 16), "image": (8, 24)}


def test_no_content_at_all_stops(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    with pytest.raises(files.Stop, match="no item has text content"):
        run(embed.Job(encoder, TextContent([None, ""], encoder)), tmp_path)
    assert not (tmp_path / "out").exists()


def test_vectors_that_are_not_finite_stop(bert, fetch, tmp_path):
    encoder = fetch(str(bert), "text")
    with torch.no_grad():
        encoder.blocks()[0].output.dense.weight.fill_(torch.inf)
    with pytest.raises(files.Stop, match="not finite, for 5 items, such as item 2"):
        run(embed.Job(encoder, TextContent(TEXTS, encoder)), tmp_path)


def test_covers_of_another_item_table_stop(clip, pack, fetch, tmp_path, monkeypatch):
    encoder = fetch(str(clip), "image")
    items = pl.DataFrame({"id": ["a"], "text": ["b"], "cover": ["c"]})
    items.write_parquet(tmp_path / "items.parquet")
    with pytest.raises(files.Stop, match="give --covers"):
        embed.content(encoder, tmp_path, None)
    monkeypatch.setattr(embed.covers, "load", lambda _: pack)
    with pytest.raises(files.Stop, match=r"covers of 7 items, but .* has 1. Run the stage covers"):
        embed.content(encoder, tmp_path, tmp_path)


def test_a_kill_right_after_the_last_shard_leaves_its_seconds(bert, fetch, tmp_path, monkeypatch):
    encoder = fetch(str(bert), "text")
    job = embed.Job(encoder, TextContent(TEXTS, encoder))
    to = (tmp_path / "out", tmp_path / "cost.json", tmp_path / "scratch")
    with monkeypatch.context() as killed:

        def die(*_):
            raise KeyboardInterrupt

        killed.setattr(embed.store, "save", die)  # all shards are there, the folder is not
        with pytest.raises(KeyboardInterrupt):
            embed.run({"text": job}, False, *to, MACHINE)
    save, order = np.save, []
    embed.run({"text": job}, False, *to, MACHINE)
    assert files.read_json(to[1])["items_per_second"] > 0
    monkeypatch.setattr(np, "save", lambda *a: order.append("shard") or save(*a))
    write = files.write_json
    monkeypatch.setattr(
        files, "write_json", lambda path, c: order.append(path.name) or write(path, c)
    )
    shutil.rmtree(to[0])
    embed.run({"text": job}, False, *to, MACHINE)
    assert order[:2] == ["seconds-0.json", "shard"]


def test_progress_has_rate_and_time_to_go(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = embed.Progress("embed text", 1_000, done=200)
    now[0] += 1
    progress.advance(100)  # under two seconds: quiet
    now[0] += 3
    progress.advance(300)
    assert capsys.readouterr().err == "embed text: 600 of 1,000, 100/s, ETA 4 s\n"


def test_a_gpu_that_is_not_there_stops():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(files.Stop, match=r"machine.device is 'cuda'"):
        device.pick("cuda")
    assert device.pick("auto") == CPU
    assert device.precision(CPU) == torch.float32


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
    pl.DataFrame({"text": many}).write_parquet(tmp_path / "prepared" / "items.parquet")

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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_its_encoders_vectors(bert, clip, pack, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    where = torch.device("cuda")
    reading, seeing = fetch(str(bert), "text", "text"), fetch(str(clip), "image", "image")
    for job in (
        embed.Job(reading, TextContent(TEXTS, reading)),
        embed.Job(seeing, ImageContent(pack, seeing)),
    ):
        modality = job.encoder.modality
        run(job, tmp_path / modality, MACHINE.model_copy(update={"device": "cuda"}))
        found = store.load(tmp_path / modality / "out")[modality]
        items = embed.order(job.content)
        for start in range(0, len(items), 2):
            some = items[start : start + 2]
            with torch.inference_mode(), device.autocast(where):
                expected = job.encoder(job.content.batch(some)).float().cpu().numpy()
            np.testing.assert_array_equal(found.vectors[some], expected)
