"""Presets: whole params.yaml files, or the sections in which one differs from another."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.data import agreement, files, lists

BASE = "base"  # names the file that a preset changes, as seen from the preset's folder
OWNER = Path(".dvc/tmp/preset")  # in a work tree: the preset it is of, as seen from the checkout
TREES = Path(".worktrees")  # of `stages.preset`, one a preset
DATA = Path(".data")  # raw data that git ignores; presets name it as if it were here


def read(preset: Path, *above: Path) -> Any:  # noqa: ANN401  # whatever YAML can hold
    """Read a preset; of one with a base, its own sections take the place of the base's.

    Args:
        preset: the file.
        above: those that stand on it, by which it is known whether they go round in a circle.

    Raises:
        Stop: its base is not there, holds no sections, or stands on it.
        YAMLError: it or its base is not YAML.
    """
    content = YAML().load(preset)
    if not isinstance(content, dict) or BASE not in content:
        return content
    named = content.pop(BASE)
    base = preset.parent / str(named)
    if not base.is_file():
        lists.stop(f"{BASE}: {named!r}", f"there is no {base}; name a file beside {preset}")
    if base.resolve() in {one.resolve() for one in (preset, *above)}:
        lists.stop(f"{BASE}: {named!r}", f"{base} stands on {preset} itself; name another")
    whole = read(base, preset, *above)
    if not isinstance(whole, dict):
        lists.stop(f"{BASE}: {named!r}", f"{base} holds no sections; name a params.yaml")
    whole.update(content)
    return whole


def check_owner(tree: Path, preset: Path) -> None:
    """See that a work tree, which is named by a preset's file name alone, is no other preset's.

    Raises:
        Stop: it is that of a preset in another folder, which is still there.
    """
    mark, own = tree / OWNER, os.path.relpath(preset)
    owner = mark.read_text(encoding="utf-8") if mark.is_file() else own
    if owner != own and Path(owner).is_file():
        raise files.Stop(
            f"{tree} is the work tree of {owner}, and {own} has the same name: rename one, or "
            f"give the tree up with `git worktree remove --force {tree}`"
        )


def claim(tree: Path, preset: Path) -> None:
    """Note whose work tree it is."""
    (tree / OWNER).parent.mkdir(parents=True, exist_ok=True)
    files.write_text(tree / OWNER, os.path.relpath(preset))


def resolve(value: Any, root: Path) -> Any:  # noqa: ANN401  # whatever YAML can hold
    """Make relative paths that leave the work tree, or lie in .data, absolute paths of `root`."""
    if isinstance(value, dict):
        for key in value:
            value[key] = resolve(value[key], root)
    elif isinstance(value, list):
        value[:] = [resolve(one, root) for one in value]
    elif isinstance(value, str) and value.startswith(("../", f"{DATA}/")):
        return os.path.normpath(root / value)  # a link stays one: its own name is the domain's
    return value


def check_visible(
    raws: Mapping[str, Mapping[str, str]],
    generated: Sequence[str],
    is_in_git: Callable[[str], bool],
) -> None:
    """See that a work tree sees the raw files that a preset names, once `resolve` has seen to them.

    Args:
        raws: `domains.all`.
        generated: the paths that only the demo writes, in the work tree too.
        is_in_git: whether git has something at a path.

    Raises:
        Stop: they lie in the checkout, outside git, where only it sees them.
    """
    for name, raw in raws.items():
        for key in ("folder", "covers"):
            path = raw[key]
            is_here = path and not Path(path).is_absolute() and Path(path).exists()
            if is_here and not agreement.is_of_demo(path, generated) and not is_in_git(path):
                lists.stop(
                    f"domains.all.{name}.{key}: {path!r}",
                    f"a preset has a work tree of its own, which sees of the checkout git's files "
                    f"and {DATA}/ alone: move it there or beside the checkout, and name it so",
                )
