"""petmad: PET-MAD interatomic potentials in LAMMPS, ASE and PyTorch.

Importing this imports neither torch nor ASE; what needs them is loaded on first use.
"""

from typing import Any


__version__ = "0.1.0"
__all__ = ["PETMADCalculator", "__version__", "evaluate", "export_model", "load_ops"]


def __getattr__(name: str) -> Any:
    if name == "PETMADCalculator":
        from .calculator import PETMADCalculator

        return PETMADCalculator
    if name == "evaluate":
        from .training.report import evaluate

        return evaluate
    if name == "export_model":
        from .export import export_model

        return export_model
    if name == "load_ops":
        from ._ops import load_ops

        return load_ops
    raise AttributeError(f"module 'petmad' has no attribute {name!r}")
