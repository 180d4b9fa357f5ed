"""The folder of a training: nobody else writes to it meanwhile."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from toy_data import options as toy_options

from petmad.training.folder import claimed, held
from petmad.training.options import parse_options
from petmad.training.trainer import train


HOLDER = """
import sys, time
from pathlib import Path
from petmad.training.folder import held

with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_running_training_is_left_alone(tmp_path):
    """Before its first checkpoint, and by a resumption; a killed one holds nothing."""
    values = toy_options(tmp_path, epochs=1)
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            for resume in (None, folder / "last.ckpt"):
                with pytest.raises(ValueError, match=r"run is in use .*`--output`"):
                    train(parse_options(values), resume)
            assert [file.name for file in folder.iterdir()] == [".lock"]
        finally:
            other.kill()
    assert train(parse_options(values)).exists()
    train(parse_options(values), resume=folder / "last.ckpt")  # the lock is released


def test_what_came_meanwhile_is_not_overwritten(tmp_path):
    (tmp_path / "best.ckpt").write_text("of another training, that has ended")
    with pytest.raises(ValueError, match="already holds"), claimed(tmp_path, None):
        pass


def test_workers_of_a_killed_process_hold_nothing(tmp_path):
    """They are forked, and live on for some seconds."""
    (read, write), (answer, begun) = os.pipe(), os.pipe()
    with held(tmp_path):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.write(begun, b".")
            os.read(read, 1)  # until the test is over
            os._exit(0)
        os.read(answer, 1)
        with pytest.raises(ValueError, match="in use"), held(tmp_path):
            pass
    try:
        with held(tmp_path):
            pass
    finally:
        for descriptor in (read, write, answer, begun):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_without_locks_a_training_goes_on(tmp_path, monkeypatch, caplog):
    def absent(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", absent)
    with held(tmp_path), held(tmp_path):
        pass
    assert "cannot be locked (No locks available); start no second" in caplog.text
