"""Training and validation samples from the options' files."""

import logging
from typing import NamedTuple

import numpy as np

from petmad.data import Sample, Structure, make_sample, read_structures
from petmad.data.consistency import check_energies, check_gradients
from petmad.data.quality import inspect, largest_force
from petmad.data.structures import check_species, species_of

from .data_options import DataOptions, LabelOptions
from .options import Options
from .tensors import tensor_labels
from .trained import trained_energies


LOG = logging.getLogger(__name__)


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

    What is odd in the training set is logged.

    Raises:
        ValueError: a file or label is wrong, an element unknown, or a split empty.
    """
    train, valid = load_structures(options)
    if options.data.check_gradients and options.data.energy_key is not None:
        check_labels([*train, *valid], trained_energies(options))
    train = without_strong_forces(train, options.data)
    atomic_numbers = sorted(set(options.data.atomic_numbers or species_of(train)))
    check_species(train + valid, atomic_numbers)
    cutoff = options.model.cutoff
    splits = Splits(
        [make_sample(structure, atomic_numbers, cutoff) for structure in train],
        [make_sample(structure, atomic_numbers, cutoff) for structure in valid],
        atomic_numbers,
    )
    for finding in inspect(train, splits.train, valid):
        LOG.warning("training data: %s", finding)
    return splits


def load_structures(options: Options) -> tuple[list[Structure], list[Structure]]:
    """Training and validation structures; see :func:`load_splits`."""
    data = options.data
    labels = tensor_labels(options)
    wants_forces = options.training.loss.forces.weight > 0

    def read(
        files: str | list[str], level: LabelOptions, index: int, skips: bool = False
    ) -> list[Structure]:
        keys = level.label_keys(index, tensors=labels, group=data.group_key)
        needs_forces = wants_forces and level.require_forces and not skips
        return [
            structure
            for file in as_list(files)
            for structure in read_structures(file, keys, needs_forces, skips)
        ]

    train, valid = read(data.train, data, 0), []
    if data.valid is not None:
        valid = read(data.valid, data, 0)
    for index, level in enumerate(data.levels.values(), start=1):
        shares = level.train is None
        train += read(level.train or data.train, level, index, shares)
        if level.valid is not None:
            valid += read(level.valid, level, index)
        elif shares and data.valid is not None:
            valid += read(data.valid, level, index, skips=True)
    if data.valid is not None:
        return train, valid
    kept, apart = split(train, data)
    return kept, apart + valid


def check_labels(structures: list[Structure], levels: list[str]) -> None:
    """Compare the labels of each level with each other; see ``consistency.py``.

    Raises:
        ValueError: units or signs are wrong.
    """
    for index in range(len(levels)):
        chosen = [s for s in structures if s.level == index]
        check_energies(chosen)
        for line in check_gradients(chosen):
            LOG.info("%s: %s", levels[index], line)


def without_strong_forces(
    structures: list[Structure], data: DataOptions
) -> list[Structure]:
    """Structures within ``data.max_force``.

    Raises:
        ValueError: there are none.
    """
    if data.max_force is None:
        return structures
    kept = [s for s in structures if largest_force(s) <= data.max_force]
    if not kept:
        raise ValueError(
            f"all {len(structures)} training structures have forces beyond "
            f"`data.max_force` {data.max_force:g} eV/Å; raise it"
        )
    LOG.info(
        "left out: %d of %d training structures, with forces beyond %g eV/Å",
        len(structures) - len(kept),
        len(structures),
        data.max_force,
    )
    return kept


def split(
    structures: list[Structure], data: DataOptions
) -> tuple[list[Structure], list[Structure]]:
    """Keep a random part aside for validation; both keep the order of the file.

    Groups stay whole, and so do the levels of theory of one frame.

    Raises:
        ValueError: there are too few structures, or groups, for the fraction.
    """
    groups = list(dict.fromkeys(s.group for s in structures))
    n_valid = round(data.valid_fraction * len(groups))
    n_train = len(groups) - n_valid
    if n_valid == 0 or n_train == 0:
        what = "structures" if data.group_key is None else f"`{data.group_key}` groups"
        raise ValueError(
            f"`data.valid_fraction` {data.valid_fraction} of {len(groups)} {what} "
            f"leaves {n_train} for training and {n_valid} for validation; "
            "change it, or name a file with `data.valid`"
        )
    order = np.random.default_rng(data.split_seed).permutation(len(groups))
    apart = {groups[i] for i in order[n_train:]}
    return (
        [s for s in structures if s.group not in apart],
        [s for s in structures if s.group in apart],
    )


def all_files(options: Options) -> list[str]:
    """Every file a training reads, without repetition."""
    parts = [options.data, *options.data.levels.values()]
    files = [f for part in parts for f in (*as_list(part.train), *as_list(part.valid))]
    return list(dict.fromkeys([*files, *as_list(options.training.start_from)]))


def as_list(files: str | list[str] | None) -> list[str]:
    """One file, several or none, as a list."""
    if files is None:
        return []
    return [files] if isinstance(files, str) else files
