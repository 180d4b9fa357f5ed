"""Freshly made numbers of upstream against every form of ours: the acceptance test.

    python tools/make_oracle.py all --seed 0 --out oracle_0    # needs metatrain
    export PETMAD_ORACLE=oracle_0:oracle_1:oracle_2
    pytest -m oracle tests/parity/test_oracle.py tests/mpi/test_oracle_lammps.py

Each folder holds checkpoints of upstream's layout and what upstream says of six
structures. Here they are converted and evaluated by eager Python, the exported file,
the C++ engine, ASE, and LAMMPS on one and two ranks; the largest differences are
written to ``oracle.json`` in the working directory.
"""

import itertools

import numpy as np
import pytest
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from graphs import answer_graph, make_graph
from oracle_tools import (
    AUXILIARY,
    FOLDERS,
    atoms_of,
    calculator_of,
    compare,
    compare_energy,
    compare_rows,
    converted,
    references,
    require_folders,
    structure_of,
    write_worst,
)
from upstream_names import named_parameters

from petmad.model.folds import fold_forces


pytestmark = pytest.mark.oracle


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Of the model files; the largest differences are written at the end."""
    yield tmp_path_factory.mktemp("oracle")
    write_worst()


@pytest.fixture(
    scope="module",
    params=list(itertools.chain(*map(references, FOLDERS))) or [None],
    ids=lambda f: f"{f.parent.name}-{f.stem}" if f else "none",
)
def case(request, folder):
    """One model with upstream's numbers."""
    require_folders(request.param)
    return converted(request.param, folder)


@pytest.mark.parametrize("form", ["eager", "exported"])
def test_python(case, form):
    potential, path, numbers = case
    names = potential.output_names
    model = potential
    if form == "exported":
        scripted = torch.jit.load(str(path))

        def model(graph, outputs):
            return scripted(*graph[:8], 0, outputs)

    for theirs in numbers["structures"].values():
        structure = structure_of(theirs)
        graph = make_graph([structure], potential.config.cutoff)
        ours = answer_graph(model, graph, [n for n in names if n != "energy"])
        strain = ours.strain_gradients[0]
        compare_energy(
            form, theirs, ours.energy[0], ours.atomic_energies, ours.forces, strain
        )
        compare_rows(form, potential, ours.outputs, theirs, structure.volume)


def test_training_step(case):
    """Loss (E/n)² + mean(F²) of the raw energy; sum and norm of each gradient."""
    potential, _, numbers = case
    theirs = numbers["train_step"]
    structures = numbers["structures"]
    key = next(key for key in structures if key.startswith("triclinic"))
    structure = structure_of({**structures[key], "charge_spin": None})
    graph = make_graph([structure], potential.config.cutoff)
    energy = potential(graph, ["energy"], raw=True)["energy"].sum()
    (slopes,) = torch.autograd.grad(energy, graph.edge_vectors, create_graph=True)
    forces = fold_forces(slopes, graph.centers, graph.neighbors, len(structure))
    loss = (energy / len(structure)) ** 2 + (forces**2).mean()
    compare("training", "raw energy", energy.item(), theirs["raw_energy"])
    compare("training", "loss", loss.item(), theirs["loss"])
    parameters = named_parameters(potential)
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    wanted = {
        name.removeprefix("backend."): value
        for name, value in theirs["grad_sum_norm"].items()
    }
    assert set(wanted) <= set(parameters)
    for name, gradient in zip(parameters, gradients, strict=True):
        found = torch.zeros(1) if gradient is None else gradient
        found = [found.sum().item(), found.norm().item()]
        compare("training", "gradients", found, wanted.get(name, [0.0, 0.0]))


def test_engine(case):
    potential, path, numbers = case
    engine = calculator_of(path).engine
    names = [n for n in engine.info.outputs if n != "energy"]
    for theirs in numbers["structures"].values():
        structure = structure_of(theirs)
        species = np.searchsorted(engine.info.atomic_numbers, structure.numbers)
        ours = engine.evaluate(
            structure.positions,
            species.astype(np.int32),
            structure.cell,
            structure.pbc,
            structure.charge,
            structure.spin_multiplicity,
            atomic_virials=True,
            outputs=names,
        )
        strain = -ours["atomic_virials"].sum(axis=0)
        atomic, forces = ours["atomic_energies"], ours["forces"]
        compare_energy("engine", theirs, ours["energy"], atomic, forces, strain)
        rows = dict(ours["outputs"])
        for name in engine.info.norm_outputs:  # a row of one vector, the sum
            rows[name] = ours["sums"][name][None, :]
        compare_rows("engine", potential, rows, theirs, structure.volume)


def test_ase(case):
    _, path, numbers = case
    calculator = calculator_of(path)
    ours_of = {
        "non_conservative_force": "non_conservative_forces",
        **{theirs: name for name, theirs in AUXILIARY.items()},
    }
    for theirs in numbers["structures"].values():
        atoms = atoms_of(structure_of(theirs))
        compare(
            "ase", "energy", calculator.get_property("energy", atoms), theirs["energy"]
        )
        compare(
            "ase", "forces", calculator.get_property("forces", atoms), theirs["forces"]
        )
        for name, wanted in theirs.items():
            name = ours_of.get(name, name)
            if name == "non_conservative_stress":
                if not atoms.pbc.all():  # upstream has zeros where there is no volume
                    continue
                wanted = full_3x3_to_voigt_6_stress(np.reshape(wanted, (3, 3)))
            if name in calculator.extra_outputs:
                compare("ase", name, calculator.get_property(name, atoms), wanted)
        if atoms.pbc.all():
            strain = np.asarray(theirs["stress"])
            voigt = full_3x3_to_voigt_6_stress(0.5 * (strain + strain.T))
            compare("ase", "stress", calculator.get_property("stress", atoms), voigt)
