"""Converted checkpoints in LAMMPS give upstream's numbers, on one rank and on two.

Open structures are those of the goldens, so that LAMMPS is compared with upstream
itself; in periodic water it is compared with the engine, which unit tests compare with
upstream.
"""

import numpy as np
import pytest
from goldens import assert_close, golden_model, golden_structures
from lammps_tools import (
    Box,
    assert_same,
    output_lines,
    read_numbers,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    water,
    write_data,
)
from upstream_files import newest, save, wrapped

from petmad._engine import Engine
from petmad.cli import main


pytestmark = pytest.mark.lammps

OPTIONS = {"conditioned": "charge 1 spin 2", "llpr": "uncertainty yes"}
KEYS = {"conditioned": "ethanol_1_2"}
VARIANTS = ("conditioned", "heads", "llpr", "zbl")
SYMBOLS = {1: "H", 6: "C", 8: "O"}

UNCERTAINTY = """
compute total all pair petmad
fix atoms all pair 1 petmad uncertainty 1
dump sigma all custom 1 {name}.sigma id f_atoms
dump_modify sigma sort id format float %.17g first yes
"""


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Model files in float64, from checkpoints in upstream's layout."""
    folder = tmp_path_factory.mktemp("converted")
    for variant in VARIANTS:
        model = golden_model(variant)
        checkpoint = newest(model)
        if variant == "llpr":
            checkpoint = wrapped(model, 4, checkpoint)
        save(checkpoint, folder / "a.ckpt")
        output = str(folder / f"{variant}.pt")
        command = ["convert", str(folder / "a.ckpt"), "-o", output]
        assert main([*command, "--dtype", "float64"]) == 0
    return folder


def ethanol(variant: str) -> tuple[Box, dict[str, np.ndarray]]:
    """The molecule in an open box, and upstream's numbers."""
    key = KEYS.get(variant, "ethanol_0_1")
    structure, theirs = golden_structures(variant)[key]
    positions = structure.positions - structure.positions.min(axis=0) + 3.0
    symbols = [SYMBOLS[z] for z in structure.numbers]
    return Box(
        symbols, positions, np.diag(positions.max(axis=0) + 3.0), "f f f"
    ), theirs


def uncertainty_lines(name: str) -> str:
    """Write the totals of compute pair and the atoms of fix pair."""
    values = " ".join(f"$(c_total[{i}]:%.17g)" for i in range(1, 6))
    return f'print "{values}" file {name}.totals\n'


@pytest.fixture(
    scope="module", params=[1, pytest.param(2, marks=pytest.mark.mpi)], ids=lambda n: n
)
def outputs(converted, tmp_path_factory, request):
    """All variants in one job: name -> folder of its output."""
    folder = tmp_path_factory.mktemp(f"converted_{request.param}")
    script = []
    for variant in VARIANTS:
        for case, box in (
            ("ethanol", ethanol(variant)[0]),
            ("water", water((2, 2, 2))),
        ):
            name = f"{variant}_{case}"
            write_data(folder / f"{name}.data", box)
            options = OPTIONS.get(variant, "")
            path = converted / f"{variant}.pt"
            lines = setup_lines(box, f"{name}.data", path, options=options)
            output = output_lines(name)
            if variant == "llpr":
                lines += UNCERTAINTY.format(name=name)
                output = output.replace("c_w[6]\n", "c_w[6] c_total[*]\n")
                output += uncertainty_lines(name)
            script += ["clear", lines, output]
    run_lammps("\n".join(script), folder, n_ranks=request.param)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
def test_upstreams_numbers(outputs, variant):
    found = read_output(outputs, f"{variant}_ethanol")
    theirs = ethanol(variant)[1]
    for name in ("energy", "forces", "atomic_energies"):
        assert_close(found[name], theirs[name], name)
    strain = 0.5 * (theirs["strain_gradient"] + theirs["strain_gradient"].T)
    assert_close(found["virial"], -strain, "virial")


def test_uncertainty_and_ensemble(outputs):
    theirs = ethanol("llpr")[1]
    totals = np.loadtxt(outputs / "llpr_ethanol.totals")
    assert_close(totals[0], theirs["total/energy_uncertainty"], "uncertainty")
    assert_close(totals[1:], theirs["total/energy_ensemble"], "ensemble")
    columns = read_numbers(outputs / "llpr_ethanol.sigma")
    atoms = np.array(columns["f_atoms"], dtype=float)
    assert_close(atoms, theirs["energy_uncertainty"], "uncertainty of atoms")


def engine_answer(path, box: Box, names: list[str]) -> dict:
    """The engine's further outputs for a box."""
    engine = Engine(str(path), check_golden=False)
    numbers = [{"H": 1, "C": 6, "O": 8}[s] for s in box.symbols]
    species = np.searchsorted(engine.info.atomic_numbers, numbers).astype(np.int32)
    return engine.evaluate(box.positions, species, box.cell, box.pbc, outputs=names)


def test_periodic_uncertainty(outputs, converted):
    names = ["energy_uncertainty", "energy_ensemble"]
    ours = engine_answer(converted / "llpr.pt", water((2, 2, 2)), names)
    totals = np.loadtxt(outputs / "llpr_water.totals")
    sigma = np.linalg.norm(ours["sums"]["energy_uncertainty"])
    assert_close(totals[0], sigma, "uncertainty")
    assert_close(totals[1:], ours["sums"]["energy_ensemble"], "ensemble")
    assert_close(totals[1:].mean(), ours["energy"], "mean of the ensemble")


@pytest.mark.parametrize("variant", ["heads", "llpr", "zbl"])
def test_periodic_numbers(outputs, converted, variant):
    found = read_output(outputs, f"{variant}_water")
    expected = reference(converted / f"{variant}.pt", water((2, 2, 2)))
    assert_same(found, expected, 1e-10)


@pytest.fixture(scope="module")
def direct(converted, tmp_path_factory):
    """Water driven by the direct heads on two ranks."""
    folder, box = tmp_path_factory.mktemp("direct"), water((2, 2, 2))
    write_data(folder / "box.data", box)
    script = setup_lines(
        box, "box.data", converted / "heads.pt", options="forces direct"
    )
    run_lammps(script + output_lines("direct"), folder, n_ranks=2)
    return folder, box


@pytest.mark.mpi
def test_direct_forces_and_pressure(direct, converted):
    folder, box = direct
    found = read_output(folder, "direct")
    names = ["non_conservative_force", "non_conservative_stress"]
    expected = engine_answer(converted / "heads.pt", box, names)
    forces = expected["outputs"]["non_conservative_force"]
    assert_close(found["forces"], forces - forces.mean(axis=0), "direct forces")
    assert np.abs(forces.mean(axis=0)).max() > 1e-3
    virial = -expected["sums"]["non_conservative_stress"].reshape(3, 3)
    assert_close(found["virial"], virial, "direct pressure")
    assert_close(found["energy"], expected["energy"], "energy")
    log = (folder / "log.test").read_text()
    assert "forces: direct (not the gradient of the energy" in log
    assert "pressure: direct" in log


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "forces direct",
            "`forces direct` needs a model with direct forces",
        ),
        ("uncertainty yes", "`uncertainty yes` needs a model with uncertainties"),
        ("forces newton", "`forces` must be gradient or direct, got 'newton'"),
        ("uncertainty", "keyword 'uncertainty' lacks its value"),
    ],
)
def test_what_a_model_lacks(converted, tmp_path, options, message):
    box = water((1, 1, 1))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", converted / "zbl.pt", options=options)
    done = run_lammps(script, tmp_path, check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
