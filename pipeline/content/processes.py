"""Several processes of one command, started by torchrun: which of them this is, and how to start.

One process a GPU; on CPUs, so many as one likes. Where there is one process alone, `size` is 1 and
nothing here costs anything.
"""

import atexit
import contextlib
import os
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from pipeline.data import files, launch, scratch

PATIENCE = timedelta(days=1)  # for one another: the first may wait for a former run to end
# Seconds until the first process that failed says why, in which it is ended where what failed was
# an exchange with one that has ended; and until another one does, in which the first may have.
FIRST, OTHERS = 1.0, 5.0
Said = TypeVar("Said")


def start(wanted: int) -> bool:
    """Start so many processes of the present command, unless this is one of them or 1 is wanted.

    Returns:
        Whether they were started; then all is done.

    Raises:
        Stop: this is no command, this is one of another number of processes, or one of them
            failed, which ends the others too.
    """
    if launch.is_one_of_several():
        of = int(os.environ["WORLD_SIZE"])
        if of != wanted:
            raise files.Stop(
                f"machine.processes is {wanted}, but RANK and WORLD_SIZE in the environment say "
                f"that this is one of {of} processes: start one command without torchrun, it "
                f"starts its processes itself; or set machine.processes to {of}"
            )
        return False
    if wanted == 1:
        return False
    spec = sys.modules["__main__"].__spec__
    if spec is None or not spec.name.startswith("stages."):
        raise files.Stop(
            f"machine.processes is {wanted}: several processes are started by a command, such as "
            "`python -m stages.train`; set it to 1 elsewhere"
        )
    # What torchrun is made of, without its traceback below the message of the process that failed;
    # a second to import.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // wanted)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=wanted,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # not the machine's name, which need not lead anywhere
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", spec.name, *sys.argv[1:])
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        ended = f"failed with exit status {status}: what it said stands above"
        if status < 0:
            ended = f"was killed by signal {-status} (9: perhaps for want of memory); run it again"
        raise files.Stop(f"one of {wanted} processes (machine.processes) {ended}") from error
    except SignalException as error:  # the processes have ended with it
        sys.exit(128 + error.sigval)
    return True


@contextlib.contextmanager
def group(where: torch.device) -> Iterator[None]:
    """Join the processes that were started together, until the end of the block."""
    if not launch.is_one_of_several():
        yield
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
        # What lies on CPUs is exchanged there: no process waits for its GPU.
        backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=PATIENCE, device_id=where)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield
    except Exception:
        # The group stays: others may be inside an exchange, which would fail with a traceback of
        # theirs; when this process has ended, they are ended. Where all fail alike, one speaks.
        time.sleep(FIRST if is_first() else OTHERS)
        atexit.register(_leave)
        raise
    distributed.destroy_process_group()


def _leave() -> None:
    """End this process with exit status 1, without the group's threads, which would abort it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def rank() -> int:
    """Give this process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """Count the processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this is the process that writes, also where the group has ended."""
    return launch.is_first()


def wait() -> None:
    """Wait until all processes have come here."""
    if size() > 1:
        distributed.barrier()


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in its place."""
    if size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def first_says(said: Said) -> Said:
    """Take the first process's word; all wait for it."""
    box = [said]
    if size() > 1:
        distributed.broadcast_object_list(box)
    return box[0]


def out_folder(out: Path) -> contextlib.AbstractContextManager[Path]:
    """Give the folder that takes the place of `out`, in which the first process alone may write."""
    return files.atomic_folder(out) if is_first() else contextlib.nullcontext(out)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Hold a scratch folder for all processes of this command: the first one holds its lock.

    Yields:
        Whether another command was waited for: it may have finished the work.
    """
    lock = scratch.locked(folder) if is_first() else contextlib.nullcontext(False)
    with lock as waited:
        yield first_says(waited)
        wait()  # none works in it once the lock is gone
