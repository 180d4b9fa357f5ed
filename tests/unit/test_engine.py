"""The engine alone: what it returns, what it says of itself, and its errors."""

import math
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from petmad._engine import Engine
from petmad._ops import check_torch
from petmad.export import export_model
from petmad.model import PETConfig, Potential


CUBE, OPEN = [True] * 3, [False] * 3


def small_potential(**hypers):
    """A tiny network on H and O with random weights."""
    torch.manual_seed(5)
    chosen = {
        "cutoff": 4.0,
        "d_pet": 16,
        "d_head": 16,
        "d_node": 32,
        "d_feedforward": 16,
        "num_heads": 2,
        "num_attention_layers": 1,
        **hypers,
    }
    potential = Potential(PETConfig(**chosen), [1, 8])
    with torch.no_grad():
        potential.compositions[0].copy_(torch.tensor([[-3.0], [-5.0]]))
    return potential


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "small.pt"
    export_model(small_potential(num_neighbors_adaptive=8), path, dtype="float64")
    return str(path)


@pytest.fixture(scope="module")
def engine(model_path):
    return Engine(model_path)


def box(n_atoms=12, size=6.0):
    """(positions, species, cell, pbc) of atoms on a jittered grid."""
    rng = np.random.default_rng(1)
    spots = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), -1).reshape(
        -1, 3
    )
    positions = 2.0 * spots[:n_atoms] + 0.2 * rng.standard_normal((n_atoms, 3))
    species = rng.integers(0, 2, n_atoms).astype(np.int32)
    return positions, species, size * np.eye(3), np.array(CUBE)


def test_shapes_and_sums(engine):
    result = engine.evaluate(*box(), atomic_virials=True)
    assert result["energy"] == pytest.approx(result["atomic_energies"].sum(), rel=1e-13)
    assert result["forces"].shape == (12, 3)
    np.testing.assert_allclose(result["forces"].sum(axis=0), 0.0, atol=1e-12)
    total = result["atomic_virials"].sum(axis=0)
    symmetric = 0.5 * (total + total.T)
    np.testing.assert_allclose(symmetric, result["virial"], rtol=0, atol=1e-11)
    assert np.abs(result["virial"]).max() > 0.1


def test_atomic_virials_only_on_request(engine):
    assert "atomic_virials" not in engine.evaluate(*box())


def test_forces_are_finite_differences(engine):
    positions, species, cell, pbc = box()
    forces = engine.evaluate(positions, species, cell, pbc)["forces"]
    step = 1e-4
    for atom, k in ((0, 0), (5, 2)):
        energies = []
        for sign in (-1, 1):
            moved = positions.copy()
            moved[atom, k] += sign * step
            energies.append(engine.evaluate(moved, species, cell, pbc)["energy"])
        slope = (energies[1] - energies[0]) / (2 * step)
        assert -slope == pytest.approx(forces[atom, k], rel=1e-6, abs=1e-7)


def test_no_atoms(engine):
    result = engine.evaluate(
        np.zeros((0, 3)), np.zeros(0, dtype=np.int32), np.zeros((3, 3)), OPEN
    )
    assert result["energy"] == 0.0
    assert result["forces"].shape == (0, 3)
    assert not result["virial"].any()


def test_one_atom_has_no_forces(engine):
    result = engine.evaluate(np.zeros((1, 3)), [1], np.zeros((3, 3)), OPEN)
    assert result["energy"] < -4.0
    assert not result["forces"].any()
    assert not result["virial"].any()


def test_results_of_an_earlier_call_stay(engine):
    first = engine.evaluate(*box())
    kept = first["forces"].copy()
    positions, *rest = box()
    engine.evaluate(positions + np.linspace(0, 1, 36).reshape(12, 3), *rest)
    np.testing.assert_array_equal(first["forces"], kept)


def test_repeated_calls_agree_bit_by_bit(engine):
    first, second = (engine.evaluate(*box()) for _ in range(2))
    assert first["energy"] == second["energy"]
    np.testing.assert_array_equal(first["forces"], second["forces"])


def test_evaluation_leaves_torch_settings_alone(engine):
    with torch.no_grad():
        engine.evaluate(*box())
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    assert torch._C._get_graph_executor_optimize()


def test_info(engine, model_path):
    info = engine.info
    assert info.path == model_path
    assert (info.name, info.dtype, info.format_version) == ("small", "float64", 3)
    assert info.atomic_numbers == [1, 8]
    assert info.targets == ["energy"]
    assert info.cutoff == 4.0
    assert info.is_adaptive
    assert not info.is_conditioned
    assert info.reach == pytest.approx(info.reach_hops * 4.0 + 4.0)
    assert len(info.weights_hash) == 64
    assert '"n_parameters"' in info.metadata_json


def test_statistics(model_path):
    engine = Engine(model_path)
    assert engine.statistics.n_list_builds == 0
    engine.evaluate(*box())
    engine.evaluate(*box())
    statistics = engine.statistics
    assert statistics.n_list_builds == 2
    assert (statistics.n_owned, statistics.n_ghost) == (12, 0)
    assert 0 < statistics.n_kept_edges < statistics.n_raw_edges
    assert statistics.n_crossing_edges == statistics.bytes_sent == 0
    assert statistics.seconds_model > 0
    assert statistics.seconds_list > 0
    assert statistics.seconds_exchange == 0


def test_what_was_told_stays(engine):
    """Statistics and plan are those of when they were asked for."""
    engine.evaluate(*box(8))
    statistics, plan = engine.statistics, engine.memory_plan
    engine.evaluate(*box(12))
    assert (statistics.n_owned, plan.n_centers) == (8, 8)
    assert engine.statistics.n_owned == engine.memory_plan.n_centers == 12


def test_rows_of_open_directions_mean_nothing(engine):
    positions, species, cell, pbc = changed(pbc=[True, True, False]).values()
    wanted = engine.evaluate(positions, species, cell, pbc)["energy"]
    for wrong in (np.inf, np.nan, 0.0):
        cell[2] = wrong
        assert engine.evaluate(positions, species, cell, pbc)["energy"] == wanted


@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
)
def test_modes_of_torch_around_an_engine(tmp_path, mode):
    path = tmp_path / "float.pt"
    export_model(small_potential(num_neighbors_adaptive=8), path)
    wanted = Engine(str(path)).evaluate(*box())
    for check in (True, False):
        with mode():
            inside = Engine(str(path), check_golden=check)
            found = [inside.evaluate(*box())]
        found.append(inside.evaluate(*box()))
        for results in found:
            assert results["energy"] == wanted["energy"]
            np.testing.assert_array_equal(results["forces"], wanted["forces"])


@pytest.mark.parametrize("name", ["rings", "layer_sizes", "dipole"])
def test_outputs_that_are_none(engine, name):
    with pytest.raises(
        ValueError, match=f"unknown output '{name}'; this model has energy"
    ):
        engine.evaluate(*box(), outputs=[name])


def test_golden_check(engine):
    assert engine.check_golden() < 1e-10


def test_threads_are_set(model_path):
    before = torch.get_num_threads()
    try:
        Engine(model_path, n_threads=2, check_golden=False).evaluate(*box())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("choose", "ask"),
    [
        (
            "backends.cuda.matmul.fp32_precision = 'tf32'",
            "backends.cuda.matmul.fp32_precision",
        ),
        ("set_float32_matmul_precision('medium')", "get_float32_matmul_precision()"),
    ],
)
def test_precision_of_other_products_is_left_alone(model_path, choose, ask):
    """Torch's own, which the user has set in either of torch's ways."""
    script = f"""
import sys, warnings
import numpy as np, torch
from petmad._engine import Engine
warnings.simplefilter("ignore")
torch.{choose}
before = torch.{ask}
found = Engine({model_path!r}).evaluate(
    np.eye(3), np.zeros(3, dtype=np.int32), np.zeros((3, 3)), np.zeros(3, dtype=bool)
)
assert np.isfinite(found["energy"])
assert torch.{ask} == before, torch.{ask}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_threads_share_an_engine(engine):
    """Its results are overwritten by the next evaluation, whoever asks for it."""
    systems = [box(n_atoms) for n_atoms in range(4, 16)]
    alone = [engine.evaluate(*system) for system in systems]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, found in zip(
                alone, pool.map(lambda s: engine.evaluate(*s), systems), strict=True
            ):
                assert found["energy"] == one["energy"]
                np.testing.assert_array_equal(found["forces"], one["forces"])


@pytest.mark.parametrize("wrong", [-1, 5000])
def test_threads_that_are_none(model_path, wrong):
    with pytest.raises(
        ValueError, match=f"`n_threads` must be 0 .* to 4096, .*{wrong}"
    ):
        Engine(model_path, n_threads=wrong)


def test_conditions_reach_the_model(tmp_path):
    potential = small_potential(system_conditioning=True)
    torch.nn.init.normal_(potential.network.system_conditioning.project[2].weight)
    path = tmp_path / "conditioned.pt"
    export_model(potential, path, dtype="float64")
    engine = Engine(str(path))
    assert engine.info.is_conditioned
    neutral = engine.evaluate(*box())["energy"]
    charged = engine.evaluate(*box(), charge=1)["energy"]
    triplet = engine.evaluate(*box(), spin_multiplicity=3)["energy"]
    assert len({round(e, 6) for e in (neutral, charged, triplet)}) == 3
    with pytest.raises(ValueError, match=r"^`charge` must be within ±10 .*, got -11$"):
        engine.evaluate(*box(), charge=-11)
    with pytest.raises(
        ValueError, match=r"^`spin` \(2S \+ 1\) must be 1 to 10 .*, got 0$"
    ):
        engine.evaluate(*box(), spin_multiplicity=0)


# ---- errors of a system --------------------------------------------------------------


def changed(**values):
    """Arguments of ``evaluate`` for the box, some of them replaced."""
    names = ("positions", "species", "cell", "pbc")
    return {**dict(zip(names, box(), strict=True)), **values}


def with_row(index, row):
    positions = box()[0]
    positions[index] = row
    return positions


BAD_SYSTEMS = {
    "nan": (
        {"positions": with_row(3, [0.0, math.nan, 0.0])},
        r"position of atom 3 is \(0, nan, 0\); it must be finite",
    ),
    "coinciding": (
        {"positions": with_row(7, box()[0][2] + [0.0, 0.0, 0.001])},
        r"atoms 2 and 7 are 0.001 Å apart, nearer than 0.01 Å; remove overlapping",
    ),
    "own image": (
        {"cell": np.diag([6.0, 6.0, 0.009])},
        r"`cell` repeats itself after 0.009 Å along row 2",
    ),
    "species": (
        {"species": np.full(12, 2)},
        "`species` of atom 0 is 2 but the model has species 0 to 1",
    ),
    "negative species": ({"species": np.full(12, -1)}, "`species` of atom 0 is -1"),
    "shape of species": (
        {"species": np.zeros(5)},
        r"`species` must have shape \(12,\), got \(5,\)",
    ),
    "shape of positions": (
        {"positions": np.zeros((12, 2))},
        r"`positions` must have shape \(12, 3\), got \(12, 2\)",
    ),
    "shape of cell": (
        {"cell": np.ones(9)},
        r"`cell` must have shape \(3, 3\), got \(9,\).*lattice vectors as rows",
    ),
    "far away": (
        {"positions": with_row(3, [0.0, 2e9, 0.0])},
        r"position of atom 3 is \(0, 2e\+09, 0\); it must be .*, and at most 1e\+09 Å",
    ),
    "broken species": (
        {"species": np.full(12, 0.9)},
        "`species` must be integers, got float64",
    ),
    "species beyond all numbers": (
        {"species": np.full(12, 2**32)},
        "`species` of atom 0 is 4294967296; pass the model's dense index",
    ),
    "complex positions": (
        {"positions": np.zeros((12, 3), dtype=complex)},
        "`positions` must be real numbers, got complex128",
    ),
    "letters for pbc": (
        {"pbc": ["F", "F", "F"]},
        "`pbc` must be true or false, got <U1",
    ),
    "cell in nm": (
        {"cell": 0.1 * np.eye(3)},
        r"atoms have 3\d+ neighbors within 4 Å .*: the cell has collapsed, or is in an",
    ),
    "flat cell": (
        {"cell": np.array([[6.0, 0, 0], [0, 6, 0], [6, 6, 0]])},
        "`cell` is singular",
    ),
}


@pytest.mark.parametrize("case", BAD_SYSTEMS)
def test_bad_system_is_named(engine, case):
    values, message = BAD_SYSTEMS[case]
    with pytest.raises(ValueError, match=message):
        engine.evaluate(**changed(**values))
    assert np.isfinite(engine.evaluate(*box())["energy"])


def test_result_that_is_not_finite(tmp_path, monkeypatch):
    """Of a file that an export without its check has left."""
    monkeypatch.setattr("petmad.export.check_finite", lambda *_: None)
    potential = small_potential()
    with torch.no_grad():
        potential.compositions[0][1] = math.inf
    path = tmp_path / "infinite.pt"
    export_model(potential, path, dtype="float64")
    engine = Engine(str(path), check_golden=False)
    _, _, cell, pbc = box()
    with pytest.raises(
        ValueError, match="the model's energy of atom 1 is inf; look for"
    ):
        engine.evaluate([[0, 0, 0], [1, 1, 1]], [0, 1], cell, pbc)


# ---- errors of a file ----------------------------------------------------------------


def test_missing_file():
    with pytest.raises(
        ValueError, match=r"no readable model file at '/no/such\.pt'; give"
    ):
        Engine("/no/such.pt")


def test_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder; give the path of a file in it"):
        Engine(str(tmp_path))


def test_text_file(tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("not a model")
    with pytest.raises(
        ValueError, match=r"notes\.pt' is not a TorchScript archive; give a"
    ):
        Engine(str(path))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.999])
def test_truncated_file(model_path, tmp_path, fraction):
    with open(model_path, "rb") as file:
        content = file.read()
    path = tmp_path / "short.pt"
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(
        ValueError, match=r"short\.pt' is damaged or cut short: its table of contents"
    ):
        Engine(str(path))


def test_other_archive(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(
        ValueError, match=r"pictures\.zip' is not a TorchScript archive"
    ):
        Engine(str(path))


def test_foreign_script(tmp_path):
    path = str(tmp_path / "foreign.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(
        ValueError, match="is a TorchScript file, but not a petmad model"
    ):
        Engine(path)


def test_newer_format(model_path, tmp_path):
    module = torch.jit.load(model_path)
    module.format_version = 99
    path = str(tmp_path / "newer.pt")
    torch.jit.save(module, path)
    with pytest.raises(
        ValueError, match="has format version 99, this petmad reads up to 3"
    ):
        Engine(path)


def test_changed_weights_fail_the_self_test(model_path, tmp_path):
    module = torch.jit.load(model_path)
    with torch.no_grad():
        next(p for p in module.parameters() if p.dim() == 2).mul_(1.01)
    path = str(tmp_path / "changed.pt")
    torch.jit.save(module, path)
    with pytest.raises(ValueError, match=r"the self test of .* failed: its 3 golden"):
        Engine(path)
    assert Engine(path, check_golden=False).info.name == "small"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "", "cuda:-1", "cpu:0"])
def test_unknown_device(model_path, device):
    with pytest.raises(ValueError, match="`device` must be cpu, cuda or cuda:N, got"):
        Engine(model_path, device=device)


def test_missing_device(model_path):
    n_devices = torch.cuda.device_count()
    with pytest.raises(
        ValueError, match=f"torch finds {n_devices} CUDA devices; check"
    ):
        Engine(model_path, device=f"cuda:{n_devices}")


# ---- the torch it was built against --------------------------------------------------


def test_torch_versions_are_compared_without_their_local_part():
    check_torch("2.13.0+cpu", "2.13.0")
    check_torch("2.13.0+cu130", "2.13.0+cpu")


@pytest.mark.parametrize("loaded", ["2.12.1", "2.13.1", "3.0.0+cpu"])
def test_another_torch_is_refused(loaded):
    message = (
        rf"built against torch 2\.13\.0, but torch {re.escape(loaded)} is installed; "
        "rebuild it with `pip install --no-build-isolation --force-reinstall --no-deps"
    )
    with pytest.raises(RuntimeError, match=message):
        check_torch(loaded, "2.13.0")
