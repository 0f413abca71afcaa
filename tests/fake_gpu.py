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
real_empty, real_numpy = torch.empty, torch.Tensor.numpy


class Gpu(FakeTensorMode):
    """Takes what is asked of a GPU; what is on the CPU alone is computed as always.

    `copies` counts what came back to the CPU, each time with a wait.
    """

    def __init__(self):
        super().__init__(allow_non_fake_inputs=True)
        self.is_taking = False  # an operation, which may be made of others
        self.copies = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        names_it = any(isinstance(one, torch.device) and one.type == "cuda" for one in leaves)
        before = self.is_taking
        if not (before or names_it or any(isinstance(one, FakeTensor) for one in leaves)):
            return operation(*args, **(kwargs or {}))
        numbers = {one.dtype for one in leaves if torch.is_tensor(one) and one.is_floating_point()}
        if operation.overloadpacket.__name__ in STRICT and len(numbers) > 1:
            raise RuntimeError(f"{operation} of {numbers}")
        self.is_taking = True
        try:
            made = super().__torch_dispatch__(operation, types, args, kwargs)
        finally:
            self.is_taking = before
        if operation is torch.ops.aten._to_copy.default and not before:
            self.copies += args[0].device.type == "cuda" and made.device.type == "cpu"
        return made


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
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    monkeypatch.setattr(torch.Tensor, "backward", lambda tensor: None)
    return Gpu()
