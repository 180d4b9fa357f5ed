"""A trained model for data it was not made for: new energies, and new elements.

New energies begin as copies of one that exists, new elements as copies of known ones,
which the options name. Energies of elements are then fitted to what the network leaves
of the data, so that a fine-tuning starts from the best zero of energy.
"""

import logging
from collections.abc import Sequence

import torch
from ase.data import atomic_numbers as numbers_of_symbols

from petmad.data import Sample, collate
from petmad.data.lazy import of_level
from petmad.model import Potential

from .baseline import RANK_TOLERANCE
from .checkpoint import make_potential
from .loss import ENERGY
from .options import Options
from .trained import trained_energies


LOG = logging.getLogger(__name__)
N_LOOKED_AT = 64
"""Structures, up to twice as many, that tell whether the zero of energy is another."""
ZERO_CONTRAST = 10.0
"""How many times better energies of elements must explain them."""
SMALL_SHIFT = 0.1
"""eV/atom; smaller shifts are learned soon."""


def with_species(origin: Potential, new_species: dict[str, str]) -> Potential:
    """The same model with further elements, copies of known ones.

    Args:
        origin: the model.
        new_species: symbols of new elements, and of those they are copies of.

    Raises:
        ValueError: a symbol is none, a new one known already, a known one unknown, or a
            target has more per element than rows of numbers.
    """
    if not new_species:
        return origin
    known = origin.atomic_numbers
    for symbol in (*new_species, *new_species.values()):
        if symbol not in numbers_of_symbols:
            raise ValueError(f"`finetune.new_species`: {symbol!r} is no element")
    copied = {
        numbers_of_symbols[new]: numbers_of_symbols[old]
        for new, old in new_species.items()
    }
    if set(copied) & set(known) or not set(copied.values()) <= set(known):
        raise ValueError(
            f"`finetune.new_species` {new_species} must map elements that the model "
            f"lacks to elements it has; it has atomic numbers {known}"
        )
    numbers = sorted({*known, *copied})
    rows = torch.tensor([known.index(copied.get(z, z)) for z in numbers])
    dtype = str(next(origin.network.parameters()).dtype).removeprefix("torch.")
    potential = make_potential(origin.config, numbers, origin.targets, dtype)
    state, old = potential.state_dict(), origin.state_dict()
    for name, value in state.items():
        if value.shape == old[name].shape:
            state[name] = old[name]
        elif value.shape == (len(numbers), *old[name].shape[1:]):
            is_own = name.startswith("zbl.")  # radii and charges are facts, not guesses
            state[name] = value if is_own else old[name][rows]
        else:
            raise ValueError(
                f"`finetune.new_species`: {name} is a table over pairs of elements, "
                "which cannot be continued; leave its target out of the model"
            )
    potential.load_state_dict(state)
    return potential


def adapt_compositions(
    potential: Potential,
    new_targets: Sequence[str],
    samples: Sequence[Sample],
    options: Options,
) -> None:
    """Fit the energies of elements that a model cannot know yet, in place.

    Args:
        potential: the model to start from.
        new_targets: those it did not have.
        samples: to train on.
        options: of the training.
    """
    finetune = options.finetune
    numbers = potential.atomic_numbers
    added = [numbers.index(numbers_of_symbols[s]) for s in finetune.new_species]
    for level, name in enumerate(trained_energies(options)):
        is_new = name in new_targets
        refits_all = is_new or (name == ENERGY and finetune.composition == "fit")
        species = list(range(len(numbers))) if refits_all else added
        chosen = of_level(samples, level)
        if species:
            refit_composition(potential, name, chosen, species)
        if name == ENERGY and not refits_all:
            warn_of_another_zero(potential, chosen)


def warn_of_another_zero(potential: Potential, samples: Sequence[Sample]) -> None:
    """Log where energies of elements explain what the model gets wrong at first.

    Args:
        potential: the model to start from.
        samples: to train on; some of them are evaluated.
    """
    step = max(1, len(samples) // N_LOOKED_AT)
    chosen = [samples[i] for i in range(0, len(samples), step)]
    residuals, counts = energy_residuals(potential, ENERGY, chosen)
    shares = counts[:, counts.any(0)] / counts.sum(1, keepdim=True)
    per_atom = residuals / counts.sum(1)
    if len(chosen) < 2 * shares.shape[1]:
        return  # so few structures are always explained
    solution = torch.linalg.lstsq(
        shares, per_atom[:, None], rcond=RANK_TOLERANCE, driver="gelsd"
    ).solution
    rest = per_atom - (shares @ solution)[:, 0]
    before, after = (float(v.square().mean().sqrt()) for v in (per_atom, rest))
    if before > max(ZERO_CONTRAST * after, SMALL_SHIFT):
        LOG.warning(
            "the data have another zero of energy than the model: %.3g eV/atom off, "
            "but %.3g after a fit of one energy per element, with which "
            "`finetune.composition: fit` begins",
            before,
            after,
        )


def energy_residuals(
    potential: Potential, name: str, samples: Sequence[Sample]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model leaves of energies, [n] eV, and atoms by species, [n, n_species]."""
    n_species = len(potential.atomic_numbers)
    residuals, counts = [], []
    for sample in samples:
        graph = collate([sample]).graph
        with torch.no_grad():
            predicted = potential(graph, [name])[name].sum()
        residuals.append(sample.energy - predicted)
        counts.append(torch.bincount(sample.species, minlength=n_species).double())
    return torch.stack(residuals), torch.stack(counts)


def refit_composition(
    potential: Potential, name: str, samples: Sequence[Sample], species: list[int]
) -> None:
    """Fit energies of some species to what the model leaves of the data, in place.

    Species without data keep theirs.

    Args:
        potential: the model.
        name: of the energy.
        samples: of its level of theory.
        species: indices to fit.
    """
    residuals, counts = energy_residuals(potential, name, samples)
    correction = torch.linalg.lstsq(
        counts[:, species],
        residuals[:, None],
        rcond=RANK_TOLERANCE,
        driver="gelsd",
    ).solution
    index = potential.target_names.index(name)
    potential.compositions[index].data[species] += correction
