"""Training and validation samples from the options' files."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from petmad.data import Sample, Structure, read_structures
from petmad.data.consistency import check_energies, check_gradients
from petmad.data.lazy import FEW, LazyStructures, few, join, make_samples, survey, take
from petmad.data.quality import inspect
from petmad.data.structures import check_species
from petmad.model import PETConfig

from .data_options import DataOptions, LabelOptions
from .label_names import check_names
from .options import Options
from .stages import losses_of
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

    train: Sequence[Sample]
    valid: Sequence[Sample]
    atomic_numbers: list[int]


def load_splits(options: Options) -> Splits:
    """Read, check and convert all structures; neighbor lists are built here, once.

    Structures of mapped files are checked here, and read again, with their lists, when
    they are needed. What is odd in them is logged.

    Raises:
        ValueError: a file or label is wrong, an element unknown, or a split empty.
    """
    train, valid = load_structures(options)
    if options.data.check_gradients and options.data.energy_key is not None:
        check_labels([*first(train), *first(valid)], trained_energies(options))
    train = without_strong_forces(train, options.data)
    atomic_numbers = sorted(set(options.data.atomic_numbers or survey(train).elements))
    for part in (train, valid):
        if not set(survey(part).elements) <= set(atomic_numbers):
            check_species(part, atomic_numbers)
        check_states(part, options.model)
    cutoff = options.model.cutoff
    splits = Splits(
        make_samples(train, atomic_numbers, cutoff),
        make_samples(valid, atomic_numbers, cutoff),
        atomic_numbers,
    )
    for finding in inspect(few(train), few(splits.train), few(valid)):
        LOG.warning("training data: %s", finding)
    for finding in inspect(few(valid), few(splits.valid)):
        LOG.warning("validation data: %s", finding)
    return splits


def check_states(structures: Sequence[Structure], model: PETConfig) -> None:
    """Refuse charges and spins beyond those of the model, and tell those unread.

    Raises:
        ValueError: names the first structure.
    """
    states = survey(structures).states
    if not model.system_conditioning:
        if states != {(0, 1)}:
            charge, multiplicity = max(states - {(0, 1)})
            LOG.warning(
                "some structures have a charge or a spin, such as charge %d and "
                "multiplicity %d, which the model does not read; "
                "`model.system_conditioning: true` makes them an input",
                charge,
                multiplicity,
            )
        return
    most = (model.max_charge, model.max_spin_multiplicity)
    if any(abs(q) > most[0] or spin > most[1] for q, spin in states):
        for structure in structures:
            state = (structure.charge, structure.spin_multiplicity)
            if abs(state[0]) > most[0] or state[1] > most[1]:
                raise ValueError(
                    f"{structure.source} has charge {state[0]} and multiplicity "
                    f"{state[1]}, but the model is for charges within ±{most[0]} and "
                    f"multiplicities up to {most[1]}; raise `model.max_charge` or "
                    "`model.max_spin_multiplicity`, or leave the structure out"
                )


def first(structures: Sequence[Structure]) -> list[Structure]:
    """All of a list; of what is lazy, the first, which may be neighbors in time."""
    if not isinstance(structures, LazyStructures):
        return list(structures)
    return [structures[i] for i in range(min(FEW, len(structures)))]


def load_structures(
    options: Options,
) -> tuple[Sequence[Structure], Sequence[Structure]]:
    """Training and validation structures; see :func:`load_splits`."""
    data = options.data
    check_names(data)
    labels = tensor_labels(options)
    wants_forces = any(
        max(loss.forces.weight, loss.direct_forces.weight) > 0
        for loss in losses_of(options.training)
    )

    def read(
        files: str | list[str], level: LabelOptions, index: int, skips: bool = False
    ) -> list[Sequence[Structure]]:
        section = list(data.sections)[index]
        keys = level.label_keys(
            index, tensors=labels, group=data.group_key, section=section
        )
        has_name = level.forces_key is not None
        needs_forces = wants_forces and level.require_forces and has_name and not skips
        return [
            read_structures(file, keys, needs_forces, skips) for file in as_list(files)
        ]

    train, valid, whole = read(data.train, data, 0), [], []
    if data.valid is not None:
        valid = read(data.valid, data, 0)
    for index, (name, level) in enumerate(data.levels.items(), start=1):
        shares = level.train is None
        if shares and wants_forces and level.forces_key is None:
            LOG.info(
                "data.levels.%s: energies alone are learned from `data.train`, whose "
                "forces belong to the main energy; name its own with `forces_key`",
                name,
            )
        own = read(level.train or data.train, level, index, shares)
        if level.valid is not None:
            valid += read(level.valid, level, index)
        elif shares and data.valid is not None:
            valid += read(data.valid, level, index, skips=True)
        elif data.valid is not None:
            kept, apart = split(join(own), data, f"data.levels.{name}.valid")
            own, valid = [kept], [*valid, apart]
        # Frames of a shared file go where those of the main energy go, files or not.
        is_whole = level.valid is not None and not shares
        (whole if is_whole else train).extend(own)
    if data.valid is not None:
        return join([*train, *whole]), join(valid)
    kept, apart = split(join(train), data)
    return join([kept, *whole]), join([apart, *valid])


def check_labels(structures: list[Structure], levels: list[str]) -> None:
    """Compare the labels of each level with each other; see ``consistency.py``.

    Raises:
        ValueError: units or signs are wrong.
    """
    for index in range(len(levels)):
        chosen = [s for s in structures if s.level == index]
        section = f"data.levels.{levels[index].partition('/')[2]}" if index else "data"
        check_energies(chosen, section)
        for line in check_gradients(chosen, section):
            LOG.info("%s: %s", levels[index], line)


def without_strong_forces(
    structures: Sequence[Structure], data: DataOptions
) -> Sequence[Structure]:
    """Structures within ``data.max_force``.

    Raises:
        ValueError: there are none.
    """
    if data.max_force is None:
        return structures
    kept = np.flatnonzero(survey(structures).largest_forces <= data.max_force)
    if len(kept) == 0:
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
    return take(structures, kept)


def split(
    structures: Sequence[Structure], data: DataOptions, place: str = "data.valid"
) -> tuple[Sequence[Structure], Sequence[Structure]]:
    """Keep a random part aside for validation; both keep the order of the file.

    Groups stay whole, and so do the levels of theory of one frame.

    Args:
        structures: to split.
        data: options of the split.
        place: the option that would make it needless, for messages.

    Raises:
        ValueError: there are too few structures, or groups, for the fraction.
    """
    _, firsts, members = np.unique(
        survey(structures).groups, return_index=True, return_inverse=True
    )
    n_valid = round(data.valid_fraction * len(firsts))
    n_train = len(firsts) - n_valid
    if n_valid == 0 or n_train == 0:
        what = "structures" if data.group_key is None else f"`{data.group_key}` groups"
        raise ValueError(
            f"`data.valid_fraction` {data.valid_fraction} of {len(firsts)} {what} "
            f"leaves {n_train} for training and {n_valid} for validation; "
            f"change it, or name a file with `{place}`"
        )
    # Groups are counted in the order in which they appear.
    order = np.random.default_rng(data.split_seed).permutation(len(firsts))
    is_apart = np.zeros(len(firsts), dtype=bool)
    is_apart[np.argsort(firsts)[order[n_train:]]] = True
    is_apart = is_apart[members]
    return (
        take(structures, np.flatnonzero(~is_apart)),
        take(structures, np.flatnonzero(is_apart)),
    )


def files_by_option(options: Options) -> dict[str, list[str]]:
    """Every file a training reads, by the option that names it."""
    files = {}
    for name, part in options.data.sections.items():
        files[f"{name}.train"] = as_list(part.train)
        files[f"{name}.valid"] = as_list(part.valid)
    files["training.start_from"] = as_list(options.training.start_from)
    return files


def all_files(options: Options) -> list[str]:
    """Every file a training reads, without repetition."""
    files = [file for part in files_by_option(options).values() for file in part]
    return list(dict.fromkeys(files))


def as_list(files: str | list[str] | None) -> list[str]:
    """One file, several or none, as a list."""
    if files is None:
        return []
    return [files] if isinstance(files, str) else files
