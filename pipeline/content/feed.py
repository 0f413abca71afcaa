"""To the model and back while it computes: the batches that come next, and the vectors it made."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.content import device
from pipeline.content.blocks import Content

AHEAD = 2  # batches prepared, at most, while the model works on another

Key = TypeVar("Key")
Made = TypeVar("Made")
Prepared = tuple[dict[str, Tensor], torch.cuda.Event | None]  # a batch, and its arrival on a GPU


class Lane:
    """Copies to a GPU, beside what it computes."""

    def __init__(self, where: torch.device) -> None:
        self.where = where
        self.stream = torch.cuda.Stream(where)  # type: ignore[no-untyped-call]

    def send(self, batch: dict[str, Tensor]) -> Prepared:
        """Begin to copy a batch; the event is its arrival."""
        # A thread begins on GPU 0, and would come back to it, and take memory there, at the end.
        with torch.cuda.device(self.where), torch.cuda.stream(self.stream):
            sent = {name: device.move(tensor, self.where) for name, tensor in batch.items()}
            return sent, self.stream.record_event()

    def receive(self, sent: dict[str, Tensor], arrival: torch.cuda.Event) -> dict[str, Tensor]:
        """Let what is computed from now on wait for a batch; the host goes on at once."""
        computing = torch.cuda.current_stream(self.where)
        computing.wait_event(arrival)
        for tensor in sent.values():
            tensor.record_stream(computing)  # its memory is not given away before it was read
        return sent


def batches(
    content: Content, groups: Iterable[np.ndarray], where: torch.device
) -> Generator[dict[str, Tensor], None, None]:
    """Prepare the batches of groups of items in a thread, some ahead of the model.

    Args:
        content: what the items say; one thread alone reads it.
        groups: [n] items of each batch.
        where: the device that the batches come to.

    Yields:
        The encoder's input for each group, in their order. What is raised over a batch is raised
        here at its turn.
    """
    lane = Lane(where) if where.type == "cuda" else None

    def prepare(items: np.ndarray) -> Prepared:
        batch = content.batch(items)
        return (batch, None) if lane is None else lane.send(batch)

    for batch, arrival in ahead(prepare, groups, AHEAD):
        yield batch if lane is None or arrival is None else lane.receive(batch, arrival)


def ahead(
    make: Callable[[Key], Made], keys: Iterable[Key], depth: int
) -> Generator[Made, None, None]:
    """Make something of each key in a thread, some ahead of who takes it.

    Args:
        make: called in one thread alone, in the order of the keys.
        keys: what to make it of; asked for as they are needed.
        depth: so many are made, at most, while another one is in use.

    Yields:
        What is made, in the order of the keys. What is raised over one is raised at its turn. Then,
        as when the generator is closed, no other is begun, and one that has begun is waited for.
    """
    with ThreadPoolExecutor(1) as thread:
        coming: deque[Future[Made]] = deque()
        try:
            for key in keys:
                coming.append(thread.submit(make, key))
                if len(coming) > depth:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for left in coming:
                left.cancel()


class Vectors:
    """The vectors of [n] items on their way back: no copy from a GPU is waited for but the last."""

    def __init__(self, n: int, width: int, where: torch.device) -> None:
        self.rows = torch.empty(n, width, pin_memory=where.type == "cuda")  # [n, C] float32
        self.filled, self.where = 0, where
        self.arrival: torch.cuda.Event | None = None

    def put(self, vectors: Tensor) -> None:
        """Add the vectors of the next batch: [m, C] on the device."""
        to = self.rows[self.filled : self.filled + len(vectors)]
        to.copy_(vectors.float(), non_blocking=True)
        self.filled += len(vectors)
        if self.where.type == "cuda":
            self.arrival = torch.cuda.current_stream(self.where).record_event()

    def arrived(self) -> np.ndarray:
        """Wait for all that was put, and give it: [n, C] float32."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.rows.numpy()
