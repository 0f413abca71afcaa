"""Command `breakeven`: frozen against end to end over the number of users. No stage of the flow.

Each number of users is a preset of its own, which `stages.preset` runs in a work tree of its own:
what is done stays done, and a killed command goes on when it is called again.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from pipeline import command
from pipeline.data import agreement, files, lists, presets
from pipeline.data.files import Stop
from pipeline.reporting import breakeven, breakeven_figure, breakeven_params, panels
from pipeline.reporting.results import Group

WHICH = typer.Option(help="which one, if the preset lists several")


class BreakEven(lists.Lists):
    """What is read of a preset; each of its sections is checked by the stage that reads it."""

    prepare: dict[str, Any]


def main(
    preset: Annotated[Path, typer.Option(help="a params.yaml, whole or with a base")],
    users: Annotated[list[int], typer.Option(min=0, help="a number of users; 0 = all of them")],
    scratch: Annotated[Path, typer.Option(help="where checkpoints live in a work tree")],
    cards: Annotated[Path, typer.Option(help="the folder of all data cards there")],
    evaluated: Annotated[Path, typer.Option(help="the folder of all evaluations there")],
    costs: Annotated[Path, typer.Option(help="the folder of all costs there")],
    out: Annotated[Path, typer.Option(help="the folder to write breakeven.md, .png, .csv to")],
    target: Annotated[str, WHICH] = "",
    content: Annotated[str, WHICH] = "",
    user_encoder: Annotated[str, WHICH] = "",
    unpack: Annotated[Path | None, typer.Option(help="a script that lays its data out")] = None,
    data: Annotated[str, typer.Option(help="where in .data, if not under the preset's name")] = "",
) -> None:
    """Run a preset with each number of users and draw what end to end adds to frozen."""
    numbers = breakeven_params.numbers(users)
    group, seeds = read(preset, target, content, user_encoder)
    written = [write(preset, group, number) for number in numbers]
    trees = [one.with_suffix("") for one in written]

    # Of the most users, prepared first, it is known soon whether there are so many.
    laid_out = ["--unpack", str(unpack), "--data", data or preset.stem] if unpack else []
    run(written[-1], scratch, *laid_out, f"prepare@{group.target}")
    card = files.read_json(trees[-1] / cards / group.target / "prepare" / "card.json")
    breakeven_params.check(group.target, numbers, card["users"])
    for one in written:
        run(one, scratch)

    check_code(trees)
    points = breakeven.gather(group, [(tree / evaluated, tree / costs) for tree in trees], seeds)
    files.write_text(out / "breakeven.csv", breakeven.table(points).write_csv())
    panels.save(breakeven_figure.draw(points), out / "breakeven.png")
    files.write_text(out / "breakeven.md", breakeven.document(points, "breakeven.png"))
    typer.echo(f"breakeven: {len(points)} numbers of users -> {out / 'breakeven.md'}")


def read(preset: Path, target: str, content: str, user: str) -> tuple[Group, list[int]]:
    """Read of a preset whose runs are compared, of those asked for, and their seeds.

    Raises:
        Stop: there is none, it is no params.yaml, or it does not list what is compared.
    """
    if not preset.is_file():
        raise Stop(f"--preset {preset}: there is no such file; name a params.yaml")
    try:
        p = BreakEven.model_validate(presets.read(preset))
        agreement.check(p, lists.generated(lists.FLOW))
        return breakeven_params.group(p, target, content, user), p.seeds
    except command.ERRORS as error:
        raise Stop(f"{preset} as {command.message(error)}") from error


def write(preset: Path, group: Group, users: int) -> Path:
    """Write the preset of one number of users, beside the work tree that will run it."""
    content = presets.read(preset)
    breakeven_params.narrow(content, group, users)
    path = presets.TREES / f"{preset.stem}-{users}.yaml"
    path.parent.mkdir(exist_ok=True)
    YAML().dump(content, path)
    return path


def run(preset: Path, scratch: Path, *more: str) -> None:
    """Run the preset of one number of users, or one stage of it, in its work tree."""
    typer.echo(f"breakeven: {preset.stem}")
    words = ["--preset", str(preset), "--scratch", str(scratch), *more]
    done = subprocess.run([sys.executable, "-m", "stages.preset", *words], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def check_code(trees: list[Path]) -> None:
    """See that all numbers of users were run by the same commit, however long that took.

    Raises:
        Stop: one was run by another.
    """
    words = [["git", "-C", str(tree), "rev-parse", "HEAD"] for tree in trees]
    heads = {subprocess.run(one, check=True, capture_output=True).stdout for one in words}
    if len(heads) > 1:
        raise Stop(
            "a commit was made while the curve was computed, so its points differ in code; "
            "run it again: what the commit does not concern is not computed anew"
        )


if __name__ == "__main__":
    command.run(main, checks_lists=False)
