"""Tensor targets from file to checkpoint: reading, turning, scales, loss, errors."""

import math

import ase
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from resources import REPOSITORY
from toy_data import MODEL, write

from petmad.cli import main
from petmad.data import StructureDataset, collate, make_sample, read_structures
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.data.structures import LabelKeys, to_structure
from petmad.data.tensors import TensorLabel
from petmad.model import TargetSpec
from petmad.training import checkpoint
from petmad.training.loss_options import LossTerm
from petmad.training.options import load_options, parse_options
from petmad.training.tensor_baseline import fit_tensor_baseline
from petmad.training.tensor_evaluation import evaluate_tensors, spread_warnings
from petmad.training.tensor_options import TensorOptions
from petmad.training.tensors import (
    TensorErrors,
    TensorTarget,
    in_units,
    scaled_tensors,
    tensor_terms,
)
from petmad.training.trainer import make_initial, train


NUMBERS = [1, 8]
TARGETS = {
    "dipole": {"kind": "vector", "unit": "eÅ"},
    "alpha": {"kind": "symmetric", "key": "polarizability"},
    "spin": {"kind": "axial_vector", "per_atom": True},
}
DIPOLE = TargetSpec("dipole", "vector")


def waters(n_frames, seed=0, charge=0):
    """Shaken waters with a dipole, a polarizability and an axial vector per atom."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        positions = np.array([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
        positions += 0.1 * random.standard_normal((3, 3))
        rotation = random_rotation(seed, 1, len(frames)).numpy()
        positions = positions @ rotation.T
        atoms = ase.Atoms("OH2", positions)
        a, b = positions[1] - positions[0], positions[2] - positions[0]
        dipole = 0.3 * (a + b)
        alpha = np.outer(a, a) + np.outer(b, b) + 0.4 * np.eye(3)
        normal = np.cross(a, b)
        spins = np.array([np.zeros(3), normal, -normal])
        atoms.info.update(polarizability=alpha.flatten(), charge=charge)
        atoms.arrays["spin"] = spins
        energy = float(a @ a + b @ b - a @ b)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, dipole=dipole)
        frames.append(atoms)
    return frames


def labels(targets=TARGETS):
    options = {name: TensorOptions(**values) for name, values in targets.items()}
    return tuple(
        TensorLabel(values.spec(name), values.key or name)
        for name, values in options.items()
    )


def structures(frames, targets=TARGETS):
    keys = LabelKeys(energy=None, tensors=labels(targets))
    return [to_structure(atoms, "toy, frame 0", keys) for atoms in frames]


def make_options(folder, energy_key=None, targets=TARGETS, model=None, **training):
    return {
        "model": model or {**MODEL, "num_neighbors_adaptive": None},
        "data": {
            "train": write(folder / "train.xyz", waters(12, seed=1)),
            "valid": write(folder / "valid.xyz", waters(4, seed=2)),
            "energy_key": energy_key,
        },
        "targets": targets,
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "device": "cpu",
            "threads": 1,
            "loss": {"forces": {"weight": 0}},
            **training,
        },
        "output": str(folder / "run"),
    }


def test_components_of_what_is_read():
    frame = waters(1)[0]
    tensors = structures([frame])[0].tensors
    assert tensors["dipole"].shape == (1, 3)
    np.testing.assert_allclose(
        tensors["dipole"][0], frame.calc.results["dipole"][[1, 2, 0]], atol=1e-15
    )
    alpha = frame.info["polarizability"].reshape(3, 3)
    assert tensors["alpha"].shape == (1, 6)
    assert tensors["alpha"][0, 0] == pytest.approx(-np.trace(alpha) / math.sqrt(3))
    assert (tensors["alpha"] ** 2).sum() == pytest.approx((alpha**2).sum())
    assert tensors["spin"].shape == (3, 3)


def test_voigt_order_is_that_of_stress():
    frame = waters(1)[0]
    alpha = frame.info["polarizability"].reshape(3, 3)
    full = structures([frame])[0].tensors["alpha"]
    frame.info["polarizability"] = alpha[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(structures([frame])[0].tensors["alpha"], full)


def test_unlabelled_frames_are_unknown():
    frames = waters(2)
    del frames[1].info["polarizability"]
    assert np.isnan(structures(frames)[1].tensors["alpha"]).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("polarizability", np.ones(4), "must have 9 numbers per structure .*symmetric"),
        ("polarizability", np.full(9, np.nan), "is not finite"),
        ("polarizability", "high", r"frame \d.* must be numbers, got 'high'"),
        ("polarizability", np.arange(9.0), r"is not symmetric \(off by .*kind: matrix"),
    ],
)
def test_bad_labels_are_explained(key, value, message):
    frame = waters(1)[0]
    frame.info[key] = value
    with pytest.raises(ValueError, match=message):
        structures([frame])


def test_absent_label_is_explained(tmp_path):
    path = write(tmp_path / "a.xyz", waters(2))
    keys = LabelKeys(energy=None, tensors=(TensorLabel(DIPOLE, "mu"),))
    with pytest.raises(
        ValueError, match=r"no frame of .* has `mu`, needed as dipole; .*'dipole'"
    ):
        read_structures(path, keys)


def test_charged_structures_need_an_origin():
    frames = waters(1, charge=1)
    with pytest.raises(ValueError, match=r"charge \+1, .*`targets.dipole.origin`"):
        structures(frames)
    known = {**TARGETS, "dipole": {"kind": "vector", "origin": "center_of_mass"}}
    assert structures(frames, known)[0].charge == 1


def test_rotated_sample_is_that_of_the_rotated_structure():
    frame, rotation = waters(1)[0], random_rotation(0, 0, 0)
    matrix = rotation.numpy()
    assert np.linalg.det(matrix) < 0 or random_rotation(0, 0, 1).det() < 0
    for index in range(4):
        rotation = random_rotation(0, 0, index)
        matrix = rotation.numpy()
        turned = frame.copy()
        turned.positions = frame.positions @ matrix.T
        alpha = frame.info["polarizability"].reshape(3, 3)
        turned.info["polarizability"] = matrix @ alpha @ matrix.T
        turned.arrays["spin"] = frame.arrays["spin"] @ matrix.T * np.linalg.det(matrix)
        dipole = frame.calc.results["dipole"] @ matrix.T
        turned.calc = SinglePointCalculator(turned, energy=0.0, dipole=dipole)
        before, after = (
            make_sample(structures([atoms])[0], NUMBERS, 3.0)
            for atoms in (frame, turned)
        )
        specs = [label.spec for label in labels()]
        found = rotate(before, rotation, specs).tensors
        for name, value in after.tensors.items():
            torch.testing.assert_close(found[name], value, atol=1e-12, rtol=0)


def test_dataset_turns_tensors():
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures(waters(2))]
    data = StructureDataset(samples, 0, [label.spec for label in labels()])
    turned = data[(3, 1)].tensors["dipole"]
    assert not torch.allclose(turned, samples[1].tensors["dipole"], atol=1e-3)
    assert float(turned.norm()) == pytest.approx(
        float(samples[1].tensors["dipole"].norm())
    )


def test_batch_joins_rows():
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures(waters(3))]
    batch = collate(samples)
    assert batch.tensors["alpha"].shape == (3, 6)
    assert batch.tensors["spin"].shape == (9, 3)


@pytest.fixture
def fitted(tmp_path):
    """A model with fitted baselines, its samples, and its targets."""
    options = parse_options(make_options(tmp_path))
    samples = [make_sample(s, NUMBERS, 3.0) for s in structures(waters(12, seed=1))]
    targets = [
        TensorTarget(values.spec(name), values)
        for name, values in options.targets.items()
    ]
    model = checkpoint.make_potential(
        options.model, NUMBERS, [t.spec for t in targets], "float64"
    )
    fit_tensor_baseline(model, samples, targets)
    return model, samples, targets


def test_baseline_by_hand(fitted):
    model, samples, _ = fitted
    dipoles = torch.cat([s.tensors["dipole"] for s in samples])
    expected = float((dipoles / 3).square().mean().sqrt())
    assert model.scales[0].tolist() == [[pytest.approx(expected)] * 3] * 2
    assert not model.compositions[0].any()
    # two hydrogens and one oxygen always: only their sum is determined
    trace = torch.cat([s.tensors["alpha"][:, :1] for s in samples])
    composition = model.compositions[1]
    total = 2 * composition[0, 0] + composition[1, 0]
    assert float(total) == pytest.approx(float(trace.mean()))
    assert not composition[:, 1:].any()
    spread = float(((trace - trace.mean()) / 3).square().mean().sqrt())
    assert float(model.scales[1][0, 0]) == pytest.approx(spread)
    spins = torch.cat([s.tensors["spin"] for s in samples])
    assert float(model.scales[2][0, 0]) == pytest.approx(
        float(spins.square().mean().sqrt())
    )


def test_a_block_of_zeros_is_refused(fitted):
    model, samples, targets = fitted
    made = [
        s._replace(tensors={**s.tensors, "dipole": 0 * s.tensors["dipole"]})
        for s in samples
    ]
    with pytest.raises(
        ValueError, match=r"order 1 and parity 1 of `dipole` is zero .*without it"
    ):
        fit_tensor_baseline(model, made, targets)


def test_scaled_targets_invert_what_the_model_adds(fitted):
    model, samples, targets = fitted
    batch = collate(samples)
    raw = model(batch.graph, ["alpha"], raw=True)["alpha"].detach()
    total = torch.zeros(12, 6).double().index_add(0, batch.graph.structures, raw)
    entries = model(batch.graph, ["alpha"])["alpha"].detach()
    physical = torch.zeros(12, 9).double().index_add(0, batch.graph.structures, entries)
    components = physical @ targets[1].spec.rows().T
    batch = batch._replace(tensors={**batch.tensors, "alpha": components})
    scaled = scaled_tensors(model, batch, targets)["alpha"]
    torch.testing.assert_close(scaled, total, atol=1e-10, rtol=1e-10)


def test_loss_by_hand():
    options = TensorOptions(
        kind="symmetric", block_weights=[2.0, 0.5], loss=LossTerm(weight=3.0)
    )
    targets = [TensorTarget(options.spec("a"), options)]
    predicted = torch.tensor([[2.0, 1, 1, 1, 1, 1], [4.0, 0, 0, 0, 0, 5]]).double()
    scaled = torch.zeros(2, 6).double()
    n_atoms = torch.tensor([1, 2])
    terms = tensor_terms({"a": predicted}, {"a": scaled}, n_atoms, targets)
    assert float(terms["a_l0"]) == pytest.approx(2.0 * 3.0 * (4 + 4) / 2)
    assert float(terms["a_l2"]) == pytest.approx(0.5 * 3.0 * (5 + 6.25) / 10)
    scaled[0] = float("nan")
    options = options.model_copy(update={"size_exponent": 0.0})
    targets = [TensorTarget(options.spec("a"), options)]
    terms = tensor_terms({"a": predicted}, {"a": scaled}, n_atoms, targets)
    assert float(terms["a_l0"]) == pytest.approx(2.0 * 3.0 * 16)
    scaled[1] = float("nan")
    assert tensor_terms({"a": predicted}, {"a": scaled}, n_atoms, targets) == {}


def test_errors_by_hand():
    options = TensorOptions(kind="vector", unit="D")
    errors = TensorErrors([TensorTarget(options.spec("mu"), options)])
    nan = float("nan")
    errors.add(
        {"mu": torch.tensor([[1.0, 0, 0], [3.0, 0, 0]])},
        {"mu": torch.tensor([[1.0, 2.0, 0], [nan, nan, nan]])},
        torch.tensor([2, 5]),
    )
    results = errors.compute()
    assert errors.units == {"mu_l1": "D"}
    assert results["mu_l1_mae"] == pytest.approx(2 / 3)
    assert results["mu_l1_rmse"] == pytest.approx(math.sqrt(4 / 3))
    assert results["mu_l1_relative"] == pytest.approx(math.sqrt(4 / 5))
    assert results["mu_l1_rmse_per_atom"] == pytest.approx(math.sqrt(1 / 3))


def test_loss_does_not_change_when_everything_turns(fitted):
    model, samples, targets = fitted
    specs = [t.spec for t in targets]
    rotation = random_rotation(0, 0, 1)
    zero = {spec.name: 0.0 for spec in specs}
    values = []
    for some in (samples, [rotate(s, rotation, specs) for s in samples]):
        batch = collate(some)
        scaled = scaled_tensors(model, batch, targets)
        predicted = {name: 0 * scaled[name] for name in zero}
        terms = tensor_terms(predicted, scaled, batch.n_atoms, targets)
        values.append({name: float(term) for name, term in terms.items()})
    assert values[0] == pytest.approx(values[1])
    assert all(value > 0 for value in values[0].values())
    in_units(model, scaled)


@pytest.mark.parametrize("energy_key", [None, "energy"])
def test_training_beside_the_energy_and_alone(tmp_path, energy_key, capsys):
    """From file to errors; training, validation and evaluation tell the same."""
    values = make_options(tmp_path, energy_key)
    best = train(parse_options(values))
    model, provenance = checkpoint.load_potential(best)
    names = ["energy"] if energy_key else []
    assert model.target_names == [*names, *TARGETS]
    found = evaluate_tensors(
        model, values["data"]["valid"], {"alpha": "polarizability"}, n_rotations=3
    )
    validation = provenance["validation"]
    for name in ("dipole_l1", "alpha_l0", "alpha_l2", "spin_l1"):
        for kind in ("mae", "rmse", "relative"):
            assert found[f"{name}_{kind}"] == pytest.approx(
                validation[f"{name}_{kind}"], rel=1e-4
            )
        assert found[f"{name}_spread"] > 0
    assert ("energy_mae" in validation) is bool(energy_key)
    status = main(["evaluate", str(best), values["data"]["valid"], "--rotations", "2"])
    assert status == 0
    output = capsys.readouterr().out
    assert "dipole_l1" in output
    assert ("meV/atom" in output) is bool(energy_key)
    exported = str(tmp_path / "model.pt")
    assert main(["export", str(best), "-o", exported]) == 0
    capsys.readouterr()
    arguments = ["evaluate", exported, values["data"]["valid"], "--rotations", "2"]
    assert main(arguments) == 0
    again = capsys.readouterr().out
    assert [row for row in again.splitlines() if row.startswith("dipole_l1")] == [
        row for row in output.splitlines() if row.startswith("dipole_l1")
    ]
    assert ("meV/atom" in again) is bool(energy_key)
    if energy_key:  # of a file without energies the tensors alone are told
        bare = waters(2, seed=2)
        for atoms in bare:
            del atoms.calc.results["energy"]
        path = write(tmp_path / "bare.xyz", bare)
        assert main(["evaluate", str(best), path, "--rotations", "0"]) == 0
        output = capsys.readouterr().out
        assert "dipole_l1" in output
        assert "meV/atom" not in output
    other = parse_options({**values, "targets": {"dipole": {"kind": "vector"}}})
    with pytest.raises(ValueError, match="its `targets` is"):
        train(other, resume=tmp_path / "run" / "last.ckpt")


def test_batches_without_a_label_are_passed_over(tmp_path):
    """Batches of one, every second without its dipole, in training and validation."""
    found = []
    for name, lacking in (("whole", []), ("half", [1, 3])):
        targets = {"dipole": TARGETS["dipole"]}
        values = make_options(tmp_path, targets=targets, epochs=1, batch_size=1)
        frames = waters(4, seed=2)
        for i in lacking:
            del frames[i].calc.results["dipole"]
        values["data"]["train"] = write(tmp_path / f"{name}.xyz", frames)
        values["data"]["valid"] = write(tmp_path / f"{name}_valid.xyz", frames[:2])
        values["output"] = str(tmp_path / name)
        best = checkpoint.read(train(parse_options(values)))
        found.append(best["provenance"]["validation"])
    assert all(math.isfinite(results["loss"]) for results in found)
    assert found[0]["loss"] != found[1]["loss"]


def test_large_spreads_are_pointed_out():
    errors = {"a_l1_rmse": 1.0, "a_l1_spread": 0.19, "b_l0_rmse": 0.5, "b_l2_rmse": 0.5}
    assert spread_warnings(errors) == []
    errors.update(b_l0_spread=0.101, b_l2_spread=float("nan"))
    first, second = spread_warnings(errors)
    assert first.startswith("b_l0: predictions spread over rotations by 0.101, more")
    assert "fifth of the RMSE of 0.5; set `spread_weight`, train longer" in first
    assert second.startswith("b_l2")


def test_exact_readout_has_no_spread_and_learns(tmp_path):
    targets = {"dipole": {"kind": "vector", "readout": "exact"}}
    values = make_options(
        tmp_path, targets=targets, epochs=40, learning_rate=3e-3, dtype="float64"
    )
    options = parse_options(values)
    model, _ = checkpoint.load_potential(train(options))
    errors = evaluate_tensors(model, values["data"]["valid"], n_rotations=4)
    assert errors["dipole_l1_spread"] < 1e-12
    assert errors["dipole_l1_relative"] < 0.2
    assert errors["dipole_l1_rmse_averaged"] == pytest.approx(errors["dipole_l1_rmse"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": {}}, "nothing to train: `data.energy_key` is null"),
        ({"targets": {"features": {"kind": "vector"}}}, "cannot be called features"),
        ({"targets": {"energy/b": {"kind": "scalar"}}}, "cannot be called energy/b"),
        (
            {"targets": {"non_conservative_force": {"kind": "vector"}}},
            "cannot be called non_conservative_force, a name of petmad's own",
        ),
        (
            {"targets": {"d": {"kind": "vector", "loss": {"weight": 0}}}},
            "nothing to train: all weights of `training.loss` and of `targets` are 0",
        ),
        ({"training": {"monitor": "forces_mae"}}, "`training.monitor` is forces_mae"),
        ({"targets": {"d": {"kind": "vec"}}}, r"`targets.d.kind`: .*'vector'.*'vec'"),
        (
            {"targets": {"d": {"kind": "vector", "knd": 1}}},
            r"unknown option `targets.d.knd`; did you mean `targets.d.kind`\?",
        ),
        ({"targets": {"d": {}}}, r"option `targets.d.kind` is missing"),
        (
            {"targets": {"d": {"kind": "symmetric", "block_weights": [1.0]}}},
            "one number per block, 2 for kind symmetric, got 1",
        ),
    ],
)
def test_wrong_options_are_explained(change, message):
    values = {
        "data": {"train": "a.xyz", "energy_key": None},
        "targets": {"d": {"kind": "vector"}},
    }
    with pytest.raises(ValueError, match=message):
        parse_options({**values, **change})


def test_shown_options_are_valid():
    shown = sorted((REPOSITORY / "examples" / "tensors").glob("*.yaml"))
    assert len(shown) == 7
    for path in shown:
        assert load_options(path).targets, path


def test_initial_model_has_the_targets_of_the_options(tmp_path):
    from petmad.training.splits import load_splits

    options = parse_options(make_options(tmp_path, "energy"))
    model = make_initial(load_splits(options), options)
    assert [spec.kind for spec in model.targets] == [
        "energy",
        "vector",
        "symmetric",
        "axial_vector",
    ]
