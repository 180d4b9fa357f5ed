"""Freshly made numbers of upstream against LAMMPS; see ``parity/test_oracle.py``."""

import ase
import numpy as np
import pytest
from lammps_tools import (
    Box,
    output_lines,
    read_numbers,
    read_output,
    run_lammps,
    setup_lines,
    write_data,
)
from oracle_tools import (
    FOLDERS,
    atoms_of,
    calculator_of,
    compare,
    compare_energy,
    converted,
    references,
    require_folders,
    structure_of,
    write_worst,
)
from structures import Structure


pytestmark = [pytest.mark.oracle, pytest.mark.lammps, pytest.mark.timeout(1800)]

ELEMENTS = ("H", "C", "O", "Si")
SYMBOLS = {1: "H", 6: "C", 8: "O", 14: "Si"}


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


def lammps_lines(name: str, potential, path, theirs: dict, folder) -> list[str]:
    """One structure in LAMMPS."""
    structure = structure_of(theirs)
    box, _ = lammps_box(structure)
    write_data(folder / f"{name}.data", box, ELEMENTS)
    options = f"check no charge {structure.charge} spin {structure.spin_multiplicity}"
    n_members = potential.targets[0].n_members
    if n_members > 0:
        options += " uncertainty yes"
    lines = setup_lines(box, f"{name}.data", path, options=options, elements=ELEMENTS)
    output = output_lines(name, elements=ELEMENTS)
    if n_members > 0:
        lines += UNCERTAINTY
        output = output.replace("c_w[6]\n", "c_w[6] c_total[*]\n")
        values = " ".join(f"$(c_total[{i + 1}]:%.17g)" for i in range(1 + n_members))
        output += f'print "{values}" file {name}.totals\n'
    return ["clear", lines, output]


@pytest.mark.parametrize("n_ranks", [1, pytest.param(2, marks=pytest.mark.mpi)])
@pytest.mark.parametrize("oracle", FOLDERS or [None])
def test_lammps(oracle, n_ranks, tmp_path):
    """All models in one job; in its own frame against upstream, else the engine."""
    require_folders(oracle)
    script, judged = [], []
    for reference in references(oracle):
        potential, path, numbers = converted(reference, tmp_path)
        for key, theirs in numbers["structures"].items():
            name = f"{reference.stem}_{key}"
            script += lammps_lines(name, potential, path, theirs, tmp_path)
            judged.append((path, name, theirs))
    run_lammps("\n".join(script), tmp_path, n_ranks=n_ranks, timeout=1700)
    for path, name, theirs in judged:
        judge_lammps(f"lammps {n_ranks}", path, tmp_path, name, theirs)
    write_worst()


def judge_lammps(form, path, folder, name, theirs) -> None:
    structure = structure_of(theirs)
    found = read_output(folder, name)
    assert len(read_numbers(folder / f"{name}.dump")["id"]) == len(structure)
    box, is_rotated = lammps_box(structure)
    strain = -found["atomic_virials"].sum(axis=0)
    totals = folder / f"{name}.totals"
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
    ours = {
        "energy": found["energy"],
        "energies": found["atomic_energies"],
        "forces": found["forces"],
    }
    if totals.exists():
        values = np.loadtxt(totals)
        ours["energy_uncertainty"], ours["energy_ensemble"] = values[0], values[1:]
    for quantity, value in ours.items():
        wanted = calculator.get_property(quantity, atoms)
        compare(f"{form} rotated", quantity, value, wanted)
