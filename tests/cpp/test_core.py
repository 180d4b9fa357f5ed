"""The core under a C++ program that knows neither Python nor torch's headers."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import torch

from petmad._engine import Engine
from petmad._ops import installed_folder
from petmad.export import export_model
from petmad.model import PETConfig, Potential


HERE = pathlib.Path(__file__).parent
HEADERS = HERE.parent.parent / "cpp" / "include"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The compiled host program."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler found as c++ or g++; install one")
    core = installed_folder() / "lib"
    torch_libraries = pathlib.Path(torch.__file__).parent / "lib"
    path = tmp_path_factory.mktemp("cpp") / "engine_without_python"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}"]
    command += [str(HERE / "engine_without_python.cpp"), "-o", str(path)]
    command += [f"-L{core}", "-lpetmad_core", f"-Wl,-rpath,{core}:{torch_libraries}"]
    command += ["-Wl,--allow-shlib-undefined"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return path


def test_host_program_gets_python_s_numbers(program, tmp_path):
    torch.manual_seed(9)
    config = PETConfig(
        cutoff=4.0,
        num_neighbors_adaptive=6,
        d_pet=16,
        d_head=16,
        d_node=32,
        d_feedforward=16,
        num_heads=2,
    )
    path = tmp_path / "small.pt"
    export_model(Potential(config, [1, 8]), path, dtype="float64")
    done = subprocess.run(
        [program, path], check=True, capture_output=True, text=True, timeout=120
    )
    whole, domain, message = done.stdout.splitlines()
    positions = np.array([[0.1, 0.2, 0.3], [1.9, 0.4, 0.1], [0.3, 2.2, 2.4]])
    wanted = Engine(str(path)).evaluate(positions, [0, 1, 1], 5 * np.eye(3), [True] * 3)
    assert float(whole) == pytest.approx(wanted["energy"], rel=1e-12)
    assert float(domain) == pytest.approx(wanted["energy"], rel=1e-12)
    assert message.startswith(
        "no readable model file at '/no/such.pt'; give the path of"
    )
