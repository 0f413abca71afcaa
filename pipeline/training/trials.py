"""A whole run: the search with the first seed, the chosen point with the others, and its cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.content import device, prefix, processes
from pipeline.data import files, scratch
from pipeline.training import flops, grid, outputs, runs, schedule
from pipeline.training.progress import Progress

PHASES = ("probe", "joint")


def run(work: runs.Work, out: Path, cost: Path, scratch_root: Path) -> None:
    """Do a run and write its folder and its cost.

    Killed, it goes on from its last checkpoint; a process that still does the same run is waited
    for, and its result taken.

    Args:
        work: the run.
        out: the run's folder; with several seeds it holds one folder a seed.
        cost: the JSON file of what it cost, apart from results, so that those can be equal.
        scratch_root: where checkpoints live until the run is done.

    Raises:
        Stop: the loss is not finite, or the settings do not fit each other.
    """
    described = [work.name, work.decisive_settings()]
    key = scratch.key(described, work.state)
    folder = scratch_root / key
    with processes.group(work.device), processes.alone(folder) as waited:
        if processes.first_says(waited and scratch.is_done(key, out, cost)):
            return
        progress = Progress(f"{work.name.run} on {work.name.domain}")
        with processes.out_folder(out) as part:
            spent = write_all(work, part, folder, progress)
        if processes.is_first():
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            files.write_json(cost, {"key": key, **spent, "run_bytes": size})
            scratch.clear(folder)
        progress.say(f"done in {spent['seconds']:,.0f} s -> {out}")


def write_all(work: runs.Work, out: Path, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train every seed, let the first process write it, and return what it cost."""
    seeds = work.settings.seeds
    if not work.kind.trains:
        taken = work.take()
        progress.say(judged(taken.last.best))
        outputs.write(out, work, taken, seeds[0])
        return measure(work, taken, {}, trials=0)
    tried, point, first = search(work, folder, progress)
    if processes.is_first():
        outputs.write_search(out, tried, first.phases)
    phases = {name: phase for _, fitted in tried for name, phase in fitted.items()}
    searched = sum(phase.seconds for phase in phases.values())
    progress.say(f"{judged(first.last.best)}, {point.text()}")
    for seed in seeds:
        if seed != seeds[0]:
            progress.say(f"seed {seed}: {point.text()}")
        trained = first if seed == seeds[0] else work.train(point, seed, folder)
        outputs.write(out / str(seed) if len(seeds) > 1 else out, work, trained, seed)
        phases |= trained.phases
    return {**measure(work, first, phases, len(tried)), "search_seconds": searched}


class Attempt(NamedTuple):
    """Points that were trained, and the one of them that does best on validation."""

    tried: list[outputs.Tried]  # in their order
    point: grid.Point
    trained: runs.Trained  # its model, the only one that is kept


def search(work: runs.Work, folder: Path, progress: Progress) -> Attempt:
    """Try all points with the first seed.

    Where an encoder joins after a probe, the probes are tried first, as the frozen run tries them:
    its start is the model that the frozen run takes, and only the encoder's rate is searched from
    there. So what end to end adds is the encoder's doing, not that of another weight decay.
    """
    points = work.points()
    if not work.has_probe:
        return attempt("setting", work.train, points, work, folder, progress)
    probes = [point._replace(encoder_learning_rate=0.0) for point in points]  # no encoder trains
    tried, best = list[outputs.Tried](), probes[0]
    if len(probes) > 1:
        work.unfrozen(work.settings.seeds[0])  # encoders that can't train stop before hours
        # Without the best one's model, which holds all embeddings.
        tried, best = attempt("probe", work.probe, probes, work, folder, progress)[:2]
    joint = attempt("setting", work.train, work.joint_points(best), work, folder, progress)
    return joint._replace(tried=tried + joint.tried)


def attempt(
    what: str,
    train: Callable[[grid.Point, int, Path], runs.Trained],
    points: list[grid.Point],
    work: runs.Work,
    folder: Path,
    progress: Progress,
) -> Attempt:
    """Train points, one or more, with the first seed.

    Args:
        what: what progress calls one of them.
        train: trains a point with a seed, going on from a folder.
        points: the settings to try.
        work: the run.
        folder: where checkpoints live.
        progress: to say which one is tried.
    """
    seed, select = work.settings.seeds[0], work.settings.protocol.select
    tried = list[outputs.Tried]()
    best: Attempt | None = None
    for number, point in enumerate(points, 1):
        progress.say(f"{what} {number} of {len(points)}, seed {seed}: {point.text()}")
        trained = train(point, seed, folder)
        tried.append((point, trained.phases))
        if best is None or trained.score(select) > best.trained.score(select):
            best = Attempt(tried, point, trained)
    assert best is not None, "a search has at least one point"
    return best


def judged(best: schedule.Row) -> str:
    """Say how a model does on validation."""
    return f"HR@10 {best.hr:.4f}, NDCG@10 {best.ndcg:.4f} on validation"


def measure(
    work: runs.Work, trained: runs.Trained, phases: dict[str, schedule.Fitted], trials: int
) -> dict[str, Any]:
    """Add up what a run cost, killed and resumed parts together.

    Args:
        work: the run.
        trained: its first seed's model at the chosen point.
        phases: every phase of every trial and seed; one that trials share counts once.
        trials: settings tried, probes among them.
    """
    own = {name.partition("-")[0]: phase for name, phase in trained.phases.items()}
    parameters = [*trained.model.parameters()]
    kept = [one for one in work.contents.values() if isinstance(one, prefix.Kept)]
    learning = [p for p in parameters if p.requires_grad] if work.kind.trains else []
    return {
        "seconds": sum(phase.seconds for phase in phases.values()) + work.prefix_seconds,
        "prefix_seconds": work.prefix_seconds,
        **{f"{name}_seconds": own[name].seconds if name in own else 0.0 for name in PHASES},
        **(paces(work, trained, own) if work.kind.trains else {}),
        "users_per_second": trained.last.users_per_second,
        "peak_memory_bytes": max(phase.peak_memory for phase in trained.phases.values()),
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in learning),
        "device": device.name(work.device),
        "epochs": sum(phase.epochs for phase in trained.phases.values()),
        "capped": any(phase.capped for phase in trained.phases.values()),
        "trials": trials,
        "embeddings_bytes": sum(one.vectors.nbytes for one in work.embedded.values()),
        "prefix_bytes": sum(one.bytes for one in kept),
    }


def paces(
    work: runs.Work, trained: runs.Trained, phases: dict[str, schedule.Fitted]
) -> dict[str, Any]:
    """Say what a step and an epoch of each phase take, and how long the best epoch was away.

    No epoch is timed for itself: those of a phase do the same, and count as equally long.

    Args:
        work: the run.
        trained: its first seed's model at the chosen point.
        phases: the phases that made it, by their plain names.
    """
    found: dict[str, Any] = {}
    point = work.points()[0]  # rates make no difference to a step's operations
    for name, phase in phases.items():
        model = trained.model
        if name == "probe" and work.end2end is not None:
            model = flops.probe_of(model, work.embedded)
        plan = work.plan(point, joint=name == "joint")
        found[f"{name}_step_flops"] = flops.of_step(model, work.split, plan)
        found[f"{name}_epoch_seconds"] = phase.seconds / max(1, phase.epochs)
    *before, last = phases.values()
    until = last.seconds * last.best.epoch / max(1, last.epochs)
    found["best_epoch_seconds"] = sum(one.seconds for one in before) + until + work.prefix_seconds
    return found
