"""Which parameters a training changes; the others get no gradient and no optimizer."""

from collections.abc import Collection

from petmad.model import Potential

from .direct import direct_targets
from .lora import add_low_rank
from .loss import ENERGY
from .new_rows import add_new_rows
from .options import Options


def trains_energy(options: Options) -> bool:
    """Whether the energy is among what is trained."""
    return options.data.energy_key is not None


def trained_energies(options: Options) -> list[str]:
    """Names of the energies that are trained, by index of their level of theory."""
    if not trains_energy(options):
        return []
    return [ENERGY, *(f"{ENERGY}/{name}" for name in options.data.levels)]


def select_parameters(
    potential: Potential, options: Options, new_targets: Collection[str] = ()
) -> None:
    """Ask gradients of the parameters of ``training.parameters`` alone; in place.

    Heads of new targets, and what a network knows of new elements, are among them. A
    network that no trained target reads (``exact`` ones do not) stays as it is, too.

    Args:
        potential: the model.
        options: of the training.
        new_targets: those that the model to start from did not have.
    """
    direct = [spec.name for spec in direct_targets(options.training)]
    names = [*options.targets, *trained_energies(options), *direct]
    choice = options.training.parameters
    trains_heads = choice != "lora" or options.finetune.train_heads
    is_read = False
    for spec, readout in zip(potential.targets, potential.readouts, strict=True):
        is_trained = spec.name in names
        has_head = trains_heads or spec.name in new_targets
        readout.requires_grad_(is_trained and has_head)
        is_read = is_read or (is_trained and spec.reads_network)
    potential.network.requires_grad_(is_read and choice == "all")
    if is_read and choice != "all":
        add_new_rows(potential, options.finetune.new_species)
    if choice == "lora":
        add_low_rank(potential, options.finetune)


def count_parameters(potential: Potential) -> tuple[int, int]:
    """Numbers of trained parameters, and of all; scales and compositions are none."""
    parts = (potential.network, potential.readouts)
    parameters = [p for part in parts for p in part.parameters()]
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return trained, sum(p.numel() for p in parameters)
