"""What CMake says of options that cannot be met; nothing is compiled."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
from resources import REPOSITORY


@pytest.fixture(scope="module")
def cmake():
    beside_python = pathlib.Path(sys.executable).parent / "cmake"
    found = str(beside_python) if beside_python.exists() else shutil.which("cmake")
    if found is None:
        pytest.skip("no cmake found; pip install cmake")
    return found


def configure(cmake, folder, *options):
    """(exit code, output with blanks folded) of a configuration."""
    command = [cmake, "-S", str(REPOSITORY), "-B", str(folder)]
    command += [f"-DPython_EXECUTABLE={sys.executable}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_unknown_choice(cmake, tmp_path):
    code, text = configure(cmake, tmp_path, "-DPETMAD_CUDA=maybe")
    assert code != 0
    assert "PETMAD_CUDA must be AUTO, ON or OFF, got 'maybe'" in text


@pytest.mark.skipif(
    torch.version.cuda is not None, reason="this torch has CUDA, so ON can be met"
)
def test_cuda_wanted_but_torch_has_none(cmake, tmp_path):
    code, text = configure(cmake, tmp_path, "-DPETMAD_CUDA=ON", "-DPETMAD_LAMMPS=OFF")
    assert code != 0
    assert f"PETMAD_CUDA=ON, but torch {torch.__version__}" in text
    assert "has no CUDA: install a CUDA build of torch" in text


def test_cuda_wanted_without_nvcc(cmake, tmp_path):
    code, text = configure(
        cmake,
        tmp_path,
        "-DPETMAD_CUDA=ON",
        "-DPETMAD_NVCC=/nowhere/nvcc",
        "-DPETMAD_LAMMPS=OFF",
    )
    assert code != 0
    assert "PETMAD_CUDA=ON, but there is no nvcc on the PATH" in text
    assert "pass -DPETMAD_NVCC=<path>, or configure with PETMAD_CUDA=AUTO" in text


def test_without_nvcc_the_summary_says_so(cmake, tmp_path):
    code, text = configure(
        cmake, tmp_path, "-DPETMAD_NVCC=/nowhere/nvcc", "-DPETMAD_LAMMPS=OFF"
    )
    assert code == 0, text
    assert "AUTO: no nvcc on the PATH or in /usr/local/cuda/bin; GPUs run" in text


def test_an_nvcc_that_fails_does_not_stop_the_build(cmake, tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    options = [f"-DPETMAD_NVCC={nvcc}", "-DPETMAD_LAMMPS=OFF"]
    code, text = configure(cmake, tmp_path / "auto", *options)
    assert code == 0, text
    assert f"AUTO: no nvcc that works: {nvcc} failed to compile a test" in text
    code, text = configure(cmake, tmp_path / "on", *options, "-DPETMAD_CUDA=ON")
    assert code != 0
    assert "PETMAD_CUDA=ON, but there is no nvcc that works" in text


def test_lammps_source_tree_that_is_none(cmake, tmp_path):
    code, text = configure(
        cmake, tmp_path / "build", f"-DPETMAD_LAMMPS_SOURCE_DIR={tmp_path}"
    )
    assert code != 0
    assert f"PETMAD_LAMMPS_SOURCE_DIR is '{tmp_path}'" in text
    assert (
        "it has no src/version.h: pass the top folder of a LAMMPS source tree" in text
    )
