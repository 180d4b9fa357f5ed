"""Products in bfloat16 in LAMMPS: chosen by option, told in the log, on any ranks."""

import pytest
from cpu_features import needs_bf16
from lammps_tools import (
    assert_same,
    make_model,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    water,
    write_data,
)


pytestmark = [pytest.mark.lammps, needs_bf16]


@pytest.mark.parametrize(
    "n_ranks", [1, pytest.param(2, marks=pytest.mark.mpi)], ids=["1 rank", "2 ranks"]
)
def test_the_engine_in_bf16_is_the_judge(tmp_path, n_ranks):
    model = tmp_path / "model.pt"
    make_model(model, "float32", num_neighbors_adaptive=6.0)
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", model, options="precision bf16")
    done = run_lammps(script + output_lines("out"), tmp_path, n_ranks=n_ranks)
    found = read_output(tmp_path, "out")
    assert "precision: bf16" in done.stdout
    assert_same(found, reference(model, box, precision="bf16"), 1e-5)
    with pytest.raises(AssertionError):  # it did multiply in bfloat16
        assert_same(found, reference(model, box), 1e-5)
