"""Structures and samples that are made when they are asked for, and the like of lists.

A data set of in-memory files is a list. One that has a memory-mapped file in it is a
:class:`LazyStructures`, of which a training keeps a few numbers per structure
(:class:`Survey`), and its samples are :class:`LazySamples`. The functions here take
both, so that nothing else needs to know which it has.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .dataset import Sample, make_sample
from .progress import progress
from .quality import largest_force
from .structures import Structure


Item = TypeVar("Item")
FEW = 1000
"""Structures, evenly chosen, by which a large set is judged where all are too many."""


class Survey(NamedTuple):
    """What a training must know of every structure before it starts.

    Attributes:
        n_atoms: [n] int32.
        levels: [n] int16, of theory.
        groups: [n] int64, equal for structures that stay together.
        largest_forces: [n] float32 eV/Å.
        elements: atomic numbers that occur, ascending.
        states: total charges and spin multiplicities that occur.
    """

    n_atoms: np.ndarray
    levels: np.ndarray
    groups: np.ndarray
    largest_forces: np.ndarray
    elements: list[int]
    states: set[tuple[int, int]]

    def take(self, indices: np.ndarray) -> "Survey":
        """Of some structures; elements and states stay those of all."""
        return Survey(*(values[indices] for values in self[:4]), *self[4:])


class LazyStructures(Sequence[Structure]):
    """Structures of several parts, or a selection of them, read one at a time.

    Args:
        parts: lists, or structures of mapped files.
        places: [n, 2] int32, part and index in it; default: all, in order.
        survey: of these, where it is known.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Structure]],
        places: np.ndarray | None = None,
        survey: Survey | None = None,
    ) -> None:
        if places is None:
            sizes = [len(part) for part in parts]
            places = np.empty((sum(sizes), 2), dtype=np.int32)
            places[:, 0] = np.repeat(np.arange(len(parts)), sizes)
            places[:, 1] = np.concatenate([np.arange(size) for size in sizes])
        self._parts = parts
        self._places = places
        self._survey = survey

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Structure:
        part, place = self._places[index]
        return self._parts[part][int(place)]

    def take(self, indices: np.ndarray) -> "LazyStructures":
        """Some of them, in the order given."""
        survey = None if self._survey is None else self._survey.take(indices)
        return LazyStructures(self._parts, self._places[indices], survey)

    @property
    def survey(self) -> Survey:
        """Of all structures, which are read for it once."""
        if self._survey is None:
            self._survey = _survey(self)
        return self._survey


class LazySamples(Sequence[Sample]):
    """Samples of lazy structures, neighbor lists included, made when asked for.

    Args:
        structures: their elements must be among ``atomic_numbers``.
        atomic_numbers: species of the model, ascending.
        cutoff: of the lists [Å]; None leaves edges out.
    """

    def __init__(
        self,
        structures: LazyStructures,
        atomic_numbers: list[int],
        cutoff: float | None,
    ) -> None:
        self.structures = structures
        self._atomic_numbers = atomic_numbers
        self._cutoff = cutoff

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Sample:
        return make_sample(self.structures[index], self._atomic_numbers, self._cutoff)

    def take(self, indices: np.ndarray) -> "LazySamples":
        """Some of them, in the order given."""
        chosen = self.structures.take(indices)
        return LazySamples(chosen, self._atomic_numbers, self._cutoff)

    @property
    def labels(self) -> "LazySamples":
        """The same without edges, which are most of the work."""
        return LazySamples(self.structures, self._atomic_numbers, None)


def join(parts: Sequence[Sequence[Structure]]) -> Sequence[Structure]:
    """All structures: a list, unless one of the parts is mapped."""
    if all(isinstance(part, list) for part in parts):
        return [structure for part in parts for structure in part]
    return LazyStructures(parts)


def make_samples(
    structures: Sequence[Structure], atomic_numbers: list[int], cutoff: float
) -> Sequence[Sample]:
    """Samples with their neighbor lists, made now, or of lazy ones when needed."""
    if isinstance(structures, LazyStructures):
        return LazySamples(structures, atomic_numbers, cutoff)
    return [make_sample(structure, atomic_numbers, cutoff) for structure in structures]


def take(items: Sequence[Item], indices: Sequence[int] | np.ndarray) -> Sequence[Item]:
    """Some of them, in the order given."""
    if isinstance(items, LazyStructures | LazySamples):
        return items.take(np.asarray(indices, dtype=np.int64))
    return [items[i] for i in indices]


def few(items: Sequence[Item]) -> list[Item]:
    """All of a list; of what is lazy and large, an even choice."""
    step = 1
    if isinstance(items, LazyStructures | LazySamples):
        step = max(1, len(items) // FEW)
    return [items[i] for i in range(0, len(items), step)]


def labels_of(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Samples whose edges are not needed."""
    return samples.labels if isinstance(samples, LazySamples) else samples


def sizes_of(samples: Sequence[Sample]) -> np.ndarray:
    """Atoms of each, [n]."""
    if isinstance(samples, LazySamples):
        return samples.structures.survey.n_atoms
    return np.array([len(sample.species) for sample in samples])


def of_level(samples: Sequence[Sample], level: int) -> Sequence[Sample]:
    """Those of one level of theory."""
    if isinstance(samples, LazySamples):
        return samples.take(np.flatnonzero(samples.structures.survey.levels == level))
    return [sample for sample in samples if int(sample.level) == level]


def survey(structures: Sequence[Structure]) -> Survey:
    """A few numbers of every structure."""
    is_lazy = isinstance(structures, LazyStructures)
    return structures.survey if is_lazy else _survey(structures)


def _survey(structures: Sequence[Structure]) -> Survey:
    n = len(structures)
    n_atoms, levels = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int16)
    groups, forces = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.float32)
    elements: set[int] = set()
    states: set[tuple[int, int]] = set()
    for i, structure in enumerate(progress(structures, "looking at all structures")):
        n_atoms[i], levels[i] = len(structure.atomic_numbers), structure.level
        groups[i], forces[i] = hash(structure.group), largest_force(structure)
        elements.update(np.unique(structure.atomic_numbers).tolist())
        states.add((structure.charge, structure.spin_multiplicity))
    return Survey(n_atoms, levels, groups, forces, sorted(elements), states)
