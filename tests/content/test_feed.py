"""Batches are ready when the model comes for them, and no more of them than have room."""

import threading

from pipeline.content import embed, feed, spool
from tests.content.embedding import SOON, Repeating, Said, run


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
