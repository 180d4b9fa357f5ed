"""Freshly made numbers of upstream against every form of ours: the acceptance test.

    python tools/make_oracle.py all --seed 0 --out oracle_0    # needs metatrain
    export PETMAD_ORACLE=oracle_0:oracle_1:oracle_2
    pytest -m oracle tests/parity/test_oracle.py

Each folder holds checkpoints of upstream's layout and what upstream says of six
structures. Here they are converted and evaluated by eager Python, the exported file,
the C++ engine, ASE, and LAMMPS on one and two ranks; the largest differences are
written to ``oracle.json`` in the working directory.
"""

import collections
import functools
import json
import os
import pathlib

import ase
import numpy as np
import pytest
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from goldens import TOLERANCE
from graphs import answer_graph, make_graph
from lammps_tools import (
    Box,
    output_lines,
    read_numbers,
    read_output,
    run_lammps,
    setup_lines,
    write_data,
)
from resources import skip_or_fail
from structures import Structure

from petmad import PETMADCalculator
from petmad.conversion.convert import convert
from petmad.export import export_model


pytestmark = [pytest.mark.oracle, pytest.mark.slow]

FOLDERS = [f for f in os.environ.get("PETMAD_ORACLE", "").split(os.pathsep) if f]
ELEMENTS = ("H", "C", "O", "Si")
SYMBOLS = {1: "H", 6: "C", 8: "O", 14: "Si"}
AUXILIARY = {
    "features": "feature",
    "last_layer_features/energy": "mtt::aux::energy_last_layer_features",
    "cutoff_stats": "mtt::aux::cutoff_stats",
}
WORST: dict[str, float] = collections.defaultdict(float)
"""Form and quantity -> largest difference, relative to max(1, largest number)."""


def references() -> list[pathlib.Path]:
    """Reference files of all folders; long range is refused, hence left out."""
    files = [
        f for folder in FOLDERS for f in sorted(pathlib.Path(folder).glob("*.json"))
    ]
    return [file for file in files if file.stem != "longrange"]


@pytest.fixture(
    scope="module",
    params=references() or [None],
    ids=lambda f: f"{f.parent.name}-{f.stem}" if f else "none",
)
def case(request, tmp_path_factory):
    """A converted model, its file in float64, and upstream's numbers."""
    if request.param is None:
        skip_or_fail("ORACLE", "PETMAD_ORACLE names no folder made by make_oracle.py")
    potential, _ = convert(request.param.with_suffix(".ckpt"))
    path = tmp_path_factory.mktemp("oracle") / "model.pt"
    export_model(potential, path, "float64")
    numbers = json.loads(request.param.read_text())
    return potential.double(), path, numbers["structures"]


@pytest.fixture(scope="module", autouse=True)
def record():
    """Write the largest differences at the end."""
    yield
    pathlib.Path("oracle.json").write_text(json.dumps(WORST, indent=1, sort_keys=True))


def structure_of(theirs: dict) -> Structure:
    charge, spin = theirs.get("charge_spin") or (0, 1)
    numbers, positions = theirs["numbers"], theirs["positions"]
    return Structure(numbers, positions, theirs["cell"], theirs["pbc"], charge, spin)


def compare(form: str, name: str, ours, theirs) -> None:
    """Record the difference and judge it."""
    theirs = np.asarray(theirs, dtype=np.float64).reshape(np.shape(ours))
    scale = max(1.0, np.abs(theirs).max(initial=0.0))
    difference = np.abs(np.asarray(ours) - theirs).max(initial=0.0) / scale
    WORST[f"{form} {name}"] = max(WORST[f"{form} {name}"], float(difference))
    assert difference <= TOLERANCE, f"{name} by {form}: {difference}"


def compare_rows(form: str, potential, rows: dict, theirs: dict, volume: float) -> None:
    """Outputs given per atom, [n_atoms, width], of whatever upstream tells."""
    for name, values in rows.items():
        spec = next((s for s in potential.targets if s.name == name), None)
        wanted = theirs.get(AUXILIARY.get(name, name))
        if wanted is None or name == "energy":
            continue
        if name.endswith("_uncertainty"):
            values = np.linalg.norm(values.sum(axis=0))
        elif name.endswith("_ensemble") or (spec is not None and not spec.per_atom):
            values = values.sum(axis=0)
        if spec is not None and spec.kind == "stress":
            values = values / volume if volume > 0 else np.zeros(9)
        compare(form, name, values, wanted)


def compare_energy(form: str, theirs: dict, energy, atomic, forces, strain) -> None:
    compare(form, "energy", energy, theirs["energy"])
    if np.size(theirs["atomic_energies"]) == np.size(
        atomic
    ):  # LLPR tells the sum alone
        compare(form, "atomic energies", atomic, theirs["atomic_energies"])
    compare(form, "forces", forces, theirs["forces"])
    compare(form, "strain gradient", strain, theirs["dE_dstrain"])


@pytest.mark.parametrize("form", ["eager", "exported"])
def test_python(case, form):
    potential, path, references = case
    names = potential.output_names
    model = potential
    if form == "exported":
        scripted = torch.jit.load(str(path))

        def model(graph, outputs):
            return scripted(*graph[:8], 0, outputs)

    for theirs in references.values():
        structure = structure_of(theirs)
        graph = make_graph([structure], potential.config.cutoff)
        ours = answer_graph(model, graph, [n for n in names if n != "energy"])
        strain = ours.strain_gradients[0]
        compare_energy(
            form, theirs, ours.energy[0], ours.atomic_energies, ours.forces, strain
        )
        compare_rows(form, potential, ours.outputs, theirs, structure.volume)


@functools.cache
def calculator_of(path: pathlib.Path) -> PETMADCalculator:
    return PETMADCalculator(path)


def atoms_of(structure: Structure) -> ase.Atoms:
    info = {
        "charge": structure.charge,
        "spin_multiplicity": structure.spin_multiplicity,
    }
    numbers, positions = structure.numbers, structure.positions
    atoms = ase.Atoms(numbers, positions, cell=structure.cell, pbc=structure.pbc)
    atoms.info.update(info)
    return atoms


def test_engine(case):
    potential, path, references = case
    engine = calculator_of(path).engine
    names = [n for n in engine.info.outputs if n != "energy"]
    for theirs in references.values():
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
    _, path, references = case
    calculator = calculator_of(path)
    ours_of = {
        "non_conservative_force": "non_conservative_forces",
        **{theirs: name for name, theirs in AUXILIARY.items()},
    }
    for theirs in references.values():
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
                wanted = full_3x3_to_voigt_6_stress(np.reshape(wanted, (3, 3)))
            if name in calculator.extra_outputs:
                compare("ase", name, calculator.get_property(name, atoms), wanted)
        if atoms.pbc.all():
            strain = np.asarray(theirs["stress"])
            voigt = full_3x3_to_voigt_6_stress(0.5 * (strain + strain.T))
            compare("ase", "stress", calculator.get_property("stress", atoms), voigt)


def lammps_box(structure: Structure) -> tuple[Box, bool]:
    """The structure in LAMMPS's frame, and whether that is its own frame."""
    positions, cell = structure.positions, structure.cell.copy()
    periodic = structure.pbc
    is_rotated = bool(np.abs(np.triu(cell, 1)).max() > 0)
    if is_rotated:
        standard, rotation = ase.cell.Cell(cell).standard_form()
        positions, cell = positions @ rotation.T, np.array(standard)
    for k in np.flatnonzero(~periodic):
        cell[k, k] = np.ptp(positions[:, k]) + 8.0
        positions = positions - (positions[:, k].min() - 4.0) * np.eye(3)[k]
    positions = (np.linalg.solve(cell.T, positions.T).T % 1.0) @ cell
    letters = " ".join("p" if p else "f" for p in periodic)
    symbols = [SYMBOLS[z] for z in structure.numbers]
    return Box(symbols, positions, cell, letters), is_rotated


UNCERTAINTY = """
compute total all pair petmad
thermo_style custom step pe c_total[*]
"""


@pytest.mark.lammps
@pytest.mark.parametrize("n_ranks", [1, pytest.param(2, marks=pytest.mark.mpi)])
def test_lammps(case, n_ranks, tmp_path):
    """In its own frame against upstream, in a rotated one against the engine."""
    potential, path, references = case
    has_uncertainty = potential.targets[0].has_uncertainty
    script = []
    for k, theirs in enumerate(references.values()):
        structure = structure_of(theirs)
        box, _ = lammps_box(structure)
        write_data(tmp_path / f"{k}.data", box, ELEMENTS)
        options = f"check no charge {structure.charge}"
        options += f" spin {structure.spin_multiplicity}"
        options += " uncertainty yes" if has_uncertainty else ""
        lines = setup_lines(box, f"{k}.data", path, options=options, elements=ELEMENTS)
        output = output_lines(f"{k}", elements=ELEMENTS)
        if has_uncertainty:
            lines += UNCERTAINTY
            output = output.replace("c_w[6]\n", "c_w[6] c_total[*]\n")
            n_values = 1 + potential.targets[0].n_members
            values = " ".join(f"$(c_total[{i + 1}]:%.17g)" for i in range(n_values))
            output += f'print "{values}" file {k}.totals\n'
        script += ["clear", lines, output]
    run_lammps("\n".join(script), tmp_path, n_ranks=n_ranks, timeout=280)
    for k, theirs in enumerate(references.values()):
        judge_lammps(
            f"lammps {n_ranks}", path, tmp_path, k, structure_of(theirs), theirs
        )


def judge_lammps(form, path, folder, k, structure, theirs) -> None:
    found = read_output(folder, f"{k}")
    assert len(read_numbers(folder / f"{k}.dump")["id"]) == len(structure)
    box, is_rotated = lammps_box(structure)
    strain = -found["atomic_virials"].sum(axis=0)
    totals = folder / f"{k}.totals"
    if not is_rotated:
        atomic, forces = found["atomic_energies"], found["forces"]
        compare_energy(form, theirs, found["energy"], atomic, forces, strain)
        if totals.exists():
            values = np.loadtxt(totals)
            compare(form, "energy_uncertainty", values[0], theirs["energy_uncertainty"])
            compare(form, "energy_ensemble", values[1:], theirs["energy_ensemble"])
        return
    rotated = structure.changed(positions=box.positions, cell=box.cell)
    calculator, atoms = calculator_of(path), atoms_of(rotated)
    for name, ours in (
        ("energy", found["energy"]),
        ("energies", found["atomic_energies"]),
        ("forces", found["forces"]),
    ):
        compare(f"{form} rotated", name, ours, calculator.get_property(name, atoms))
    if totals.exists():
        values = np.loadtxt(totals)
        for name, ours in (
            ("energy_uncertainty", values[0]),
            ("energy_ensemble", values[1:]),
        ):
            compare(f"{form} rotated", name, ours, calculator.get_property(name, atoms))
