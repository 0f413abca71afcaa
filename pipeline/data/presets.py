"""Presets: whole params.yaml files, or the sections in which one differs from another."""

import os
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.data import lists

BASE = "base"  # names the whole file that a preset changes, as seen from the preset's folder
TREES = Path(".worktrees")  # of `stages.preset`, one a preset
DATA = Path(".data")  # raw data that git ignores; presets name it as if it were here


def read(preset: Path) -> Any:  # noqa: ANN401  # whatever YAML can hold
    """Read a preset; of one with a base, its own sections take the place of the base's.

    Raises:
        Stop: its base is not there, or has a base itself.
        YAMLError: it or its base is not YAML.
    """
    content = YAML().load(preset)
    if not isinstance(content, dict) or BASE not in content:
        return content
    named = content.pop(BASE)
    base = preset.parent / str(named)
    if not base.is_file():
        lists.stop(f"{BASE}: {named!r}", f"there is no {base}; name a file beside {preset}")
    whole = YAML().load(base)
    if not isinstance(whole, dict) or BASE in whole:
        lists.stop(f"{BASE}: {named!r}", f"{base} is not a whole params.yaml; name one that is")
    whole.update(content)
    return whole


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
