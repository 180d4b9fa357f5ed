"""A device that is not the CPU, where there is none: it says so, and computes here.

Tensors on it claim torch's ``meta`` device, hold their numbers, and refuse to meet
tensors of the CPU (other than single numbers, as on a GPU). Code that forgets to move a
tensor, or makes one where the others are not, fails in it as it would on a GPU.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


ELSEWHERE = torch.device("meta")


class Away(torch.Tensor):
    """A tensor on that device; ``here`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        """A wrapper, of the size and dtype of what it has."""
        return torch.Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), dtype=here.dtype, device=ELSEWHERE
        )

    def __init__(self, here):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """Where the device exists; ``n_operations`` counts those that ran on it."""

    n_operations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = run(operation, args, kwargs or {})
        self.n_operations += any(isinstance(t, Away) for t in tree_leaves(results))
        return results


def run(operation, args, kwargs):
    """One operation, on the numbers."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    is_away = any(isinstance(tensor, Away) for tensor in tensors)
    strangers = [t for t in tensors if t.dim() > 0 and not isinstance(t, Away)]
    if is_away and strangers and not may_mix(operation, args):
        raise AssertionError(f"{operation} got tensors of two devices")
    if kwargs.get("device") is not None:
        is_away = kwargs["device"] == ELSEWHERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    results = operation(*tree_map(_here, args), **tree_map(_here, kwargs))
    return tree_map(_away, results) if is_away else results


def may_mix(operation, args):
    """Copies, and indices of the CPU into a tensor that is away, as on a GPU."""
    if operation is torch.ops.aten.index.Tensor:
        return isinstance(args[0], Away)
    return operation is torch.ops.aten.copy_.default


def _here(value):
    return value.here if isinstance(value, Away) else value


def _away(value):
    is_plain = isinstance(value, torch.Tensor) and not isinstance(value, Away)
    return Away(value) if is_plain else value
