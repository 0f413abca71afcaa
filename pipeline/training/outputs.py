"""A run's folder: all that evaluation and later tools need, and nothing that differs by machine."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.content import blocks, encoders, processes, store
from pipeline.data import files
from pipeline.models import items, recommender
from pipeline.retrieval import vectors
from pipeline.training import grid, runs, schedule

Tried = tuple[grid.Point, dict[str, schedule.Fitted]]  # a point and its phases, by their folders


def write(folder: Path, work: runs.Work, trained: runs.Trained, seed: int) -> None:
    """Write one trained model of a run: weights, its curve, and what is retrieved by.

    All processes make its item vectors together; the first one alone writes.
    """
    model, table = trained.model, work.prepared.items
    if not work.is_source:
        write_vectors(folder, work, model)
    if not processes.is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    table.select("id").write_parquet(folder / "ids.parquet")
    write_model(folder, work, model)
    best, fitted = trained.last.best, trained.phases.values()
    curve(fitted).write_csv(folder / "curve.csv")
    described = {
        **work.name._asdict(),
        "seed": seed,
        "best_epoch": trained.best_epoch,  # as curve.csv counts
        "best_phase": best.phase,
        "epochs": sum(one.epochs for one in fitted),
        "capped": any(one.capped for one in fitted),
        "users_sha256": vectors.digest(work.prepared.users["id"]),  # whose query vectors these are
        "valid": {"hr@10": best.hr, "ndcg@10": best.ndcg},
    }
    files.write_json(folder / "run.json", described)


def write_vectors(folder: Path, work: runs.Work, model: recommender.Recommender) -> None:
    """Write the vectors of all items and of the users with their histories before each part."""
    wanted = np.arange(len(work.prepared.items) + 1) > 0
    item_vectors = model.item_vectors(wanted, work.machine.embed_batch)
    if not processes.is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "items.npy", item_vectors)
    for name, held_out in (("valid", work.split.valid), ("test", work.split.test)):
        np.save(folder / f"queries_{name}.npy", model.queries(held_out.histories, item_vectors))


def write_model(folder: Path, work: runs.Work, model: recommender.Recommender) -> None:
    """Write a model with what shaped it; encoders that trained in their library's own format."""
    s = work.settings
    shaped = {
        "run": work.name.run,
        "content": work.name.content,
        **work.shape(),
        "width": s.model.width,
        "length": work.length,
        "items": len(work.prepared.items),
    }
    if work.inputs.embeddings is not None:
        shaped["passports"] = store.passports(work.inputs.embeddings)
    recommender.save(folder, model, shaped)
    if isinstance(model.tower, items.EndToEndTower):
        for modality, encoder in model.tower.encoders.items():
            assert isinstance(encoder, blocks.Encoder)
            encoders.save(encoder, folder / "encoder" / modality)


def curve(phases: Iterable[schedule.Fitted]) -> pl.DataFrame:
    """Join the phases' curves; the second's epoch 0 is the first's best, where it began."""
    rows, offset = [], 0
    for phase in phases:
        rows += [row._replace(epoch=row.epoch + offset) for row in phase.curve]
        offset += phase.epochs
    return pl.DataFrame(
        rows,
        schema={
            "epoch": pl.Int64,
            "phase": pl.String,
            "loss": pl.Float64,
            "hr@10": pl.Float64,
            "ndcg@10": pl.Float64,
            "learning_rate": pl.Float64,
        },
        orient="row",
    )


def write_search(folder: Path, tried: list[Tried], chosen: dict[str, schedule.Fitted]) -> None:
    """Write what the search tried and found on validation, each with its last phase."""
    rows = [
        {
            "phase": name.partition("-")[0],
            **point._asdict(),
            "hr@10": fitted[name].best.hr,
            "ndcg@10": fitted[name].best.ndcg,
            "epochs": sum(phase.epochs for phase in fitted.values()),
            "is_capped": any(phase.capped for phase in fitted.values()),
            "is_chosen": fitted is chosen,
        }
        for point, fitted, name in ((point, fitted, [*fitted][-1]) for point, fitted in tried)
    ]
    pl.DataFrame(rows).write_csv(folder / "search.csv")
