"""petmad: PET-MAD interatomic potentials in LAMMPS, ASE and PyTorch.

Importing this imports neither torch nor ASE; what needs them is loaded on first use.
"""

import importlib
from typing import Any


__version__ = "0.1.0"
__all__ = [
    "PETMADCalculator",
    "__version__",
    "born_charges",
    "evaluate",
    "export_model",
    "load_ops",
    "raman_tensors",
]
_HOMES = {
    "PETMADCalculator": "calculator",
    "born_charges": "response",
    "evaluate": "training.report",
    "export_model": "export",
    "load_ops": "_ops",
    "raman_tensors": "response",
}
_SUBMODULES = (
    "aoti",
    "conversion",
    "data",
    "export",
    "model",
    "neighbors",
    "response",
    "rotations",
    "spectra",
    "training",
)
"""Those that the documentation names."""


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES])


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'petmad' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
