"""Modes of the pair style: dynamics, what they refuse, and what the log says."""

import re

import numpy as np
import pytest
from lammps_tools import (
    Box,
    assert_same,
    output_lines,
    read_frames,
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
LIMIT = 120  # s: a rank that waits for ever is a hang
HOT = "velocity all create 300 4928 loop geom\ntimestep 0.0005\n"


def setup_of(box, folder, model, mode):
    """Lines up to the first run, the data file written."""
    write_data(folder / "box.data", box)
    return setup_lines(box, "box.data", model, options=f"check no mode {mode}")


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
@pytest.mark.parametrize(
    "move", ["nve", "npt temp 300 300 0.05 aniso 0 0 0.2"], ids=["nve", "npt"]
)
def test_forces_along_200_steps(models, tmp_path, mode, move):
    """Every 40th frame, its atoms wherever they went, against the engine."""
    box = water((3, 2, 2))
    script = setup_of(box, tmp_path, models["adaptive"], mode) + HOT
    script += f"velocity all set 30 -20 10 sum yes\nfix move all {move}\n"
    script += "dump path all custom 40 path.dump id element x y z fx fy fz\n"
    script += 'dump_modify path sort id element O H C format float "%.17g"\n'
    run_lammps(script + "run 200\n", tmp_path, n_ranks=2)
    frames = read_frames(tmp_path / "path.dump")
    assert len(frames) == 6
    for frame in frames:
        now = Box(frame.symbols, frame.positions, frame.cell)
        wanted = reference(models["adaptive"], now)["forces"]
        assert np.abs(frame.forces - wanted).max() <= TOLERANCE * np.abs(wanted).max()
    assert (np.abs(frames[-1].cell - box.cell).max() > 1e-4) == move.startswith("npt")


CHANGES = {
    "processors": (water, "processors 1 2 1\n", ""),
    "tiled": (lambda: water((5, 2, 2)), "comm_style tiled\n", "balance 1.0 rcb\n"),
    "shifted": (lambda: water((4, 2, 2)), "", "balance 1.0 shift x 10 1.0\n"),
    "triclinic": (triclinic, "", ""),
    "replicated": (lambda: water((2, 2, 2)), "", "replicate 2 1 1\n"),
    "deleted": (
        lambda: water((3, 2, 2)),
        "",
        "delete_atoms random fraction 0.3 yes all NULL 482\n",
    ),
    "deposited": (
        lambda: water((3, 2, 2)),
        "",
        "region box block 0.1 9 0.1 6 0.1 6\n"
        "fix rain all deposit 2 1 2 123 region box near 1.0\n",
    ),
}


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_boxes_and_atoms_that_change(models, tmp_path, mode):
    """One job of all: grids, tiles, replicas, atoms that come and go, two ranks."""
    script = []
    for name, (make_box, before, after) in CHANGES.items():
        box = make_box()
        if mode == "recompute" and name == "tiled":
            box = water((6, 5, 5))  # LAMMPS: no deeper ghosts than the box
        write_data(tmp_path / f"{name}.data", box)
        options = f"check no mode {mode}"
        lines = setup_lines(box, f"{name}.data", models["adaptive"], options=options)
        lines = lines.replace("read_data", f"{before}read_data")
        if name != "deposited":  # changed before the run, with the style defined
            lines += after
            after = ""
        lines += HOT + "fix move all nve\n" + after + "run 6\n"
        cell = "$(lx:%.17g) $(ly:%.17g) $(lz:%.17g) $(xy:%.17g) $(xz:%.17g)"
        lines += output_lines(name)
        lines += f'print "{cell} $(yz:%.17g)" file {name}.cell\n'
        script += ["clear", lines]
    run_lammps("\n".join(script), tmp_path, n_ranks=2)
    for name in CHANGES:
        found = read_output(tmp_path, name)
        sides = (tmp_path / f"{name}.cell").read_text().split()
        lx, ly, lz, xy, xz, yz = map(float, sides)
        cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        now = Box(found["symbols"], found["positions"], cell)
        assert_same(found, reference(models["adaptive"], now), TOLERANCE)


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_shrink_wrapped(models, tmp_path, mode):
    box = water((3, 2, 2))
    far = box.positions[:1] + np.array([20.0, 1.0, 0.0])
    box.positions = np.concatenate([box.positions, far])
    box = Box([*box.symbols, "O"], box.positions, np.diag([40.0, 6.2, 6.2]), "s s s")
    script = setup_of(box, tmp_path, models["adaptive"], mode) + HOT
    script += "fix move all nve\n" + output_lines("out", steps=20)
    run_lammps(script, tmp_path, n_ranks=2)
    found = read_output(tmp_path, "out")
    expected = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, expected, TOLERANCE)


def error_of(script, folder, n_ranks=2):
    """The one line that begins with ERROR."""
    done = run_lammps(script, folder, n_ranks=n_ranks, timeout=LIMIT, check=False)
    assert done.returncode != 0
    lines = (done.stdout + done.stderr).splitlines()
    return next(line for line in lines if line.startswith("ERROR"))


def test_images_on_several_ranks_are_refused(models, tmp_path):
    script = setup_of(water((2, 2, 2)), tmp_path, models["fixed"], "images")
    message = error_of(script + "run 0\n", tmp_path)
    assert "`mode images` works on one rank" in message
    assert "there are 2 ranks; use `mode exchange`" in message


def test_shallow_halo_stops_with_the_missing_length(models, tmp_path):
    mode = "recompute halo 5.0"
    script = setup_of(water((3, 2, 2)), tmp_path, models["fixed"], mode)
    message = error_of(script + "run 0\n", tmp_path)
    assert "owned atoms depend on others up to" in message
    assert re.search(r"at least \d\.\d+ Å are missing; ask for deeper ghosts", message)


def test_tiles_smaller_than_the_reach_are_refused(models, tmp_path):
    script = setup_of(water((3, 2, 2)), tmp_path, models["fixed"], "recompute")
    script = script.replace("read_data", "comm_style tiled\nread_data")
    message = error_of(script + "run 0\n", tmp_path)
    assert "needs ghosts 15.1 A deep, but the periodic box is 9.3 A long" in message
    assert "use `comm_style brick`, or `mode exchange`" in message


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_lists_that_come_too_late_are_noticed(models, tmp_path, mode):
    """Half of the skin of 0.7 Å is 0.35 Å: an edge may be missing beyond."""
    script = setup_of(water((3, 2, 2)), tmp_path, models["fixed"], mode)
    script += "velocity all set 20 0 0\nneigh_modify every 1000 delay 1000 check no\n"
    script += "timestep 0.001\nfix move all nve\nrun 100\n"
    message = error_of(script, tmp_path)
    assert re.search(r"atom \d+ has moved 0\.[34]\d* Å since the edge list", message)
    assert "neigh_modify every 1 delay 0 check yes" in message


def test_log_states_mode_reach_work_and_traffic(models, tmp_path):
    texts = {}
    for mode in ("exchange", "recompute"):
        script = setup_of(water((3, 2, 2)), tmp_path, models["adaptive"], mode)
        texts[mode] = run_lammps(script + "run 2\n", tmp_path, n_ranks=2).stdout
        assert f"mode: {mode} (2 ranks)" in texts[mode]
    assert "reach: 3.6 A used, 3.6 A available; ghosts per rank: " in texts["exchange"]
    assert ", 1.0000 times those of one rank\n" in texts["exchange"]
    used, available = re.search(
        r"reach: (\S+) A used, 14.75 A available; ghosts per rank: (\d+)",
        texts["recompute"],
    ).groups()  # of a model's 14.4, and half of the skin, by which atoms may move
    assert 3.6 < float(used) <= 14.75
    assert int(available) > 500
    ratio, all_ghosts = re.search(
        r", (\S+) times those of one rank \(all ghosts: \(1 \+ 2h/a\)\^3 = (\S+)\)",
        texts["recompute"],
    ).groups()
    assert 1.0 < float(ratio) < float(all_ghosts)
    (messages,) = re.findall(r"messages of edges (\d+), values", texts["exchange"])
    assert int(messages) > 0
    assert "bytes sent per step: 0 (" in texts["recompute"]
