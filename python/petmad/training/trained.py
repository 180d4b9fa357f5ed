"""Which parameters a training changes; the others get no gradient and no optimizer."""

from petmad.model import Potential

from .loss import ENERGY
from .options import Options


def trains_energy(options: Options) -> bool:
    """Whether the energy is among what is trained."""
    return options.data.energy_key is not None


def select_parameters(potential: Potential, options: Options) -> None:
    """Ask gradients of the parameters of ``training.parameters`` alone; in place.

    A network that no trained target reads (``exact`` ones do not) stays as it is, too.
    """
    names = [*options.targets, *([ENERGY] if trains_energy(options) else [])]
    is_read = False
    for spec, readout in zip(potential.targets, potential.readouts, strict=True):
        is_trained = spec.name in names
        readout.requires_grad_(is_trained)
        is_read = is_read or (is_trained and spec.reads_network)
    is_trained = is_read and options.training.parameters == "all"
    potential.network.requires_grad_(is_trained)
