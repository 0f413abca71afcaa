"""The entry of every stage: Typer, and one clear message where something stops it."""

import sys
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml.error import YAMLError

from pipeline.data import lists
from pipeline.data.files import Stop
from pipeline.params import FILE


def run(main: Callable[..., Any]) -> None:
    """Run a stage's `main` as a command; a stop becomes a message and exit status 1.

    The lists of params.yaml are checked first, whatever the stage reads of them.
    """
    try:
        if FILE.exists():
            lists.check(lists.Lists.load())
        typer.run(main)
    except Stop as stop:
        sys.stderr.write(f"\nstopped: {stop}\n")
        sys.exit(1)
    except YAMLError as error:
        sys.stderr.write(f"\nstopped: {FILE} is not YAML: {error}\n")
        sys.exit(1)
    except ValidationError as error:
        problems = [f"  {problem(one)}" for one in error.errors()]
        sys.stderr.write("\n".join([f"\nstopped: {FILE} does not fit:", *problems]) + "\n")
        sys.exit(1)


def problem(error: ErrorDetails) -> str:
    """Say where in params.yaml what does not fit, and what is there; of a missing key nothing."""
    where = ".".join(map(str, error["loc"])) or "the whole file"
    found = "" if error["type"] == "missing" else f" (found: {error['input']!r})"
    return f"{where}: {error['msg']}{found}"
