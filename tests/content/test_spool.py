"""Shards: written beside the model, and what a kill or a full disk leaves is gone on from."""

import shutil
import threading

import numpy as np
import pytest

from pipeline.content import embed, spool, store
from pipeline.content.text import TextContent
from pipeline.data import files
from tests.content.conftest import TEXTS
from tests.content.embedding import CPU, MACHINE, SOON, Repeating, Said, folder_bytes, run


class KilledError(Exception):
    """Stands for kill -9: nothing of ours gets to clean up."""


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
    files.write_json(next((tmp_path / "killed").rglob("seconds-0.json")), 1000.0)
    run(job, tmp_path / "killed")
    assert files.read_json(tmp_path / "killed" / "cost.json")["seconds"] > 1000

    done = calls // 2 * 4
    assert f"embed text: {done} items are done already" in capsys.readouterr().err
    assert folder_bytes(tmp_path / "killed" / "out") == folder_bytes(tmp_path / "whole" / "out")


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


@pytest.mark.parametrize("kept", [-40, 0], ids=["truncated", "empty"])
def test_a_broken_shard_is_made_again(kept, bert, fetch, many, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 4)
    encoder = fetch(str(bert), "text")
    job = embed.Job(encoder, TextContent(many, encoder))
    about = embed.passport(job, CPU)
    embed.embed(job, about, tmp_path / "a", tmp_path / "shards", CPU, 2)
    shard = tmp_path / "shards" / "00001.npy"
    shard.write_bytes(shard.read_bytes()[:kept])
    embed.embed(job, about, tmp_path / "b", tmp_path / "shards", CPU, 2)
    assert folder_bytes(tmp_path / "a") == folder_bytes(tmp_path / "b")


def test_shards_of_another_batch_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "SHARD", 1)  # as large as a batch
    job = embed.Job(Repeating(), Said(7))

    def die(*_):
        raise KilledError

    with monkeypatch.context() as killed, pytest.raises(KilledError):
        killed.setattr(embed.store, "save", die)
        run(job, tmp_path, MACHINE.model_copy(update={"embed_batch": 4}))
    # By four the second shard is items 5, 6, 7; by three as many others, 4, 5, 6.
    run(job, tmp_path, MACHINE.model_copy(update={"embed_batch": 3}))
    assert store.load(tmp_path / "out")["text"].vectors[:, 0].tolist() == [*range(8)]


def test_processes_work_at_the_same_time_and_a_shard_of_another_length_is_none(tmp_path):
    made = spool.Spool(tmp_path, np.arange(1, 5), batch=4)
    for rank, seconds in enumerate([3.0, 5.0, 4.0]):
        files.write_json(tmp_path / f"seconds-{rank}.json", seconds)
    assert made.seconds() == 5
    for n, missing in [(3, [0]), (4, [])]:
        np.save(tmp_path / "00000.npy", np.zeros((n, 2), np.float32))
        assert made.missing() == missing


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
