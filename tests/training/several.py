"""What test_several_processes does in one process or in several: TASK FOLDER PUBLIC LOSS."""

import sys
from pathlib import Path

import numpy as np
import torch

from pipeline.content import processes
from pipeline.data import covers
from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec
from pipeline.training import loop
from pipeline.training.checkpoint import Keeper
from tests.models.test_items import towers
from tests.small_content import World
from tests.small_domains import LENGTH, PLAN, SASREC, chain, divided, feed

CPU = torch.device("cpu")
N_ITEMS = 7
MANY_ITEMS = 40_000  # of 8 numbers each: over a megabyte, what DistributedDataParallel buckets by
ROWS = [[1, 2, 4, 7, 3], [5, 6, 3, 1], [2, 6], [7, 1, 5]]


def model_of(name, public, n_items=N_ITEMS):
    torch.manual_seed(0)
    tower = items.IdTower(n_items, 8)
    if name == "end2end":
        pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 40, 3), dtype=np.uint8)
        pack = covers.Pack(pixels, np.array([-1, 0, 1, -1, 2, 3, -1, 4], dtype=np.int32))
        _, tower = towers(World(public, pack), modality_dropout=0.3)
        for encoder in tower.encoders.values():
            encoder.unfreeze(1)
    torch.manual_seed(1)
    return recommender.Recommender(tower, Sasrec(8, LENGTH, SASREC)).double()


def gradients(model, rows, loss, folder, n_items=N_ITEMS):
    """The loss of one batch of all rows, and its gradients."""
    phase = loop.Phase(model, PLAN._replace(loss=loss), 0, Keeper(folder, 60))
    value = phase.step(next(feed(rows, n_items, loss, n_users=len(rows)).epoch(0, 0, CPU)))
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"loss": processes.summed(value), **found}


def fit(model, loss, folder, stop_at):
    """Train two epochs, or up to the first checkpoint inside the second."""
    real = loop.Phase.save

    def save(phase):
        real(phase)
        if (phase.state.epoch, phase.state.step) == stop_at:
            processes.wait()
            raise SystemExit

    loop.Phase.save = save
    histories = chain(40, N_ITEMS, seed=0, predictable=0.9)
    plan = PLAN._replace(batch_users=9, loss=loss, epochs=2)
    parts = divided(histories, N_ITEMS)
    fitted = loop.fit(model, parts, plan, 0, Keeper(folder, 0), 3)
    curve = torch.tensor([row[2:5] for row in fitted.curve])
    return {"curve": curve, **dict(model.named_parameters())}


def main():
    task, folder, public, loss = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    folder.mkdir(exist_ok=True)
    with processes.group(CPU):
        if task == "gradients":
            found = {n: gradients(model_of(n, public), ROWS, loss, folder) for n in MODELS}
            one = gradients(model_of("id", public), ROWS[:1], loss, folder)
            found["fewer users than processes"] = one
            large = gradients(
                model_of("id", public, MANY_ITEMS), ROWS[:1], loss, folder, MANY_ITEMS
            )
            found["a large table, fewer users than processes"] = large
            for rows in ([[2, 5], [5, 2]], [[2, 5]]):  # 5, the last process's share, has no text
                part = gradients(model_of("end2end", public), rows, loss, folder)
                found[f"an encoder that one process does not use, {len(rows)} users"] = part
        else:
            stop_at = (1, 2) if task == "begin" else None
            found = {"end2end": fit(model_of("end2end", public), loss, folder, stop_at)}
        if processes.is_first():
            torch.save(found, folder / f"{task}.pt")


MODELS = ("id", "end2end")

if __name__ == "__main__":
    main()
