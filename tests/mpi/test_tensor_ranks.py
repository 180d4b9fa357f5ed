"""Tensors on several ranks equal those of the engine, in both modes and after MD."""

import pytest
from lammps_tools import CASES, run_lammps, setup_lines, water, write_data
from tensor_models import READOUTS, export_tensors, water_tensors
from tensor_scripts import (
    DEFINITIONS,
    assert_same_tensors,
    engine_tensors,
    read_tensors,
    tensor_output,
)


pytestmark = [pytest.mark.lammps, pytest.mark.mpi]

# Relative to the largest entry: sums in another order in fp64, the network's own
# rounding in fp32.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
ADAPTIVE = {"num_neighbors_adaptive": 6.0}
RUNS = {  # box, readout, mode
    "water_edge": ("water", "edge", "exchange"),
    "water_node": ("water", "node", "exchange"),
    "water_exact": ("water", "exact", "exchange"),
    "water_direct": ("water", "direct", "exchange"),
    "triclinic_edge": ("triclinic", "edge", "exchange"),
    "tiny_edge": ("tiny", "edge", "exchange"),
    "slab_exact": ("slab", "exact", "exchange"),  # ranks without atoms
    "slab_edge": ("slab", "edge", "recompute"),
    "water_node_again": ("water", "node", "recompute"),
    "triclinic_exact": ("triclinic", "exact", "recompute"),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Adaptive models of each readout, and one in float32."""
    folder = tmp_path_factory.mktemp("models")
    paths = {
        readout: export_tensors(
            folder / f"{readout}.pt", water_tensors(readout), **ADAPTIVE
        )
        for readout in READOUTS
    }
    single = folder / "single.pt"
    paths["single"] = export_tensors(single, water_tensors(), "float32", **ADAPTIVE)
    return paths


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def outputs(paths, tmp_path_factory, request):
    """All runs in one job."""
    folder = tmp_path_factory.mktemp(f"ranks_{request.param}")
    script = []
    for name, (case, readout, mode) in RUNS.items():
        box = CASES[case]()
        write_data(folder / f"{case}.data", box)
        grid = f"processors 1 1 {request.param}" if case == "slab" else ""
        options = f"check no mode {mode}"
        setup = setup_lines(box, f"{case}.data", paths[readout], options=options)
        script += ["clear", grid, setup, DEFINITIONS, tensor_output(name)]
    run_lammps("\n".join(script), folder, n_ranks=request.param)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_ranks_equal_the_engine(outputs, paths, name):
    case, readout, _ = RUNS[name]
    expected = engine_tensors(paths[readout], CASES[case]())
    assert_same_tensors(read_tensors(outputs, name), expected, TOLERANCE["float64"])


MOVING = """
velocity all create 300 4928 loop geom
velocity all set 45 -35 25 sum yes
timestep 0.0005
fix move all nve
"""


@pytest.mark.parametrize(
    ("model", "dtype"), [("edge", "float64"), ("single", "float32")]
)
def test_tensors_after_md_across_borders(paths, tmp_path, model, dtype):
    box = water((3, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", paths[model]) + DEFINITIONS + MOVING
    run_lammps(script + tensor_output("moved", steps=60), tmp_path, n_ranks=2)
    found = read_tensors(tmp_path, "moved")
    assert abs(found["positions"] - box.positions).max() > 1.0  # Å
    expected = engine_tensors(paths[model], box, positions=found["positions"])
    assert_same_tensors(found, expected, TOLERANCE[dtype])
