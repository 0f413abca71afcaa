"""Where the computing happens: CPU or GPU, how many threads, in which precision."""

import contextlib
import os
import platform
import resource
import sys
from collections.abc import Iterator

import torch

from pipeline.content import processes
from pipeline.data import files, launch

TO_CPU = "machine.device to 'cpu'"  # what helps where a GPU is too small
SHARE = 0.4  # of a GPU's free memory that contents may take


def pick(device: str) -> torch.device:
    """Choose the device: `auto` is a GPU where there is one; of several processes each has its own.

    From here on torch's attention does without cuDNN's kernel, which it would prefer on an H100:
    that plans anew for every number and length of histories and items, and nearly every step has
    its own. Flash attention does not.

    Raises:
        files.Stop: `cuda` is asked for and there is none, or there are fewer than processes.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise files.Stop(
            "machine.device is 'cuda', but torch finds no CUDA device here. "
            "Set machine.device to 'auto' or 'cpu' in params.yaml, or fix the driver."
        )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.enable_cudnn_sdp(False)
    number = launch.local_rank()
    if device == "cpu" or number is None:
        return torch.device(device)
    there = torch.cuda.device_count()
    if number >= there:
        raise files.Stop(
            f"machine.processes is {os.environ['LOCAL_WORLD_SIZE']}, but torch finds {there} CUDA "
            "devices here, and each process needs its own. Set machine.processes to at most "
            f"{there} in params.yaml, or machine.device to 'cpu'."
        )
    return torch.device(device, number)


def set_threads(threads: int) -> None:
    """Let torch use so many threads; 0 leaves its own choice (the cores, or OMP_NUM_THREADS)."""
    if threads > 0:
        torch.set_num_threads(threads)


def name(device: torch.device) -> str:
    """Name all processes' devices for a cost table: `2 x NVIDIA H100`, `cpu x86_64, 2 threads`."""
    several = f"{processes.size()} x " if processes.size() > 1 else ""
    if device.type == "cuda":
        return several + torch.cuda.get_device_name(device)
    return f"{several}cpu {platform.machine()}, {torch.get_num_threads()} threads"


def precision(device: torch.device) -> torch.dtype:
    """Give the dtype that matrix products run in: bfloat16 on GPUs that have it, else float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Run in `precision(device)`: bfloat16 autocast on such GPUs, nothing on CPU."""
    if precision(device) == torch.bfloat16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def enough_memory(device: torch.device, items: int, advice: str = "") -> Iterator[None]:
    """Stop with advice where a device's memory is too small to encode so many items at once.

    Args:
        device: which.
        items: of a forward pass without gradients.
        advice: what to set in params.yaml; by default a smaller machine.embed_batch.

    Raises:
        files.Stop: it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not files.is_short_of_memory(error):
            raise
        what = f"{device} has too little memory to encode {items} items at once"
        advice = advice or (f"machine.embed_batch to {items // 2}" if items > 1 else TO_CPU)
        is_there = device.type == "cpu" and advice == TO_CPU
        fix = (
            "free some, or take a machine with more" if is_there else f"in params.yaml set {advice}"
        )
        raise files.Stop(f"{what}; {fix}") from error


def peak_memory(device: torch.device) -> int:
    """Give the most bytes held so far: the GPU's allocations, or the process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def has_room(device: torch.device, size: int) -> bool:
    """Tell whether contents of so many bytes may stay on a GPU; a CPU maps them from disk."""
    give_back(device)  # what torch has in store does not count as free
    return device.type == "cuda" and size < SHARE * torch.cuda.mem_get_info(device)[0]


def give_back(device: torch.device) -> None:
    """Give memory of a GPU that torch holds in store back, for others such as FAISS to take."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def move(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device; to a GPU from pinned memory, so that nobody waits for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
