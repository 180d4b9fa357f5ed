"""One test body for both sides: the kernels on a GPU, or their emulation on the CPU.

``torch.ops.petmad_cuda`` takes tensors of either device; on CPU tensors it runs the
same kernels one lane after another, forwards or backwards, shared memory filled with
NaN beforehand.
"""

import contextlib

import torch

from petmad._ops import load_ops


load_ops()
kernels = torch.ops.petmad_cuda


class Emulated:
    """``torch.ops.petmad`` with every operator emulated that has kernels for GPUs."""

    def __init__(self) -> None:
        self.others = torch.ops.petmad

    def __getattr__(self, name: str):
        """The emulation of an operator, or the CPU's own."""
        return getattr(kernels, name, None) or getattr(self.others, name)


TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Relative to the largest number of its kind, against sums in another order."""


def assert_alike(
    found: torch.Tensor,
    wanted: torch.Tensor,
    what: str = "",
    dtype: torch.dtype | None = None,
) -> None:
    """Equal within the tolerance of the data type computed in; NaN is not."""
    assert found.shape == wanted.shape, what
    assert found.dtype == wanted.dtype, what
    if wanted.numel() == 0:
        return
    difference = (found.cpu() - wanted.cpu()).abs().max()
    scale = wanted.abs().max().cpu().clamp(min=1e-30)
    tolerance = TOLERANCES[dtype or wanted.dtype]
    assert difference <= tolerance * scale, (what, difference / scale)


@contextlib.contextmanager
def backwards():
    """Emulated lanes and items in reverse order: a race would change the answer."""
    kernels.run_backwards(True)
    try:
        yield
    finally:
        kernels.run_backwards(False)


def assert_same_in_reverse(function) -> None:
    """The results of ``function()`` do not depend on the order of the lanes."""
    forward = function()
    with backwards():
        reverse = function()
    for a, b in zip(forward, reverse, strict=True):
        assert torch.equal(a, b)


def with_gradients(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output, then the gradients of a fixed random sum of it in each input."""
    leaves = [x.detach().clone().requires_grad_(True) for x in inputs]
    output = function(*leaves)
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    total = (output * weights.to(output)).sum()
    return [output.detach(), *torch.autograd.grad(total, leaves)]
