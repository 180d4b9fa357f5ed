"""An error on one rank or on all ends every rank, with its message and in time."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from lammps_tools import (
    PATIENT_MPI,
    program,
    run_lammps,
    setup_lines,
    water,
    write_data,
)


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
    assert 1 <= len(lines) <= 2  # ours, sent ahead, and that of LAMMPS
    for line in lines:
        assert line.startswith(
            "ERROR on proc 1: pair_style petmad: atoms 55 and 56 are"
        )


def wait_for(path, words):
    """Wait until a file holds the words."""
    for _ in range(10 * LIMIT):
        if path.exists() and words in path.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"no {words!r} in {path}")


def child_of(parent):
    """The process that a launcher has started."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        fields = status.read_text().rsplit(")", 1)[1].split()
        if int(fields[1]) == parent:
            return int(status.parent.name)
    raise AssertionError(f"process {parent} has no child")


def test_killed_rank_ends_the_job_within_seconds(setup, tmp_path):
    """As when memory runs out: the other rank does not wait for its messages.

    Who killed it is the launcher's to say. MPICH's says "Killed (signal 9)" most of the
    time, and sometimes ends without a word; its exit status tells every time.
    """
    (tmp_path / "start.sh").write_text('echo $$ > "pid.$PMI_RANK" && exec "$@"\n')
    (tmp_path / "in.test").write_text(
        setup + "thermo 1\nfix move all nve\nrun 1000000\n"
    )
    command = [program("mpiexec"), "-n", "2", "sh", "start.sh", program("lmp")]
    command += ["-in", "in.test", "-log", "log.test"]
    output = tmp_path / "out.txt"
    with (
        output.open("w") as stream,
        subprocess.Popen(
            [str(word) for word in command],
            cwd=tmp_path,
            env={**os.environ, **PATIENT_MPI, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        ) as job,
    ):
        wait_for(output, "\n         5 ")  # thermo of step 5
        # `lmp` is a launcher in Python, the program its child
        os.kill(child_of(int((tmp_path / "pid.1").read_text())), signal.SIGKILL)
        started = time.monotonic()
        job.wait(timeout=LIMIT)
    assert job.returncode != 0
    assert time.monotonic() - started < 30
