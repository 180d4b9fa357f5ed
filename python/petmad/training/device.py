"""Where a model is judged: the device, chosen by name, and what must move to it."""

from typing import TypeVar

import torch


AUTO = "auto"
Movable = TypeVar("Movable")


def choose_device(name: str = AUTO) -> torch.device:
    """The device of ``cpu``, ``cuda`` or ``cuda:N``; ``auto``: a GPU that torch sees.

    Raises:
        ValueError: another name, or no such device here.
    """
    n_devices = torch.cuda.device_count()
    if name == AUTO:
        return torch.device("cuda" if n_devices > 0 else "cpu")
    if name == "cpu":
        return torch.device(name)
    kind, colon, index = name.partition(":")
    if kind != "cuda" or (colon and not (index.isdecimal() and len(index) < 4)):
        raise ValueError(f"`device` must be auto, cpu, cuda or cuda:N, got {name!r}")
    if int(index or 0) >= n_devices:
        raise ValueError(
            f"`device` is {name!r}, but torch {torch.__version__} finds {n_devices} "
            "CUDA devices; check the driver and that a CUDA build of torch is "
            "installed, or use cpu"
        )
    return torch.device(name)


def engine_device(name: str = AUTO) -> str:
    """Likewise for the engine, which finds no GPU where it was built without CUDA."""
    from petmad._ops import load_ops

    load_ops()
    from petmad._core import n_cuda_devices

    if name == AUTO:
        return "cuda" if n_cuda_devices() > 0 else "cpu"
    return name  # the engine checks it


def moved(value: Movable, device: torch.device) -> Movable:
    """Tensors, and those inside of tuples, named ones and dicts, on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(part, device) for name, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(moved(part, device) for part in value))
    return value


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device
