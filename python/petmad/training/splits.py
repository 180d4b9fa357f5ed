"""Training and validation samples from the options' files."""

from typing import NamedTuple

import numpy as np

from petmad.data import Sample, Structure, make_sample, read_structures
from petmad.data.structures import LabelKeys, check_species, species_of

from .options import DataOptions, Options


class Splits(NamedTuple):
    """What a training reads.

    Attributes:
        train: samples to learn from.
        valid: samples to watch.
        atomic_numbers: species of the model, ascending.
    """

    train: list[Sample]
    valid: list[Sample]
    atomic_numbers: list[int]


def load_splits(options: Options) -> Splits:
    """Read, check and convert all structures; neighbor lists are built here, once.

    Raises:
        ValueError: a file or label is wrong, an element unknown, or a split empty.
    """
    train, valid = load_structures(options)
    atomic_numbers = sorted(set(options.data.atomic_numbers or species_of(train)))
    check_species(train + valid, atomic_numbers)
    cutoff = options.model.cutoff
    return Splits(
        [make_sample(structure, atomic_numbers, cutoff) for structure in train],
        [make_sample(structure, atomic_numbers, cutoff) for structure in valid],
        atomic_numbers,
    )


def load_structures(options: Options) -> tuple[list[Structure], list[Structure]]:
    """Training and validation structures; see :func:`load_splits`."""
    data = options.data
    keys = LabelKeys(data.energy_key, data.forces_key, data.stress_key)
    needs_forces = data.require_forces and options.training.loss.forces.weight > 0

    def read(files: str | list[str]) -> list[Structure]:
        return [
            structure
            for file in as_list(files)
            for structure in read_structures(file, keys, needs_forces)
        ]

    structures = read(data.train)
    if data.valid is not None:
        return structures, read(data.valid)
    return split(structures, data)


def split(
    structures: list[Structure], data: DataOptions
) -> tuple[list[Structure], list[Structure]]:
    """Keep a random part aside for validation; both keep the order of the file.

    Raises:
        ValueError: there are too few structures for the fraction.
    """
    n_valid = round(data.valid_fraction * len(structures))
    n_train = len(structures) - n_valid
    if n_valid == 0 or n_train == 0:
        raise ValueError(
            f"`data.valid_fraction` {data.valid_fraction} of {len(structures)} "
            f"structures leaves {n_train} for training and {n_valid} for validation; "
            "change it, or name a file with `data.valid`"
        )
    order = np.random.default_rng(data.split_seed).permutation(len(structures))
    return (
        [structures[i] for i in sorted(order[:n_train])],
        [structures[i] for i in sorted(order[n_train:])],
    )


def as_list(files: str | list[str] | None) -> list[str]:
    """One file, several or none, as a list."""
    if files is None:
        return []
    return [files] if isinstance(files, str) else files
