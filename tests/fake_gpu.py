"""A GPU that is not there: what lies on it has a device, a dtype and a shape, but no numbers.

Forward passes and an optimizer's step run on it as on a real one with bfloat16: tensors on
different devices stop, and so do numbers that the host asks for. Not backward, for which torch's
engine wants a real one.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

__all__ = ["gpu"]

GPU = torch.device("cuda", 0)
# Operations that take numbers of one dtype alone, which those without numbers don't see to.
STRICT = {"mm", "addmm", "bmm", "baddbmm", "index_copy", "index_put", "scatter"}
ASSIGN = {"index_put", "index_put_"}
real_empty, real_numpy = torch.empty, torch.Tensor.numpy


class Gpu(FakeTensorMode):
    """Takes what is asked of a GPU; what is on the CPU alone is computed as always.

    `waits` counts copies to it and from it for which the host waits. A choice by marks waits too,
    and stops: a fake tensor says so itself but for assignments.
    """

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.is_taking = False  # an operation, which may be made of others
        self.waits = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        names_it = any(isinstance(one, torch.device) and one.type == "cuda" for one in leaves)
        before = self.is_taking
        if not (before or names_it or any(isinstance(one, FakeTensor) for one in leaves)):
            return operation(*args, **(kwargs or {}))
        numbers = {one.dtype for one in leaves if torch.is_tensor(one) and one.is_floating_point()}
        if operation.overloadpacket.__name__ in STRICT and len(numbers) > 1:
            raise RuntimeError(f"{operation} of {numbers}")
        if operation.overloadpacket.__name__ in ASSIGN and by_marks(*args[:3]):
            raise RuntimeError(f"{operation} by marks: nonzero")
        self.is_taking = True
        try:
            made = super().__torch_dispatch__(operation, types, args, kwargs)
        finally:
            self.is_taking = before
        if operation is torch.ops.aten._to_copy.default and not before:
            self.waits += waits(args[0], made.device, (kwargs or {}).get("non_blocking"))
        if operation is torch.ops.aten.copy_.default and not before:
            self.waits += waits(args[1], args[0].device, (*args, False)[2])
        return made


def waits(one, where, is_asked_not_to):
    """Tell whether the host waits for a copy."""
    return one.device.type != where.type and not is_asked_not_to


def by_marks(_, indices, values):
    """Tell whether an assignment must count marks first; one number is put in without that."""
    return values.numel() > 1 and has_marks(indices)


def has_marks(indices):
    """Tell whether some of an operation's indices are marks, not numbers."""
    return any(i is not None and i.dtype == torch.bool for i in indices)


def numpy(tensor):
    """Give zeros for the numbers that a tensor from the GPU has not."""
    if not isinstance(tensor, FakeTensor):
        return real_numpy(tensor)
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} device type tensor to numpy")
    return np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def gru(data, sizes, start, weights, *_):
    """Give what cuDNN would, which is not there, of the same width; its own rules hold."""
    assert sizes.device.type == "cpu" and not torch.is_autocast_enabled("cuda")
    assert len({(tensor.device, tensor.dtype) for tensor in (data, start, *weights)}) == 1
    return data.clone(), start


def empty(*size, pin_memory=False, **rest):
    """Make no pinned memory, for which there would have to be a driver."""
    return torch.zeros(*size, **rest) if pin_memory else real_empty(*size, **rest)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU inside a `with`; all of a test's models and batches are moved there in it."""
    if not torch.backends.cuda.is_built():
        pytest.skip("torch is built without CUDA")
    arrival = SimpleNamespace(synchronize=lambda: None)
    stream = SimpleNamespace(record_event=lambda: arrival)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: stream)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch._VF, "gru", gru)
    # Which transformers asks, and would look at no mask on this GPU.
    monkeypatch.setattr("transformers.utils.import_utils.is_fake_tensor", lambda _: False)
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    monkeypatch.setattr(torch.Tensor, "backward", lambda tensor: None)
    return Gpu()
