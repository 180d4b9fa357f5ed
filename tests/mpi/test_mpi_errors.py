"""An error on one rank or on all ends every rank, with its message and in time."""

import pytest
from lammps_tools import run_lammps, setup_lines, water, write_data


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]

LIMIT = 120  # s: a rank that waits for ever is a hang


@pytest.fixture
def setup(models, tmp_path):
    """Lines up to the first run for eighteen molecules on two ranks."""
    box = water()
    write_data(tmp_path / "box.data", box)
    return setup_lines(box, "box.data", models["fixed"])


def error_of(script, folder, wrapper=()):
    """The lines that begin with ERROR."""
    done = run_lammps(
        script, folder, n_ranks=2, timeout=LIMIT, check=False, wrapper=wrapper
    )
    assert done.returncode != 0
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("ERROR")]


def test_error_of_all_ranks_is_printed_once(setup, tmp_path):
    script = setup.replace("* * O H C", "* * O H Xe")
    (line,) = error_of(script, tmp_path)
    assert line.startswith("ERROR: pair_style petmad: element 'Xe' is not one of")


def test_model_readable_on_one_rank_only(setup, models, tmp_path):
    """Each rank starts in its own folder: the message is that of the one that fails."""
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
    (tmp_path / "0" / "model.pt").write_bytes(models["fixed"].read_bytes())
    (tmp_path / "start.sh").write_text('cd "$PMI_RANK" && exec "$@"\n')
    script = setup.replace(str(models["fixed"]), "model.pt")
    script = script.replace("box.data", str(tmp_path / "box.data"))
    (line,) = error_of(script, tmp_path, wrapper=["sh", tmp_path / "start.sh"])
    assert "pair_style petmad: cannot read the model file 'model.pt'" in line
    assert f"looked in {tmp_path / '1'}" in line


def test_error_on_one_rank_in_mid_run_ends_all(setup, tmp_path):
    """Two atoms coincide in the upper half of the box: their owner says so."""
    script = setup.replace("read_data", "processors 2 1 1\nread_data")
    script += "create_atoms 3 single 8.1 1 1\ncreate_atoms 3 single 8.1 1 1.001\n"
    lines = error_of(script + "run 0\n", tmp_path)
    (line,) = lines
    assert line.startswith("ERROR on proc 1: pair_style petmad: atoms 55 and 56 are")
