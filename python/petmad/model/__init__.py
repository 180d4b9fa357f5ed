"""The network in plain torch: nothing here imports more than torch."""

from .config import PETConfig
from .graph import EdgeGraph
from .pet import PET
from .potential import Potential
from .readout import TargetSpec


__all__ = ["PET", "EdgeGraph", "PETConfig", "Potential", "TargetSpec"]
