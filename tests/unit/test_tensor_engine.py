"""Tensor targets of exported files: the engine against the eager model."""

import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import ethanol, slab, triclinic
from tensor_models import (
    KINDS,
    READOUTS,
    all_tensors,
    export_tensors,
    tensor_potential,
    water_tensors,
)

from petmad._engine import Engine
from petmad.cli import main
from petmad.model_file import read_metadata


STRUCTURES = {"ethanol": ethanol, "slab": slab, "triclinic": triclinic}
# Relative to the largest entry: sums in another order.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
DTYPES = {"float64": torch.float64, "float32": torch.float32}
VARIANTS = {
    "fixed": {},
    "adaptive": {"num_neighbors_adaptive": 6.0},
    "residual": {"featurizer_type": "residual"},
}


def with_elements(structure):
    """The structure in the models' elements H, C and O."""
    order = {number: i for i, number in enumerate(sorted(set(structure.numbers)))}
    numbers = [[1, 6, 8][order[number] % 3] for number in structure.numbers]
    return structure.changed(numbers=numbers)


def arguments(structure):
    species = np.searchsorted([1, 6, 8], structure.numbers).astype(np.int32)
    return structure.positions, species, structure.cell, structure.pbc


def eager(potential, structure, names):
    graph = make_graph([structure], potential.config.cutoff)
    graph = graph._replace(
        species=torch.from_numpy(arguments(structure)[1].astype(np.int64))
    )
    return {
        name: rows.detach().numpy() for name, rows in potential(graph, names).items()
    }


def assert_close(found, expected, dtype):
    scale = np.abs(expected).max()
    assert scale > 1e-6
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE[dtype] * scale


@pytest.fixture(scope="module", params=DTYPES)
def everything(request, tmp_path_factory):
    """Engine of all kinds and readouts beside an energy, and the eager model."""
    path = tmp_path_factory.mktemp("tensors") / "all.pt"
    export_tensors(path, all_tensors(), request.param)
    potential = tensor_potential(all_tensors()).to_dtype(DTYPES[request.param])
    return Engine(str(path)), potential.eval(), request.param


@pytest.mark.parametrize("make_structure", STRUCTURES.values(), ids=STRUCTURES)
def test_engine_equals_the_eager_model(everything, make_structure):
    """Per atom and summed, all kinds and readouts, in one pass with the forces."""
    engine, potential, dtype = everything
    structure = with_elements(make_structure())
    names = [f"{kind}_{readout}" for kind in KINDS for readout in READOUTS]
    alone = engine.evaluate(*arguments(structure))
    found = engine.evaluate(*arguments(structure), outputs=names)
    assert alone["outputs"] == {}
    np.testing.assert_array_equal(found["forces"], alone["forces"])
    expected = eager(potential, structure, names)
    for name in names:
        assert_close(found["outputs"][name], expected[name], dtype)
        total = found["outputs"][name].sum(axis=0)
        np.testing.assert_allclose(found["sums"][name], total, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_tensors_alone(tmp_path, variant):
    """A file without energy: tensors, and nothing that would be derived from one."""
    specs = water_tensors("edge")
    path = export_tensors(tmp_path / "a.pt", specs, energy=False, **VARIANTS[variant])
    engine = Engine(str(path))
    assert not engine.info.has_energy
    structure = with_elements(triclinic())
    names = [spec.name for spec in specs]
    found = engine.evaluate(*arguments(structure), outputs=names, atomic_virials=True)
    assert set(found) == {"kept_edges", "outputs", "sums"}
    assert found["kept_edges"].min() > 0
    potential = tensor_potential(specs, energy=False, **VARIANTS[variant])
    expected = eager(potential.to_dtype(torch.float64), structure, names)
    for name in names:
        assert_close(found["outputs"][name], expected[name], "float64")


def test_a_file_describes_its_tensors(tmp_path, capsys):
    path = export_tensors(tmp_path / "a.pt", water_tensors())
    tensors = read_metadata(path)["tensors"]
    assert tensors[0] == {
        "name": "dipole",
        "kind": "vector",
        "unit": "eÅ",
        "per_atom": False,
        "origin": "center_of_mass",
        "blocks": [[1, 1]],
        "n_entries": 3,
    }
    assert tensors[2]["blocks"] == [[0, 1], [1, -1], [2, 1]]
    for told, tensor in zip(tensors, Engine(str(path)).info.tensors, strict=True):
        for key in ("name", "kind", "unit", "per_atom", "origin", "n_entries"):
            assert getattr(tensor, key) == told[key]
    assert main(["info", "--check", str(path)]) == 0
    assert "center_of_mass" in capsys.readouterr().out


@pytest.mark.parametrize("energy", [True, False])
def test_golden_tensors_are_checked(tmp_path, energy):
    """One number of one tensor off by 1e-6 of the largest: the file is refused."""
    path = export_tensors(tmp_path / "a.pt", water_tensors(), energy=energy)
    assert Engine(str(path)).check_golden() < 1e-12
    extra = {"metadata.json": ""}
    module = torch.jit.load(str(path), _extra_files=extra)
    golden = module.golden
    rows = golden[1]["tensor/polarizability"]
    rows[2, 4] += 1e-6 * rows.abs().max()
    module.golden = golden
    torch.jit.save(module, str(tmp_path / "b.pt"), _extra_files=extra)
    with pytest.raises(ValueError, match=r"the self test of .*b\.pt' failed"):
        Engine(str(tmp_path / "b.pt"))
