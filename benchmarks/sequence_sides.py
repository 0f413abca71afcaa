"""The sides of the comparison, one signature: a data set, L and epochs -> times and quality."""

import ast
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from pipeline.content import device
from pipeline.data import files, sequences
from pipeline.data.split import HeldOut, Split
from pipeline.models import items, recommender
from pipeline.models.sasrec import Sasrec, SasrecSettings
from pipeline.retrieval import index
from pipeline.training import batches, loop, objective, schedule
from pipeline.training.checkpoint import Keeper
from pipeline.training.negatives import Negatives

OURS = {4: "ours", 1: "ours-narrow"}  # by how many D the feed-forward layer is wide
USERS = 10_000  # of the whole data set
BATCH = 128  # users; RecBole: prefixes
PREFIXES = 2048  # its own default
THREADS = 2  # what the peers' scripts set
WIDTH = 64
ENCODER = SasrecSettings(blocks=2, heads=2, norm="pre", activation="gelu", expansion=4, dropout=0.2)


class Outcome(NamedTuple):
    """What one training came to."""

    epoch: float  # seconds, median over its epochs
    evaluation: float  # seconds
    hr: float | None  # HR@10, a fraction; None if the script gives none
    ndcg: float | None


class Side(NamedTuple):
    """One library, ready to train."""

    version: str  # what it stands on too; empty for ours, whose versions are those of the run
    train: Callable[[Path, int, int], Outcome]  # a folder with synth.csv, L, epochs


def quality(metrics: dict[str, float] | str, name: str) -> float | None:
    """Read a metric; a script that failed to get them says so instead."""
    return None if isinstance(metrics, str) else metrics[name]


class Peer(NamedTuple):
    """Another library: how its script is called, and what it prints."""

    environment: str  # folder of its virtual environment
    package: str
    script: str
    expansion: int  # its feed-forward layer is so many D wide
    arguments: Callable[[int, int], list[object]]  # of L and epochs
    read: Callable[[dict[str, Any]], Outcome]


PEERS = {
    "RecTools": Peer(
        "rectools",
        "rectools",
        "rectools_sasrec.py",
        1,
        lambda length, epochs: ["softmax", length, epochs, 1, BATCH],
        lambda found: Outcome(
            found["epoch_s_median"],
            found["recommend_s"] + found["metric_s"],
            found["HR@10"],
            found["NDCG@10"],
        ),
    ),
    "RePlay": Peer(
        "replay",
        "replay-rec",
        "replay_sasrec.py",
        1,
        lambda length, epochs: [length, epochs, BATCH],
        lambda found: Outcome(
            found["epoch_s_median"],
            found["eval_s"],
            *(quality(found["metrics"], name) for name in ("recall@10", "ndcg@10")),
        ),
    ),
    "RecBole": Peer(
        "recbole",
        "recbole",
        "recbole_sasrec.py",
        4,
        lambda length, epochs: [length, epochs, PREFIXES],
        lambda found: Outcome(
            found["epoch_s_median"], found["eval_s"], found["hit@10"], found["ndcg@10"]
        ),
    ),
}


def installed(environments: Path | None, scripts: Path, wanted: Collection[str]) -> dict[str, Side]:
    """Give those wanted of our sides and of the peers whose environment is there."""
    own = {name: Side("", partial(ours, expansion)) for expansion, name in OURS.items()}
    sides = {name: side for name, side in own.items() if name in wanted}
    if environments is None:
        return sides
    for name, peer in PEERS.items():
        python = environments / peer.environment / "bin/python"
        if name in wanted and python.exists():
            script = (scripts / peer.script).resolve()
            train = partial(run, peer, python.absolute(), script)
            sides[name] = Side(version(peer, python.absolute()), train)
    return sides


def counterpart(name: str) -> str:
    """Name our side that is as wide as a peer."""
    return OURS[PEERS[name].expansion]


def version(peer: Peer, python: Path) -> str:
    """Say the version of a peer in its environment, and of the torch it stands on.

    Raises:
        Stop: one of them is not installed there.
    """
    said = f"print(v({peer.package!r}), v('torch'))"
    words = [python, "-c", f"from importlib.metadata import version as v; {said}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise files.Stop(
            f"{python} lacks {peer.package} or torch ({done.stderr.splitlines()[-1]}): install it "
            "as the README beside the scripts says, or leave it out by --side"
        )
    own, torch_ = done.stdout.split()
    return f"{own} (torch {torch_})"


def ours(expansion: int, place: Path, length: int, epochs: int) -> Outcome:
    """Train the `id` run with full softmax, and rank all items for all users."""
    device.set_threads(THREADS)
    index.set_up("auto", THREADS)
    torch.manual_seed(0)
    parts = divide(place, length)
    settings = ENCODER.model_copy(update={"expansion": expansion})
    encoder = Sasrec(WIDTH, length, settings)
    tower = items.IdTower(len(parts.candidates) - 1, WIDTH)
    model = recommender.Recommender(tower, encoder)
    planned = plan(epochs)
    feed = batches.of_plan(parts, planned, encoder.masking, seed=0)
    phase = loop.Phase(model, planned, 0, Keeper(place, every=float("inf")))
    seconds = []
    for epoch in range(epochs):
        began = time.perf_counter()
        for batch in feed.epoch(epoch, 0, phase.device):
            phase.note(phase.step(batch))
        phase.settle()
        seconds.append(time.perf_counter() - began)
        phase.state.epoch, phase.state.step = epoch + 1, 0
    began = time.perf_counter()
    hr, ndcg = objective.validate(model, parts, recommender.ITEMS_A_PASS)
    return Outcome(statistics.median(seconds), time.perf_counter() - began, hr, ndcg)


def plan(epochs: int) -> schedule.Plan:
    """Plan as the peers learn: Adam at a constant rate, no decay of weights or rate."""
    return schedule.Plan(
        phase="probe",
        loss="full_softmax",
        negatives=Negatives(number=1, popularity=0.0, calibration=0.0),
        batch_users=BATCH,
        learning_rate=1e-3,
        weight_decay=0.0,
        encoder_learning_rate=0.0,
        encoder_weight_decay=0.0,
        warmup_steps=0,
        epochs=epochs,
        patience=epochs,
        decays=0,
        validate_every=epochs,
        select="ndcg@10",
    )


def divide(place: Path, length: int) -> Split:
    """Hold each user's last item out, the only one; the L + 1 before it are for training."""
    table = pl.read_csv(place / "synth.csv").sort("user_id", "datetime", maintain_order=True)
    catalogue, found = np.unique(table["item_id"].to_numpy(), return_inverse=True)
    counts = table.group_by("user_id", maintain_order=True).len()["len"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    whole = sequences.Lists((found + 1).astype(np.int32), offsets)
    before = sequences.drop_last(whole, 1)
    last = HeldOut(
        histories=sequences.last(before, length),
        masked=sequences.last(whole, 0),
        items=whole.items[offsets[1:] - 1],
    )
    candidates = np.arange(len(catalogue) + 1) > 0
    return Split(sequences.last(before, length + 1), valid=last, test=last, candidates=candidates)


def run(peer: Peer, python: Path, script: Path, place: Path, length: int, epochs: int) -> Outcome:
    """Run a peer's script in its own environment.

    Raises:
        Stop: it failed, or printed no result.
    """
    words = [str(word) for word in (python, script, *peer.arguments(length, epochs))]
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        words,
        cwd=place,  # where it leaves its logs
        env=os.environ | threads | {"PEER_DATA": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise files.Stop(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")
    return peer.read(parse(done.stdout))


def parse(printed: str) -> dict[str, Any]:
    """Read the dictionary a script prints last; NumPy writes its numbers as `np.float64(0.1)`.

    Raises:
        Stop: there is none.
    """
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if not lines:
        raise files.Stop(f"a peer's script must print a dictionary last, not {printed[-500:]!r}")
    found: dict[str, Any] = ast.literal_eval(re.sub(r"np\.\w+\(([^()]*)\)", r"\1", lines[-1]))
    return found


def make(scripts: Path, folder: Path) -> Path:
    """Make the whole data set, as the scripts' own maker does."""
    if not (folder / "synth.csv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, scripts / "make_data.py", folder], check=True)
    return folder


def derive(whole: Path, folder: Path, n_users: int, held_back: int) -> Path:
    """Write the data set of the first users without each one's last items.

    Args:
        whole: the folder of the whole data set.
        folder: where the new one goes.
        n_users: how many users to keep.
        held_back: items that are left out at the end of each user.
    """
    table = pl.read_csv(whole / "synth.csv").filter(pl.col("user_id") <= n_users)
    place = pl.int_range(pl.len(), dtype=pl.Int64).over("user_id")
    kept = table.filter(place < pl.len().over("user_id") - held_back)
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_csv(folder / "synth.csv")
    named = kept.select(
        pl.col("user_id").alias("user_id:token"),
        pl.col("item_id").alias("item_id:token"),
        pl.col("datetime").alias("timestamp:float"),
    )
    recbole = folder / "recbole/synth/synth.inter"
    recbole.parent.mkdir(parents=True, exist_ok=True)
    named.write_csv(recbole, separator="\t")
    return folder
