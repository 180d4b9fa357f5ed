"""compute petmad/load: what an atom costs, and load balancing by it."""

import numpy as np
import pytest
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


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]


def uneven():
    """Dense water on the left, as many single atoms far apart on the right."""
    box = water((2, 2, 2))
    spots = np.array(list(np.ndindex(3, 3, 3)))[:24] * [4.2, 4.1, 4.1] + [8.0, 0.5, 0.5]
    cell = np.diag([20.5, 12.4, 12.4])
    return Box(
        [*box.symbols, *("C" * 24)], np.concatenate([box.positions, spots]), cell
    )


def test_load_is_the_number_of_kept_edges(models, tmp_path):
    box = uneven()
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["adaptive"])
    script += "compute load all petmad/load\nthermo_style custom step pe c_load\n"
    script += "dump load all custom 1 load.dump id c_load\ndump_modify load sort id\n"
    script += 'run 0\nprint "$(c_load)" file imbalance.txt\n'
    run_lammps(script, tmp_path, n_ranks=2)
    found = np.array(read_numbers(tmp_path / "load.dump")["c_load"], dtype=float)
    expected = 1.0 + reference(models["adaptive"], box)["kept_edges"]
    np.testing.assert_array_equal(found, expected)
    is_left = box.positions[:, 0] < 0.5 * box.cell[0, 0]
    halves = expected[is_left].sum(), expected[~is_left].sum()
    imbalance = float((tmp_path / "imbalance.txt").read_text())
    assert imbalance == pytest.approx(2 * max(halves) / sum(halves), rel=1e-4)
    assert imbalance > 1.2


def test_load_of_two_models(models, tmp_path):
    box = uneven()
    write_data(tmp_path / "box.data", box)
    paths = models["adaptive"], models["fixed"]
    begin = setup_lines(box, "box.data", "").split("pair_style")[0]
    script = f"""{begin}
pair_style hybrid/overlay petmad {paths[0]} petmad {paths[1]}
pair_coeff * * petmad 1 O H C
pair_coeff * * petmad 2 O H C
neighbor 0.7 bin
compute load all petmad/load
thermo_style custom step pe c_load
dump load all custom 1 load.dump id c_load
dump_modify load sort id
run 0
"""
    run_lammps(script, tmp_path, n_ranks=2)
    found = np.array(read_numbers(tmp_path / "load.dump")["c_load"], dtype=float)
    edges = [reference(path, box)["kept_edges"] for path in paths]
    np.testing.assert_array_equal(found, 1.0 + edges[0] + edges[1])


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_fix_balance_by_load(models, tmp_path, mode):
    box = uneven()
    write_data(tmp_path / "box.data", box)
    options = f"check no mode {mode}"
    script = setup_lines(box, "box.data", models["adaptive"], options=options)
    script = script.replace("read_data", "processors 2 1 1\nread_data")
    script += """
compute load all petmad/load
variable load atom c_load
thermo_style custom step pe c_load
thermo 1
run 0
print "$(c_load)" file before.txt
fix even all balance 2 1.02 shift x 20 1.02 weight var load
fix move all nve
run 12
print "$(c_load)" file after.txt
"""
    run_lammps(script + output_lines("out"), tmp_path, n_ranks=2)
    before, after = (
        float((tmp_path / f"{name}.txt").read_text()) for name in ("before", "after")
    )
    assert after < 1.0 + 0.5 * (before - 1.0)
    found = read_output(tmp_path, "out")
    expected = reference(models["adaptive"], box, positions=found["positions"])
    assert_same(found, expected, 1e-10)
