"""One structure, one answer: eager = scripted = exported file = C++ engine = ASE.

Edges of the eager model come from the slow list of ``graphs.py``, so this judges the
core's neighbor list as well.
"""

import dataclasses
import functools

import ase
import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import Structure, chain, ethanol, single_atom, slab, triclinic
from variants import ATOMIC_NUMBERS, make_potential

from petmad import PETMADCalculator
from petmad._engine import Engine
from petmad.export import export_model
from petmad.model import EdgeGraph
from petmad.model.folds import fold_atomic_virials, fold_forces, fold_virial


TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
"""Of the largest number of its kind: rounding of the network in its own dtype."""
MODELS = {
    "modern": "modern",
    "deep": "deep",
    "classic": "classic",
    "solver": "adaptive_solver",
    "grid": "adaptive_grid",
    "zbl": "zbl",
    "conditioned": "conditioned",
}


def water_box() -> Structure:
    """Twelve water molecules, turned at random, at the density of the liquid."""
    rng = np.random.default_rng(1)
    molecule = np.array([[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    positions = []
    for spot in np.ndindex(3, 2, 2):
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        positions.append(molecule @ turn + 3.1 * np.array(spot) - 4.0)
    cell = np.diag([9.3, 6.2, 6.2])
    return Structure([8, 1, 1] * 12, np.concatenate(positions), cell, [True] * 3)


def vacuum_slab() -> Structure:
    """The slab in a cell that is periodic across the vacuum too."""
    cell = slab().cell + np.diag([0.0, 0.0, 25.0])
    return slab().changed(cell=cell, pbc=[True, True, True])


def tiny_cell() -> Structure:
    """Two atoms in a skewed cell, many images of each within the cutoff."""
    cell = [[2.9, 0.2, 0.1], [0.4, 3.1, -0.2], [0.3, -0.1, 3.0]]
    positions = [[0.1, 0.0, 0.0], [1.4, 1.3, 1.2]]
    return Structure([14, 8], positions, cell, [True] * 3)


STRUCTURES = {
    "water": water_box(),
    "triclinic": triclinic(),
    "tiny_cell": tiny_cell(),
    "slab": slab(),
    "vacuum": vacuum_slab(),
    "chain": chain(),
    "atom": single_atom(),
    "molecule": ethanol(),
    "charged": ethanol().changed(charge=-1, spin_multiplicity=2),
}


@dataclasses.dataclass
class Numbers:
    """What every form of a model says; None where a form does not say it."""

    energy: float
    atomic_energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray | None = None
    atomic_virials: np.ndarray | None = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@functools.cache
def eager(name: str, dtype: str):
    """A model with a scale and a composition of its own."""
    model = make_potential(MODELS[name])
    with torch.no_grad():
        model.scales[0].fill_(0.7)
        model.compositions[0].copy_(torch.tensor([[-3.0], [-150.0], [-430.0], [-4.0]]))
    return model.to_dtype(getattr(torch, dtype)).requires_grad_(False)


@functools.cache
def exported(folder, name: str, dtype: str) -> str:
    path = folder / f"{name}-{dtype}.pt"
    export_model(eager(name, dtype), path, dtype)
    return str(path)


def from_graph(model, graph: EdgeGraph) -> Numbers:
    """Numbers of a torch model over the slow edges."""
    with torch.jit.optimized_execution(False):  # compiles for each shape otherwise
        energies = model(graph, ["energy"])["energy"][:, 0]
    (gradients,) = torch.autograd.grad(
        energies.sum(), graph.edge_vectors, materialize_grads=True
    )
    ends = (graph.centers, graph.neighbors, len(graph.species))
    vectors = graph.edge_vectors.detach()
    return Numbers(
        energies.sum().item(),
        energies.detach().numpy(),
        fold_forces(gradients, *ends).numpy(),
        fold_virial(gradients, vectors).numpy(),
        fold_atomic_virials(gradients, vectors, *ends).numpy(),
    )


def from_engine(engine: Engine, structure: Structure) -> Numbers:
    results = engine.evaluate(
        structure.positions,
        np.searchsorted(ATOMIC_NUMBERS, structure.numbers).astype(np.int32),
        structure.cell,
        structure.pbc,
        charge=structure.charge,
        spin_multiplicity=structure.spin_multiplicity,
        atomic_virials=True,
    )
    names = [field.name for field in dataclasses.fields(Numbers)]
    return Numbers(**{name: results[name] for name in names})


def to_ase(structure: Structure) -> ase.Atoms:
    info = {"charge": structure.charge, "spin": structure.spin_multiplicity}
    return ase.Atoms(
        structure.numbers,
        structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        info=info,
    )


def from_ase(calculator: PETMADCalculator, structure: Structure) -> Numbers:
    """Energies and forces; with three periods also stresses, turned back to virials."""
    atoms = to_ase(structure)
    if not calculator.engine.info.is_conditioned:
        atoms.info.clear()  # or the calculator warns that they have no effect
    atoms.calc = calculator
    numbers = Numbers(
        atoms.get_potential_energy(), atoms.get_potential_energies(), atoms.get_forces()
    )
    if structure.pbc.all():
        volume = structure.volume
        numbers.virial = -volume * atoms.get_stress(voigt=False)
        numbers.atomic_virials = -volume * atoms.get_stresses(voigt=False)
    return numbers


def assert_same(ours: Numbers, expected: Numbers, tolerance: float, form: str) -> None:
    for field in dataclasses.fields(Numbers):
        value, reference = getattr(ours, field.name), getattr(expected, field.name)
        if value is None:
            continue
        if field.name == "atomic_virials" and form.endswith("ASE"):
            reference = 0.5 * (reference + reference.transpose(0, 2, 1))
        scale = np.abs(reference).max(initial=0.0)
        what = f"{field.name}: {form} against eager"
        np.testing.assert_allclose(
            value, reference, rtol=0, atol=tolerance * scale, err_msg=what
        )


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", MODELS)
def test_one_answer(folder, name, dtype):
    model = eager(name, dtype)
    path = exported(folder, name, dtype)
    scripted, file = torch.jit.script(model), torch.jit.load(path)
    engine, calculator = Engine(path), PETMADCalculator(path)

    def call_file(graph: EdgeGraph, names: list[str]) -> dict[str, torch.Tensor]:
        return file(*graph, names)

    for key, structure in STRUCTURES.items():
        graph = make_graph([structure], model.config.cutoff)
        expected = from_graph(model, graph)
        if key != "atom":
            assert np.abs(expected.forces).max() > 1e-2
            assert np.abs(expected.atomic_virials).max() > 1e-2
        forms = {
            "scripted": from_graph(scripted, graph),
            "file": from_graph(call_file, graph),
            "engine": from_engine(engine, structure),
            "ASE": from_ase(calculator, structure),
        }
        for form, numbers in forms.items():
            assert_same(numbers, expected, TOLERANCES[dtype], f"{key} by {form}")


def test_structures_cover_what_they_should():
    """A cell smaller than the cutoff, several images of a pair, no edges at all."""
    n_images = {}
    for key, structure in STRUCTURES.items():
        graph = make_graph([structure], 5.0)
        pairs = torch.stack([graph.centers, graph.neighbors], dim=1).unique(dim=0)
        n_images[key] = len(graph.centers) / max(len(pairs), 1)
    assert n_images["tiny_cell"] > 5
    assert n_images["water"] > 1
    assert n_images["molecule"] == 1
    assert n_images["atom"] == 0


def test_float32_file_of_a_float64_model(folder):
    """The network is rounded, energies stay near, and sums stay float64."""
    path = folder / "rounded.pt"
    export_model(eager("modern", "float64"), path, "float32")
    exact = from_engine(Engine(exported(folder, "modern", "float64")), water_box())
    rounded = from_engine(Engine(str(path)), water_box())
    deviation = np.abs(rounded.forces - exact.forces).max()
    assert 0 < deviation < 1e-5 * np.abs(exact.forces).max()
    assert abs(rounded.energy - exact.energy) < 1e-6 * len(water_box())


@pytest.mark.parametrize("name", ["modern", "solver", "grid"])
def test_every_device(folder, device, name):
    model = eager(name, "float64")
    engine = Engine(exported(folder, name, "float64"), device=str(device))
    for key in ("triclinic", "tiny_cell", "atom", "molecule"):
        expected = from_graph(model, make_graph([STRUCTURES[key]], model.config.cutoff))
        numbers = from_engine(engine, STRUCTURES[key])
        assert_same(numbers, expected, TOLERANCES["float64"], f"{key} on {device}")


def test_calculator_forgets_nothing_between_structures(folder):
    """One engine, many systems in turn: each answer as if it were alone."""
    calculator = PETMADCalculator(exported(folder, "solver", "float64"))
    path = exported(folder, "solver", "float64")
    for key in ("water", "atom", "tiny_cell", "molecule", "water"):
        alone = from_ase(PETMADCalculator(path), STRUCTURES[key])
        assert_same(from_ase(calculator, STRUCTURES[key]), alone, 1e-13, key)
