"""Embedding small catalogues as the stage does it."""

import numpy as np
import torch

from pipeline.content import blocks, embed, specification
from pipeline.machine import Machine

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


def run(job, folder, machine=MACHINE):
    jobs = {job.encoder.modality: job}
    embed.run(jobs, False, folder / "out", folder / "cost.json", folder / "scratch", machine)


def folder_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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


class Repeating(blocks.Encoder):
    """An encoder that gives the number an item says, and notes what it is called with."""

    modality, width = "text", 3
    spec = specification.Spec(library="sentence-transformers", model="repeating")

    def __init__(self, called=lambda _: None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.called, self.batches = called, []

    def forward(self, batch):
        self.called(len(self.batches))
        self.batches.append(batch["number"].tolist())
        return batch["number"][:, None] * self.weight
