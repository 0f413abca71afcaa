"""The proof on MovieLens-1M: our models beside published values, on their file and protocol.

    python -m benchmarks.ml1m                                     every recipe in turn: hours
    python -m benchmarks.ml1m --recipe sasrec-softmax --threads 1
    python -m benchmarks.ml1m --report                            how far all are; trains nothing

Killed at any moment, the next call with the same work folder goes on from the last checkpoint.
Recipes that are run apart come together in results/ml1m.json, each with its own machine and date.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import measure
from benchmarks import ml1m_data as data
from benchmarks import ml1m_recipes as recipes
from benchmarks import ml1m_tables as tables
from pipeline import command
from pipeline.data import files, scratch
from pipeline.retrieval import metrics, search
from pipeline.training import runs, schedule
from pipeline.training.checkpoint import Keeper
from pipeline.training.inputs import Inputs

NAME = "ml1m"
CUTOFFS = (5, 10, 20)
STARTED = "started.json"  # in a run's folder: what is trained there, by which code


def main(
    recipe: Annotated[
        list[str] | None, typer.Option(help=f"of {', '.join(recipes.RECIPES)}; default: all")
    ] = None,
    file: Annotated[Path, typer.Option("--data", help="ml-1m.txt, plain or .gz")] = data.FILE,
    work: Annotated[
        Path, typer.Option(help="where checkpoints and the prepared domain live")
    ] = Path("artifacts/ml1m"),
    seed: Annotated[int, typer.Option(help="of weights, batches and dropout")] = 0,
    threads: Annotated[int, typer.Option(help="of torch; 0 = one a core")] = 0,
    report: Annotated[bool, typer.Option(help="write how far runs are, and train nothing")] = False,
) -> None:
    """Train recipes to early stopping, read the test once, and write it beside published values."""
    wanted = recipe or [*recipes.RECIPES]
    for name in wanted:
        recipes.named(name)
    for name in wanted:
        if report:
            note(name, seed, work)
        else:
            keep(name, seed, train(name, seed, threads, file, work))


def train(name: str, seed: int, threads: int, file: Path, work: Path) -> dict[str, Any]:
    """Train one recipe, or go on with it, and give its result.

    Raises:
        Stop: the data is not there, the work folder holds the run of other settings, or the loss
            is not finite.
    """
    recipe, folder = recipes.named(name), place(name, seed, work)
    prepared = data.make(file, work)
    with scratch.locked(folder):
        begin(recipe, folder)
        settings = recipes.settings(recipe, seed, threads)
        run = runs.Work(runs.Name("id", NAME, "id", recipe.user), Inputs(prepared), settings)
        model = run.start(seed)
        run.fit(model, run.plan(run.points()[0], joint=False), seed, folder)
        items = model.item_vectors(run.split.candidates, settings.machine.embed_batch)
        found = progress(folder)
        assert found is not None, "a run that was trained has a checkpoint"
        for part, held_out in (("valid", run.split.valid), ("test", run.split.test)):
            queries = model.queries(held_out.histories, items)
            ranks = search.rank(queries, items, held_out, run.split.candidates, max(CUTOFFS))
            found[part] = metrics.summary(ranks, CUTOFFS)
        return found | {
            "users": len(run.prepared.users),
            "items": len(run.prepared.items),
            "interactions": len(run.prepared.sequences.items),
            "machine": measure.machine(),
        }


def place(name: str, seed: int, work: Path) -> Path:
    """Name the folder of a run's checkpoint."""
    return work / f"{name}-{seed}"


def begin(recipe: recipes.Recipe, folder: Path) -> None:
    """Note what is trained in a folder; code that changed since is noted and the run goes on.

    Raises:
        Stop: other settings are trained there.
    """
    path = folder / STARTED
    described = recipes.described(recipe)
    code = scratch.state([], runs.CODE)
    started: dict[str, Any] = {"recipe": described, "code": []}
    if path.exists():
        started = files.read_json(path)
    if started["recipe"] != described:
        raise files.Stop(
            f"{folder} holds a run of other settings than the recipe has now; name another folder "
            "by --work, or remove that one to train again"
        )
    if code not in started["code"]:
        files.write_json(path, {"recipe": described, "code": [*started["code"], code]})
    if started["code"] and started["code"][-1] != code:
        measure.say(f"{folder}: the code has changed since it began; it goes on, and is marked")


def progress(folder: Path) -> dict[str, Any] | None:
    """Read from its checkpoint how far a run is; None if it has none.

    Nothing is trained, and the test is not read.
    """
    saved = Keeper(folder, every=0).load()
    if saved is None:
        return None
    state = saved["state"]
    curve = [schedule.Row(*row) for row in state["curve"]]
    best, started = curve[state["best"]], files.read_json(folder / STARTED)
    return {
        "recipe": started["recipe"],
        "finished": state["finished"],
        "capped": state["capped"],
        "epochs": state["epoch"],
        "best_epoch": best.epoch,
        "valid": {"hr@10": best.hr, "ndcg@10": best.ndcg},
        "curve": [{"epoch": r.epoch, "loss": r.loss, "ndcg@10": r.ndcg} for r in curve],
        "seconds": state["seconds"],
        "users_per_second": state["trained_users"] / max(state["trained_seconds"], 1e-9),
        "parameters": sum(weights.numel() for weights in saved["weights"].values()),
        "codes": len(started["code"]),  # states of the code that trained it
    }


def note(name: str, seed: int, work: Path) -> None:
    """Write how far a run is; a result that stands already is left as it is."""
    found = progress(place(name, seed, work))
    if found is None:
        measure.say(f"{name}: nothing is trained in {place(name, seed, work)}")
    elif "test" in load().get(name, {}).get(str(seed), {}):
        measure.say(f"{name}: its result stands already")
    else:
        where = measure.machine()
        del where["threads"]  # of this call, which trains nothing
        keep(name, seed, found | {"machine": where})


def load() -> dict[str, Any]:
    """Read what is known: {recipe: {seed: result}}."""
    path = measure.FOLDER / "results" / f"{NAME}.json"
    if not path.exists():
        return {}
    known: dict[str, Any] = files.read_json(path)
    return known


def keep(name: str, seed: int, found: dict[str, Any]) -> None:
    """Write a run's result, or how far it is, with all that is known."""
    known = load()
    known.setdefault(name, {})[str(seed)] = found
    measure.write(NAME, known, tables.tables(known))


if __name__ == "__main__":
    command.run(main, checks_lists=False)
