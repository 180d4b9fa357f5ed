"""The GPU benchmark's own logic, on emulated kernels."""

import pathlib
import sys

import numpy as np
import pytest
import torch

from petmad._ops import load_ops


BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    from gpu_systems import EmulatedOperators

    load_ops()
    monkeypatch.setattr(torch.ops, "petmad", EmulatedOperators())

    yield gpu
    for name in ("gpu", "gpu_engine", "gpu_systems", "report"):
        sys.modules.pop(name, None)


def test_copies_of_a_cell(gpu):
    from gpu_systems import water

    cell = water(2)
    assert len(cell.positions) == 24
    large = cell.repeat(2, 1, 2)
    assert len(large.positions) == 96
    back = large.first_cell()
    np.testing.assert_array_equal(back.positions, cell.positions)
    np.testing.assert_allclose(back.cell, cell.cell)


def test_every_system_is_copies_of_its_cell(gpu):
    from gpu_systems import make_systems

    for name, system in make_systems(quick=False).items():
        cell = system.first_cell()
        assert len(system.positions) == int(name.split()[0])
        n_copies = len(system.positions) // len(cell.positions)
        ratio = np.linalg.det(system.cell) / np.linalg.det(cell.cell)
        assert ratio == pytest.approx(n_copies)
        inverse = np.linalg.inv(cell.cell)
        moved = (system.positions.reshape(n_copies, -1, 3) - cell.positions) @ inverse
        np.testing.assert_allclose(moved, np.rint(moved), atol=1e-9)


def test_images_are_the_periodic_system(gpu):
    """Of a cell smaller than the reach: forces of the engine's two ways."""
    from gpu_engine import Images, measure_engine, new_engine
    from gpu_systems import make_models, water

    plain, _ = make_models("tiny")
    engine = new_engine(plain, "cpu", "fp64")
    system = water(2)
    forces = measure_engine(engine, system, 1)["forces"]
    wanted = engine.evaluate(
        system.positions, system.species.astype(np.int32), system.cell, [True] * 3
    )
    np.testing.assert_allclose(forces, wanted["forces"], atol=1e-9)
    assert len(Images(system, 6.0).owners) > 8 * len(system.positions)


def test_quick_run_on_the_cpu(gpu, capsys):
    arguments = gpu.parse(["--device", "cpu", "--quick", "--rounds", "1"])
    results = gpu.run(arguments)
    assert results["is_emulated"]
    rows = {k: v for k, v in results.items() if k.startswith("tiny")}
    assert len(rows) == 6
    for label, row in rows.items():
        assert row["same_forces_again"], label
        assert row["kept_edges_per_atom"] > 3
        assert row["tflops"] > 0
        assert row["engine_ms"] > 0
        assert 0 < row["engine_outside_share"] < 1
    single = rows["tiny, 48 water, fp32"]["force_error_ev_per_a"]
    assert 0 < single < rows["tiny, 48 water, tf32"]["force_error_ev_per_a"]
    assert "tiny, 48 water, fp16" in capsys.readouterr().out


def test_tier_and_plan_of_a_row(gpu):
    """Of every row: an engine in between leaves what was asked for."""
    systems = ["24 water", "48 water"]
    arguments = ["--device", "cpu", "--quick", "--rounds", "1", "--systems", *systems]
    planned = {}
    for tier in ("keep", "layers"):
        chosen = gpu.parse([*arguments, "--precisions", "fp32", "--memory", tier])
        results = gpu.run(chosen)
        assert results["memory_tier"] == tier
        rows = [results[f"tiny, {system}, fp32"] for system in systems]
        assert [row["measured_tier"] for row in rows] == [tier, tier]
        planned[tier] = rows[0]["planned_gib"]
    assert 0 < planned["layers"] < 2 * planned["keep"]
    assert planned["layers"] != planned["keep"]


def test_a_run_that_is_cut_off_leaves_its_rows(gpu):
    kept = []

    def cut_off(results):
        kept.append(dict(results))
        if len(kept) == 2:
            raise KeyboardInterrupt

    arguments = ["--device", "cpu", "--quick", "--rounds", "1", "--systems", "24 water"]
    with pytest.raises(KeyboardInterrupt):
        gpu.run(gpu.parse(arguments), cut_off)
    assert "tiny, 24 water, fp32" in kept[0]
    assert "tiny, 24 water, tf32" in kept[1]


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_what_runs_out_of_memory_is_a_row(gpu, kind):
    def fail(message):
        raise kind(message)

    row = gpu.where_memory_allows("engine_error", fail, "out of memory: much\nmore")
    assert row == {"engine_error": "out of memory: much"}
    assert gpu.describe("S", {"error": "out of memory", **row}).endswith(
        "out of memory; engine out of memory: much"
    )
    with pytest.raises(kind, match="wrong"):
        gpu.where_memory_allows("error", fail, "wrong")


@pytest.mark.lammps
def test_quick_run_in_lammps(monkeypatch):
    """The benchmark's own logic, where the lists of a GPU are emulated."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_lammps

    arguments = gpu_lammps.parse(["--device", "emulated", "--quick", "--steps", "3"])
    arguments.systems, arguments.precisions = ["24 water"], ["fp32"]
    results = gpu_lammps.run(arguments)
    for n_ranks in (1, 2):
        row = results[f"tiny, 24 water, fp32, {n_ranks} rank(s)"]
        assert row["ms_per_step"] > 0
        assert 0 < row["share_of_model_in_pair"] < 1
        assert row["force_error_ev_per_a"] < 1e-4
        assert "tier keep" in row["plan"]


@pytest.mark.lammps
def test_energies_of_a_run_in_lammps(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_nve

    arguments = gpu_nve.parse(["--device", "emulated", "--steps", "6"])
    row = gpu_nve.run(arguments)["fp32"]
    assert row["n_energies"] == 7
    assert row["nve_ps"] == pytest.approx(0.003)
    assert 200 < row["temperature_K"] < 400
    assert row["fluctuation_meV_per_atom"] < 0.1


def test_drift_of_a_known_log(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_nve

    energies = [1.0 + 1e-5 * step + 1e-3 * (-1) ** step for step in range(400)]
    log = "TotEng of another run\n   0  99 300\n   Step TotEng Temp\n"
    log += "".join(f"  {10 * k}  {e:.12g}  300\n" for k, e in enumerate(energies))
    log += "Loop time of 1 on 1 procs for 4000 steps with 2 atoms\n"
    found = gpu_nve.conservation(log)
    assert found["drift_meV_per_atom_per_ps"] == pytest.approx(1.0, rel=0.01)
    assert found["fluctuation_meV_per_atom"] == pytest.approx(0.5, rel=0.01)
    assert (found["n_energies"], found["nve_ps"]) == (400, pytest.approx(1.995))


def test_wrong_kernels_are_refused(gpu, monkeypatch):
    arguments = gpu.parse(["--device", "cpu", "--quick", "--rounds", "1"])
    arguments.precisions = ["fp32"]
    real = gpu.reference
    monkeypatch.setattr(gpu, "reference", lambda *given: real(*given) + 1.0)
    with pytest.raises(SystemExit, match="the kernels compute wrongly"):
        gpu.run(arguments)
