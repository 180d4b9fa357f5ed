"""What a step on a device refuses; tests/parity hold its numbers against the CPU."""

import numpy as np
import pytest
from variants import make_potential

from petmad._engine import Engine
from petmad.export import export_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("steps") / "model.pt"
    export_model(make_potential("modern"), path, dtype="float64")
    return str(path)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.cuda)])
def engine(request, path):
    return Engine(path, request.param, check_golden=False)


OPEN = (np.zeros((3, 3)), np.zeros(3, dtype=bool))
POSITIONS = np.array([[0.0, 0, 0], [1.1, 0, 0], [0, 1.3, 0.2]])
SPECIES = np.array([0, 1, 2], dtype=np.int32)


def test_overlapping_atoms_are_named(engine):
    positions = POSITIONS.copy()
    positions[2] = positions[1] + 0.004
    with pytest.raises(ValueError, match=r"atoms [12] and [12] are 0\.0069\d* Å apart"):
        engine.evaluate(positions, SPECIES, *OPEN)


def test_an_unknown_species_is_named(engine):
    species = np.array([0, 99, 2], dtype=np.int32)
    with pytest.raises(ValueError, match="`species` of atom 1 is 99"):
        engine.evaluate(POSITIONS, species, *OPEN)


def test_positions_must_be_finite(engine):
    positions = POSITIONS.copy()
    positions[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"position of atom 1 is \(1\.1, 0, nan\)"):
        engine.evaluate(positions, SPECIES, *OPEN)


def test_atoms_alone(engine):
    """No edges at all; forces are zero, not left over."""
    engine.evaluate(POSITIONS, SPECIES, *OPEN)
    result = engine.evaluate(30.0 * POSITIONS, SPECIES, *OPEN)
    assert not result["forces"].any()
    assert not result["virial"].any()
    assert engine.statistics.n_kept_edges == 0


def test_a_step_on_an_old_list_names_the_pair(engine):
    """Atoms that meet under one list: found on the device, named by the host."""
    n = len(POSITIONS)
    none = np.zeros(0, dtype=np.int32)
    engine.evaluate_domain(POSITIONS, SPECIES, n, none, none, skin=3.0)
    moved = POSITIONS.copy()
    moved[1] = moved[0] + [0.003, 0, 0]
    with pytest.raises(ValueError, match=r"atoms [01] and [01] are 0\.003\d* Å apart"):
        engine.evaluate_domain(
            moved, SPECIES, n, none, none, skin=3.0, atoms_changed=False
        )
