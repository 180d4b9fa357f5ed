"""Upstream's variants on 1 to 8 ranks, ghosts exchanged and recomputed.

Every variant with every kind of structure is judged without MPI in
``tests/parity/test_modes.py``; here each number of ranks takes them in other pairs,
all in one LAMMPS job, since starting ranks costs more than evaluating.
"""

import numpy as np
import pytest
from lammps_tools import (
    Box,
    assert_same,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    slab,
    tiny,
    water,
    write_data,
)
from variants import ON_RANKS, hypers, make_potential

from petmad.export import export_model


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]

TOLERANCE = 1e-10
# Recomputed ghosts are as deep as the reach: with upstream's cutoffs tens of thousands
# in a dense box, so that these tests shorten them.
CUTOFF_FACTOR = 0.6


def gas():
    """Molecules 5 to 9 Å apart."""
    box = water((2, 2, 2), seed=4)
    spots = 3.1 * (np.array(list(np.ndindex(2, 2, 2))) + 0.5)
    shifts = np.repeat(spots * (7.0 / 3.1 - 1.0), 3, axis=0)
    middles = np.repeat(spots, 3, axis=0)
    offsets = box.positions - middles
    offsets -= np.round(offsets / 6.2) * 6.2  # whole molecules
    cell = 14.0 * np.eye(3)
    return Box(box.symbols, (middles + shifts + offsets) % 14.0, cell)


def chain():
    """Atoms at 0.9 of the cutoff of most variants, along the ranks."""
    spacing = 0.9 * CUTOFF_FACTOR * 5.0
    positions = np.tile([0.5, 3.0, 3.0], (16, 1))
    positions[:, 0] += spacing * np.arange(16)
    positions[:, 1] += 0.2 * np.sin(np.arange(16))
    cell = np.diag([spacing * 16, 6.0, 6.0])
    return Box(list("COHC" * 4), positions, cell, "f f f")


def corner():
    """A cluster in the corner of a box: ranks without atoms, or with ghosts alone."""
    spots = 1.9 * np.array(list(np.ndindex(2, 2, 3))) + 0.6
    spots = spots + 0.15 * np.random.default_rng(5).standard_normal(spots.shape)
    return Box(list("OHC" * 4), spots, 24.0 * np.eye(3), "f f f")


STRUCTURES = {
    "water": lambda: water((2, 2, 2)),
    "tiny": tiny,
    "slab": slab,
    "gas": gas,
    "chain": chain,
    "corner": corner,
}


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Files of the variants."""
    folder = tmp_path_factory.mktemp("variants")
    for name in ON_RANKS:
        cutoff = CUTOFF_FACTOR * hypers(name)["cutoff"]
        potential = make_potential(name, cutoff=cutoff)
        export_model(potential, folder / f"{name}.pt", dtype="float64")
    return folder


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 4, 8])
def test_ranks_equal_engine(variants, tmp_path, n_ranks):
    cases, script = [], []
    names = list(STRUCTURES)
    for name in names:
        write_data(tmp_path / f"{name}.data", STRUCTURES[name]())
    for i, variant in enumerate(ON_RANKS):
        structure = names[(i + n_ranks) % len(names)]
        for mode in ("exchange", "recompute"):
            cases.append((variant, structure, mode))
            lines = setup_lines(
                STRUCTURES[structure](),
                f"{structure}.data",
                variants / f"{variant}.pt",
                options=f"check no mode {mode}",
            )
            script += ["clear", lines, output_lines(f"{variant}_{mode}")]
    run_lammps("\n".join(script), tmp_path, n_ranks=n_ranks)
    for variant, structure, mode in cases:
        found = read_output(tmp_path, f"{variant}_{mode}")
        expected = reference(variants / f"{variant}.pt", STRUCTURES[structure]())
        assert_same(found, expected, TOLERANCE)
