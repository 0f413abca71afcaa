"""The section `machine`: for cost, so DVC does not track it; README says what moves results."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from pipeline.params import Section

PrefixCache = Literal["auto", "required", "off"]


class Machine(Section):
    """How the work is done on this machine."""

    device: Literal["auto", "cpu", "cuda"]  # auto: a GPU where there is one
    threads: NonNegativeInt  # of torch and FAISS; 0 = the cores, or OMP_NUM_THREADS
    embed_batch: PositiveInt  # items a forward pass of `embed` and of validation
    prefix_cache: PrefixCache  # run what is frozen of a training encoder once an item, and keep it
    micro_batch_items: NonNegativeInt  # that an encoder trains at once; 0 = all of a step
    compile: bool  # torch.compile what trains, where the device is a GPU
    processes: PositiveInt  # of training and embedding, one a GPU, through torchrun
    checkpoint_seconds: NonNegativeInt  # at least so long between two checkpoints inside an epoch
