"""The entry of every stage: Typer, and one clear message where something stops it."""

import datetime
import errno
import importlib
import io
import multiprocessing
import pkgutil
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.data import agreement, files, lists
from pipeline.data.files import Stop
from pipeline.params import FILE, UNKNOWN_KEY, Params

# Of an OSError: a path is of another kind, or not allowed. That one is not there may be a defect.
WRONG_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)
ERRORS = (Stop, YAMLError, ValidationError)  # of the user's input


def run(main: Callable[..., Any], checks_lists: bool = True) -> None:
    """Run a stage's `main` as a command; a stop becomes a message and exit status 1.

    Args:
        main: what Typer makes a command of.
        checks_lists: whether the lists of params.yaml are checked first, whatever `main` reads of
            them; not where help is asked for.
    """
    try:
        if checks_lists and FILE.exists() and "--help" not in sys.argv:
            agreement.check(lists.Lists.load(), lists.generated(lists.FLOW))
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(main)  # with plain tracebacks: boxes break paths in two at their edge
        app()
    except ERRORS as error:
        _stop(message(error))
    except Exception as error:
        if files.is_short_of_memory(error):
            said = str(error).partition("\n")[0] or type(error).__name__
            fix = (
                "free some, or take a machine with more; training needs less of it with a smaller "
            )
            fix += "training.batch_users in params.yaml. Finished work is kept"
            _stop(f"not enough memory ({said}): {fix}")
        if isinstance(error, FileNotFoundError) and error.filename in (FILE, str(FILE)):
            _stop(f"there is no {FILE} in {Path.cwd()}; call it in the folder that has one")
        if isinstance(error, OSError) and error.errno in WRONG_PATH:
            _stop(f"{error}: name another path, or let this one be read or written")
        if not files.is_full(error):
            raise
        fix = "free some space and run again; finished work is kept"
        _stop(f"a disk is full ({error}): {fix}")


def _stop(what: str) -> NoReturn:
    """Say why there is no going on, and leave."""
    sys.stderr.write(f"\nstopped: {what}\n")
    sys.exit(1)


def check_whole(content: dict[str, Any], stages: ModuleType) -> None:
    """See that a whole params.yaml has lists that agree, and sections that fit a package's stages.

    Raises:
        Stop: the lists don't agree, nothing reads a section, or one is not there.
        ValidationError: a section does not fit a stage that reads it.
    """
    known = lists.sections(lists.FLOW)
    if unread := [name for name in content if name not in known]:  # before what then is missing
        lists.stop(f"nothing reads {unread}", f"the sections are {', '.join(sorted(known))}")
    agreement.check(lists.Lists.model_validate(content), lists.generated(lists.FLOW))
    if lacking := sorted(lists.needed(lists.FLOW, content) - set(content)):
        lists.stop(f"there is no {', '.join(lacking)}", "take it from the shipped file")
    for stage in pkgutil.iter_modules(stages.__path__):
        importlib.import_module(f"{stages.__name__}.{stage.name}")
    for model in sorted(_below(Params), key=lambda model: model.__qualname__):
        if set(model.model_fields) <= set(content):  # the rest is of stages that are not there
            model.model_validate(content)


def check_apart(content: dict[str, Any], stages: ModuleType) -> None:
    """Do as `check_whole` does, in a process that ends: all stages together hold 1 GB.

    Raises:
        Stop: the content does not fit.
    """
    text = io.StringIO()  # a process is sent no YAML with comments
    YAML().dump(content, text)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        said = process.submit(_misfit_of, text.getvalue(), stages.__name__).result()
    if said:
        raise Stop(said)


def _misfit_of(content: str, stages: str) -> str:
    """Say what `check_whole` stops at in a params.yaml; nothing where all is well."""
    try:
        check_whole(YAML(typ="safe").load(content), importlib.import_module(stages))
    except ERRORS as error:
        return message(error)
    return ""


def message(error: Exception) -> str:
    """Say what is wrong with the user's input, for one of ERRORS."""
    if isinstance(error, ValidationError):
        return _misfit(error)
    return f"{FILE} is not YAML: {error}" if isinstance(error, YAMLError) else str(error)


def _misfit(error: ValidationError) -> str:
    """Say what does not fit: params.yaml, or a file that holds something else, and where."""
    is_params = error.title in {one.__name__ for one in _below(Params)}
    what = str(FILE) if is_params else f"a file that holds {error.title}"
    problems = [f"  {problem(one)}" for one in error.errors()]
    return "\n".join([f"{what} does not fit:", *problems])


def _below(model: type[Params]) -> set[type[Params]]:
    """Give all classes that a class is the parent or forebear of."""
    children = set(model.__subclasses__())
    return children.union(*map(_below, children))


def problem(error: ErrorDetails) -> str:
    """Say where in the file what does not fit, and what is there; of keys nothing more."""
    where = ".".join(map(str, error["loc"])) or "the whole file"
    said = error["msg"].removeprefix("Value error, ")
    found = "" if error["type"] in {"missing", UNKNOWN_KEY} else f" (found: {error['input']!r})"
    if isinstance(error["input"], datetime.date):
        found = f" (found: the date {error['input']}; if it is a name, write it in quotes)"
    return f"{where}: {said}{found}"
