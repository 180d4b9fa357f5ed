"""LAMMPS on a GPU's lists and folds, emulated on the CPU: what stays on the device.

``device emulated`` builds lists, keeps them between reneighborings, measures edges and
folds gradients by the kernels of GPUs; the network runs on the CPU.
"""

import re

import pytest
from lammps_tools import (
    MOVING,
    assert_same,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    triclinic,
    water,
    write_data,
)


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]

TOLERANCE = 1e-10
N_STEPS = 60
RUNS = {
    "1 rank": (1, "images", water),
    "2 ranks": (2, "exchange", water),
    "4 ranks": (4, "exchange", water),
    "recomputed ghosts": (2, "recompute", water),
    "small skewed cell": (2, "exchange", triclinic),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_lists_stay_on_the_device(models, tmp_path, run):
    """After steps on lists of earlier positions, the engine's numbers on the CPU."""
    n_ranks, mode, make_box = run
    box = make_box()
    write_data(tmp_path / "box.data", box)
    options = f"check no device emulated mode {mode}"
    script = setup_lines(box, "box.data", models["adaptive"], options=options) + MOVING
    done = run_lammps(
        script + output_lines("moved", steps=N_STEPS), tmp_path, n_ranks=n_ranks
    )
    assert "device: emulated" in done.stdout
    found = read_output(tmp_path, "moved")
    wanted = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, wanted, TOLERANCE)
    builds = re.search(r" evaluations, (\d+) list builds", done.stdout)
    assert 1 < int(builds[1]) < N_STEPS / 2


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_lists_that_come_too_late_are_noticed(models, tmp_path, mode):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    options = f"check no device emulated mode {mode}"
    script = setup_lines(box, "box.data", models["adaptive"], options=options) + MOVING
    script += "neigh_modify every 1000 delay 1000 check no\n"
    done = run_lammps(script + "run 200\n", tmp_path, n_ranks=2, check=False)
    assert done.returncode != 0
    message = done.stdout + done.stderr
    assert re.search(r"atom \d+ has moved 0\.[34]\d* Å since the edge list", message)
