"""Structures of the tests, written as numbers: no library decides what they are."""

import dataclasses

import numpy as np
from seeded_weights import uniform


NO_CELL = np.zeros((3, 3))


@dataclasses.dataclass
class Structure:
    """Atoms in a cell; rows of the cell along non-periodic directions are zero.

    Attributes:
        numbers: [n_atoms] atomic numbers.
        positions: [n_atoms, 3] Å.
        cell: [3, 3] Å, lattice vectors as rows.
        pbc: [3] bool.
        charge: total charge, in e.
        spin_multiplicity: 2S + 1.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray = dataclasses.field(default_factory=NO_CELL.copy)
    pbc: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3, bool))
    charge: int = 0
    spin_multiplicity: int = 1

    def __post_init__(self) -> None:
        self.numbers = np.asarray(self.numbers, dtype=np.int64)
        self.positions = np.asarray(self.positions, dtype=np.float64).reshape(-1, 3)
        self.pbc = np.asarray(self.pbc, dtype=bool)
        cell = np.asarray(self.cell, dtype=np.float64)
        self.cell = np.where(self.pbc[:, None], cell, 0.0)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Å³; 0 unless periodic in all directions."""
        return abs(float(np.linalg.det(self.cell)))

    def changed(self, **values) -> "Structure":
        """A copy with some attributes replaced."""
        return dataclasses.replace(self, **values)

    def strained(self, strain: np.ndarray) -> "Structure":
        """Positions and cell (rows) multiplied from the right by 1 + strain."""
        factor = np.eye(3) + strain
        return self.changed(positions=self.positions @ factor, cell=self.cell @ factor)


def crystal() -> Structure:
    """Two silicon atoms, a shaken diamond cell, smaller than any cutoff."""
    a = 5.43
    shaken = 0.12 * uniform("crystal", 6).reshape(2, 3)
    cell = 0.5 * a * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    positions = np.array([[0.0, 0, 0], [0.25 * a] * 3]) + shaken
    return Structure([14, 14], positions, cell, [True] * 3)


def triclinic() -> Structure:
    """Five random atoms in a skewed cell about as large as the cutoff."""
    cell = np.array([[5.1, 0.2, -0.3], [1.3, 4.7, 0.4], [-0.9, 1.1, 5.6]])
    fractional = [
        [0.05, 0.11, 0.07],
        [0.31, 0.42, 0.18],
        [0.62, 0.08, 0.55],
        [0.81, 0.66, 0.33],
        [0.18, 0.74, 0.79],
    ]
    return Structure([6, 6, 8, 8, 1], np.array(fractional) @ cell, cell, [True] * 3)


def ethanol() -> Structure:
    """A molecule without a cell."""
    positions = [
        [1.1682, -0.4004, 0.0],
        [0.0, 0.5595, 0.0],
        [-1.1901, -0.2277, 0.0],
        [-1.9466, 0.3815, 0.0],
        [0.0426, 1.2075, 0.8869],
        [0.0426, 1.2075, -0.8869],
        [2.1159, 0.1448, 0.0],
        [1.1286, -1.0372, 0.8859],
        [1.1286, -1.0372, -0.8859],
    ]
    return Structure([6, 6, 8, 1, 1, 1, 1, 1, 1], positions)


def slab() -> Structure:
    """Periodic in two directions."""
    positions = [[0, 0, 0], [2.3, 0.1, 0.2], [1.1, 2.2, 0.3], [0.7, 0.9, 1.6]]
    cell = [[4.0, 0.3, 0.0], [0.0, 4.2, 0.0], [0.0, 0.0, 0.0]]
    return Structure([14, 14, 14, 8], positions, cell, [True, True, False])


def chain() -> Structure:
    """Periodic in one direction, and that is not an axis of the frame."""
    positions = [[0, 0, 0], [0.9, 0.7, 0.5], [1.9, -0.2, 1.2]]
    cell = [[0.0, 0, 0], [0.0, 0, 0], [2.6, 0.4, 2.2]]
    return Structure([6, 1, 8], positions, cell, [False, False, True])


def single_atom() -> Structure:
    """One isolated oxygen: no edges at all."""
    return Structure([8], [[0.1, 0.2, 0.3]])


def far_pair() -> Structure:
    """Two atoms out of each other's sight."""
    return Structure([14, 1], [[0.0, 0, 0], [30.0, 0, 0]])


def small_structures() -> dict[str, Structure]:
    """One structure of each boundary condition."""
    return {
        "crystal": crystal(),
        "triclinic": triclinic(),
        "ethanol": ethanol(),
        "slab": slab(),
        "chain": chain(),
        "atom": single_atom(),
        "far_pair": far_pair(),
    }


def random_structure(seed: int, n_atoms: int = 7) -> Structure:
    """Random species and positions in a skewed periodic cell, never too close."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(4.0, 6.5, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
    shifts = np.array(list(np.ndindex(3, 3, 3))) - 1
    positions: list[np.ndarray] = []
    while len(positions) < n_atoms:
        trial = rng.random(3) @ cell
        images = [trial - p + shifts @ cell for p in positions]
        if all(np.linalg.norm(d, axis=1).min() > 0.9 for d in images):
            positions.append(trial)
    numbers = rng.choice([1, 6, 8, 14], n_atoms)
    return Structure(numbers, np.array(positions), cell, [True] * 3)
