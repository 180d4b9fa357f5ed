"""What a rank keeps for its backward pass is its own matter: messages stay paired."""

import pytest
from lammps_tools import (
    assert_same,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    water,
    write_data,
)


pytestmark = pytest.mark.lammps

RUNS = {
    "exchange": "memory layers",
    "recompute": "memory layers mode recompute",
}


def run(folder, model, options, n_ranks):
    box = water((3, 2, 2))
    write_data(folder / "box.data", box)
    script = setup_lines(box, "box.data", model, options=f"check no {options}")
    done = run_lammps(script + output_lines("out"), folder, n_ranks=n_ranks)
    return read_output(folder, "out"), reference(model, box), done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_layers_evaluated_again_on_two_ranks(models, tmp_path, options):
    found, wanted, log = run(tmp_path, models["fixed"], options, 2)
    assert_same(found, wanted, 1e-10)
    assert "rank 0, memory: " in log
    assert ", tier layers (" in log


def test_one_rank_tells_its_memory_once(models, tmp_path):
    found, wanted, log = run(tmp_path, models["adaptive"], "memory 100000", 1)
    assert_same(found, wanted, 1e-10)
    assert log.count("  memory: ") == 1
    assert "KiB per atom), 93.1 GiB available, tier keep\n" in log
    assert log.index("  memory: ") < log.index("Step ")


def test_unknown_memory_is_named(models, tmp_path):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["fixed"], options="memory much")
    done = run_lammps(script, tmp_path, check=False)
    assert done.returncode != 0
    message = "`memory` must be auto, keep, wide, layers, or the MB that may be used"
    assert message in done.stdout + done.stderr
