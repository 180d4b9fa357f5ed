"""What is odd in a set of structures, counted before anything is learned from it.

Nothing here is fatal; what is (no energy, NaN, singular cells) stops the reading.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .dataset import Sample
from .structures import Structure


LARGE_FORCE = 50.0
"""eV/Å; stronger forces are reported."""
SHORT_DISTANCE = 0.6
"""Å; closer pairs are reported: the bond of H2 is 0.74 long."""
POSITION_DIGITS = 6
"""Decimals of positions [Å] in which duplicates agree."""


class Finding(NamedTuple):
    """One kind of oddity: what, how many of how many, and the first or worst."""

    what: str
    count: int
    total: int
    example: str

    def __str__(self) -> str:
        return f"{self.count} of {self.total} {self.what} ({self.example})"


def inspect(
    structures: Sequence[Structure],
    samples: Sequence[Sample],
    others: Sequence[Structure] = (),
) -> list[Finding]:
    """Oddities of a set; those that do not occur are left out.

    Args:
        structures: the set.
        samples: the same structures with their edges.
        others: structures that should not be in the set too, as those of validation.
    """
    tests: list[tuple[str, Callable[[int], float]]] = [
        (f"structures have forces beyond {LARGE_FORCE:g} eV/Å", _excess(structures)),
        (
            f"structures have atoms closer than {SHORT_DISTANCE:g} Å",
            lambda i: _shortness(samples[i]),
        ),
        (
            "structures have atoms without a neighbor within the cutoff",
            lambda i: _n_isolated(samples[i]),
        ),
        (
            "structures have energies, but no forces",
            _forces_are_missing(structures),
        ),
        (
            "periodic structures have no stress, though others do",
            _stress_is_missing(structures),
        ),
        ("structures repeat another of the set", _repeats(structures)),
        ("structures are in the validation set too", _is_in(structures, others)),
    ]
    findings = []
    for what, test in tests:
        badness = np.array([float(test(i)) for i in range(len(structures))])
        if (badness > 0).any():
            worst = structures[int(badness.argmax())].source
            count = int((badness > 0).sum())
            findings.append(Finding(what, count, len(structures), worst))
    return findings


def largest_force(structure: Structure) -> float:
    """Length of the strongest known force [eV/Å]; 0 where there is none."""
    if structure.forces is None:
        return 0.0
    return float(np.linalg.norm(structure.forces, axis=1).max())


def _excess(structures: Sequence[Structure]) -> Callable[[int], float]:
    return lambda i: largest_force(structures[i]) - LARGE_FORCE


def _shortness(sample: Sample) -> float:
    if len(sample.edge_vectors) == 0:
        return 0.0
    return SHORT_DISTANCE - float(sample.edge_vectors.norm(dim=1).min())


def _n_isolated(sample: Sample) -> int:
    return len(sample.species) - len(sample.centers.unique())


def _forces_are_missing(structures: Sequence[Structure]) -> Callable[[int], bool]:
    """Of the main energy, and of a further level where others of it have some."""
    levels = {0} | {s.level for s in structures if s.forces is not None}
    return lambda i: (
        structures[i].level in levels
        and structures[i].forces is None
        and bool(np.isfinite(structures[i].energy))
    )


def _stress_is_missing(structures: Sequence[Structure]) -> Callable[[int], bool]:
    levels = {s.level for s in structures if s.stress is not None}
    return lambda i: (
        structures[i].level in levels
        and bool(structures[i].pbc.all())
        and structures[i].stress is None
    )


def fingerprint(structure: Structure) -> tuple:
    """Equal for structures of equal atoms in equal order, and of one level."""
    arrays = (structure.positions, structure.cell)
    rounded = (np.round(array, POSITION_DIGITS) + 0.0 for array in arrays)
    return (
        structure.level,
        structure.charge,
        structure.spin_multiplicity,
        structure.atomic_numbers.tobytes(),
        *(array.tobytes() for array in rounded),
    )


def _repeats(structures: Sequence[Structure]) -> Callable[[int], bool]:
    seen: Counter = Counter()
    is_repeated = []
    for structure in structures:
        key = fingerprint(structure)
        is_repeated.append(seen[key] > 0)
        seen[key] += 1
    return lambda i: is_repeated[i]


def _is_in(
    structures: Sequence[Structure], others: Sequence[Structure]
) -> Callable[[int], bool]:
    known = {fingerprint(other) for other in others}
    return lambda i: bool(known) and fingerprint(structures[i]) in known
