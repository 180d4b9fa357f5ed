"""What every test shares: threads, reference data, devices, and loud skips.

A test that cannot run here skips with its reason; ``PETMAD_REQUIRE_GPU=1`` (likewise
``_LAMMPS``, ``_MPI``, ``_DATA``, ``_NVCC``) turns that skip into a failure. Tests
marked ``oracle`` need metatrain and run only when asked for: ``pytest -m oracle``.
"""

import os
import pathlib

import pytest
import torch
from resources import REPOSITORY, need_gpu, skip_or_fail


pytest_plugins = ["lammps_fixtures"]


def pytest_configure(config):
    """One thread, so that numbers and timings repeat; and our own marker."""
    torch.set_num_threads(1)
    config.addinivalue_line("markers", "oracle: needs metatrain; run with -m oracle")


def pytest_collection_modifyitems(config, items):
    """Deselect the tests marked ``oracle`` unless the marker is named in ``-m``."""
    if "oracle" in config.option.markexpr:
        return
    chosen = [item for item in items if "oracle" not in item.keywords]
    if len(chosen) != len(items):
        config.hook.pytest_deselected(
            items=[item for item in items if "oracle" in item.keywords]
        )
        items[:] = chosen


@pytest.fixture(autouse=True)
def _needs_gpu(request) -> None:
    """Tests marked ``cuda`` skip where there is no GPU."""
    if request.node.get_closest_marker("cuda"):
        need_gpu()


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """Folder of the reference data sets: ``PETMAD_DATA`` or ``../shared/data``."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = pathlib.Path(os.environ.get("PETMAD_DATA", default))
    if not (folder / "MANIFEST.json").is_file():
        skip_or_fail(
            "DATA", f"no reference data in {folder}; set PETMAD_DATA to their folder"
        )
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> torch.device:
    """Every device the kernels run on; the GPU's half is marked ``cuda``."""
    return torch.device(request.param)
