"""Batches are ready when the model comes for them, and no more of them than have room."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.content import device, embed, feed, spool
from tests.content.embedding import CPU, SOON, Repeating, Said, run


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


def of_keys(make):
    return feed.ahead(make, range(9), feed.AHEAD)


def of_content(make):
    return feed.batches(Said(9, make), np.arange(1, 10)[:, None], CPU)


@pytest.mark.parametrize("of", [of_keys, of_content])
@pytest.mark.parametrize("end", ["error", "closed", "abandoned"])
def test_after_an_error_or_without_a_taker_nothing_more_is_made(of, end, monkeypatch):
    begun, leaving, threads = [], threading.Event(), threading.active_count()

    class Pool(ThreadPoolExecutor):
        """Says that nothing more is cancelled, and waits for what has begun."""

        def shutdown(self, *args, **kwargs):
            leaving.set()
            super().shutdown(*args, **kwargs)

    def make(_):
        begun.append(1)
        if len(begun) == 2 and end == "error":
            raise ValueError("the second one is broken")
        if len(begun) > 1:
            assert leaving.wait(SOON)

    monkeypatch.setattr(feed, "ThreadPoolExecutor", Pool)
    made = of(make)
    next(made)
    if end == "error":
        with pytest.raises(ValueError, match="the second one is broken"):
            next(made)
    if end == "closed":
        made.close()
    del made
    # One may have begun beside what ended it; more were waiting.
    assert len(begun) <= (3 if end == "error" else 2)
    assert threading.active_count() == threads


def test_a_batch_is_sent_on_its_own_gpu_and_the_thread_stays_there(monkeypatch):
    """torch.cuda's ways to change GPU and stream are stubs, which say when."""
    said = []

    @contextlib.contextmanager
    def on(what):
        said.append(f"to {what}")
        yield
        said.append(f"from {what}")

    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: on(stream.name))
    stream = SimpleNamespace(name="lane", record_event=lambda: said.append("arrival"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda where: stream)
    monkeypatch.setattr(device, "move", lambda tensor, where: said.append(f"copy to {where}"))
    feed.Lane(torch.device("cuda:1")).send({"pixels": torch.ones(1)})
    expected = "to cuda:1, to lane, copy to cuda:1, arrival, from lane, from cuda:1"
    assert ", ".join(said) == expected
