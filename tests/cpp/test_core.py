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
def build(tmp_path_factory):
    """Compiles one of the host programs."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler found as c++ or g++; install one")
    core = installed_folder() / "lib"
    torch_libraries = pathlib.Path(torch.__file__).parent / "lib"

    def compile(name):
        path = tmp_path_factory.mktemp("cpp") / name
        command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror"]
        command += [
            f"-I{HEADERS}",
            f"-I{HEADERS.parent / 'src'}",
            str(HERE / f"{name}.cpp"),
            "-o",
            str(path),
        ]
        command += [f"-L{core}", "-lpetmad_core"]
        command += [f"-Wl,-rpath,{core}:{torch_libraries}"]
        command += ["-Wl,--allow-shlib-undefined"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return path

    return compile


@pytest.fixture(scope="module")
def model(tmp_path_factory):
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
    path = tmp_path_factory.mktemp("cpp") / "small.pt"
    export_model(Potential(config, [1, 8]), path, dtype="float64")
    return path


def lines_of(program, model):
    """What it prints."""
    done = subprocess.run(
        [program, model], check=True, capture_output=True, text=True, timeout=120
    )
    return done.stdout.splitlines()


def test_host_program_gets_python_s_numbers(build, model):
    program = build("engine_without_python")
    whole, domain, message = lines_of(program, model)
    positions = np.array([[0.1, 0.2, 0.3], [1.9, 0.4, 0.1], [0.3, 2.2, 2.4]])
    wanted = Engine(str(model)).evaluate(
        positions, [0, 1, 1], 5 * np.eye(3), [True] * 3
    )
    assert float(whole) == pytest.approx(wanted["energy"], rel=1e-12)
    assert float(domain) == pytest.approx(wanted["energy"], rel=1e-12)
    assert message.startswith(
        "no readable model file at '/no/such.pt'; give the path of"
    )


UNIFIED = ("memory.max", "memory.current", "inactive_file")
OLD = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
NO_LIMIT = 2**63 - 1


@pytest.mark.parametrize(
    ("names", "line", "mount"),
    [
        (UNIFIED, "0::/slurm/job_7/step_0", "."),
        (OLD, "9:cpuset:/x\n5:hugetlb,memory:/slurm/job_7/step_0", "memory"),
    ],
)
def test_the_least_limit_of_all_groups_counts(build, tmp_path, names, line, mount):
    """Batch systems set it on the job, above the group of the process."""
    limit, used, cached = names
    program, groups = build("groups"), tmp_path / "cgroup"
    groups.write_text(f"{line}\n")

    def free(*limits):
        """Of groups from the root on; each uses 300, of which 100 are cache."""
        folder = tmp_path / "fs" / mount
        for name, number in zip(("", "slurm", "job_7", "step_0"), limits, strict=True):
            folder = folder / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / limit).write_text(f"{number}\n")
            (folder / used).write_text("300\n")
            (folder / "memory.stat").write_text(f"anon 7\n{cached} 100\n")
        command = [program, groups, tmp_path / "fs"]
        return int(subprocess.run(command, check=True, capture_output=True).stdout)

    assert free("max", "max", "max", "max") == NO_LIMIT
    assert free("max", "max", 2000, "max") == 1800
    assert free("max", 1000, 2000, "max") == 800
    assert free("max", 1000, 2000, 700) == 500
    assert free(600, 1000, 2000, 700) == 400
    assert free(100, 1000, 2000, 700) == 1
    (tmp_path / "fs" / mount / "slurm" / "job_7" / "step_0" / limit).unlink()
    assert free("max", "max", 2000, "max") == 1800
    groups.write_text("5:cpu:/slurm/job_7\nnonsense\n")
    assert free(100, 1000, 2000, 700) == NO_LIMIT


def test_the_next_tier_runs_where_memory_runs_out(build, model):
    """The program pretends that the tiers above run out while the layers run."""
    lines = lines_of(build("short_of_memory"), model)
    calm, wide, again, layers, nothing_left = lines
    energy = calm.split(" | ")[0]
    assert ", tier keep" in calm
    assert wide.startswith(f"{energy} | memory: ")
    assert wide.endswith(", since the tier before ran out of memory")
    assert ", tier wide (" in wide
    assert again.startswith(f"{energy} | memory: ")
    assert again.endswith(" to keep all)")
    assert ", tier wide (" in again
    assert layers.startswith(f"{energy} | memory: ")
    assert ", tier layers (" in layers
    assert nothing_left.startswith("out of memory (memory: ")
    assert nothing_left.endswith(
        "use more ranks or GPUs, a smaller model or fewer atoms"
    )
    assert "\n" not in nothing_left
