"""Uncertainties fitted after training: the formula, the calibration, the ensemble."""

import ase.units
import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys, write
from toy_data import options as toy_options

from petmad import PETMADCalculator
from petmad.cli import main, make_parser
from petmad.data import collate, make_sample
from petmad.data.files import file_sha256
from petmad.data.structures import LabelKeys, to_structure
from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training import checkpoint
from petmad.training.calibration import calibrate
from petmad.training.options import parse_options
from petmad.training.trainer import train
from petmad.training.uncertainty import (
    REGULARIZERS,
    covariance_of,
    fit_uncertainty,
    last_features,
    unlikeliness,
)
from petmad.training.uncertainty_command import read_samples


NUMBERS = [29, 79]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    targets = [TargetSpec(), TargetSpec("energy/scan", has_uncertainty=True)]
    config = PETConfig.from_dict({**MODEL, "d_head": 4})
    potential = Potential(config, NUMBERS, targets).to_dtype(torch.float64)
    potential.uncertainties[0].multiplier.fill_(5.0)
    return potential.eval()


def samples_of(n_frames, seed):
    frames = alloys(n_frames, seed)
    structures = [to_structure(a, "toy, frame 0", LabelKeys()) for a in frames]
    return [make_sample(s, NUMBERS, MODEL["cutoff"]) for s in structures]


@pytest.fixture(scope="module")
def data():
    return samples_of(30, 1), samples_of(40, 2)


def obvious_deviation(model, train_set, sample, regularizer):
    """sqrt(fᵀ (Σ (f/n)(f/n)ᵀ + λ)⁻¹ f), one structure at a time."""
    output = "last_layer_features/energy"

    def features(one):
        graph = collate([one]).graph
        return model(graph, [output])[output].sum(0).detach().numpy()

    covariance = sum(
        np.outer(features(s), features(s)) / len(s.species) ** 2 for s in train_set
    )
    shift = regularizer * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance + shift * np.eye(len(covariance)))
    f = features(sample)
    return np.sqrt(f @ inverse @ f)


@pytest.mark.parametrize("calibration", ["absolute", "squared"])
def test_deviations_are_those_of_the_formula(model, data, calibration):
    fit = fit_uncertainty(
        model, *data, n_members=0, regularizer=1e-4, calibration=calibration
    )
    deviations, errors = [], []
    for sample in data[1]:
        graph = collate([sample]).graph
        results = fit.potential(graph, ["energy", "energy_uncertainty"])
        deviations.append(float(results["energy_uncertainty"].sum(0).norm()))
        errors.append(float((results["energy"].sum() - sample.energy).detach()))
    plain = [obvious_deviation(model, data[0], s, 1e-4) for s in data[1]]
    np.testing.assert_allclose(np.array(deviations) / plain, fit.multiplier, rtol=1e-8)
    ratios = np.abs(errors) / deviations
    found = {"absolute": ratios.mean(), "squared": np.sqrt(np.mean(ratios**2))}
    expected = {"absolute": np.sqrt(2 / np.pi), "squared": 1.0}
    assert found[calibration] == pytest.approx(expected[calibration], rel=1e-10)


def likelihood_by_leaving_out(model, train_set, valid_set, regularizer):
    """Log-likelihood with C made anew without each training structure in its turn."""
    loss = 0.0
    output = "last_layer_features/energy"
    everything = [*train_set, *valid_set]
    graphs = [collate([s]).graph for s in everything]
    features = [model(g, [output])[output].sum(0).detach().numpy() for g in graphs]
    energies = [float(model(g, ["energy"])["energy"].sum().detach()) for g in graphs]
    errors = [e - float(s.energy) for e, s in zip(energies, everything, strict=True)]
    n = len(train_set)
    scaled = [f / len(s.species) for f, s in zip(features, train_set, strict=False)]
    whole = sum(np.outer(g, g) for g in scaled)
    shift = regularizer * np.trace(whole) / len(whole) * np.eye(len(whole))
    variances = []
    for i, f in enumerate(features):
        known = whole - (np.outer(scaled[i], scaled[i]) if i < n else 0.0)
        variances.append(f @ np.linalg.inv(known + shift) @ f)
    for part in (slice(0, n), slice(n, None)):
        squares, expected = np.square(errors[part]), np.array(variances[part])
        multiplier = np.mean(squares / expected)
        loss -= 0.5 * np.sum(np.log(multiplier * expected))
    return loss


def test_the_regularizer_makes_all_errors_most_likely(model, data):
    train_set, valid_set = data[0], data[1][:4]
    fit = fit_uncertainty(model, train_set, valid_set, n_members=0)
    found = [
        likelihood_by_leaving_out(model, train_set, valid_set, r) for r in REGULARIZERS
    ]
    assert fit.regularizer == REGULARIZERS[np.argmax(found)]
    seen, unseen = (last_features(model, s, "energy") for s in (train_set, valid_set))
    covariance = covariance_of(seen)
    ours = [-unlikeliness(covariance, seen, unseen, r) for r in REGULARIZERS[4:]]
    np.testing.assert_allclose(ours, found[4:], rtol=1e-5)


def test_the_rest_of_the_model_stays(model, data):
    fit = fit_uncertainty(model, *data, n_members=3)
    before, after = model.state_dict(), fit.potential.state_dict()
    for name, tensor in before.items():
        moved = name.replace("uncertainties.0", "uncertainties.1")
        assert torch.equal(after[moved], tensor), name
    assert [spec.n_members for spec in fit.potential.targets] == [3, 0]
    again = fit_uncertainty(fit.potential, *data, n_members=3)
    assert again.multiplier == fit.multiplier


def test_members_spread_as_the_deviation_says(model, data):
    """Within 15 %, 128 members leaving sqrt(1/256), 6 %, of chance."""
    potential = fit_uncertainty(model, *data).potential
    graph = collate(data[1][:6]).graph
    outputs = ["energy", "energy_uncertainty", "energy_ensemble"]
    results = potential(graph, outputs)
    for k in range(6):
        chosen = graph.structures == k
        members = results["energy_ensemble"][chosen].sum(0)
        deviation = results["energy_uncertainty"][chosen].sum(0).norm()
        energy = results["energy"][chosen].sum()
        torch.testing.assert_close(members.mean(), energy)
        assert float(members.std() / deviation) == pytest.approx(1, abs=0.15)


def test_calibration_of_honest_and_of_boastful_deviations():
    random = np.random.default_rng(0)
    deviations = np.exp(random.uniform(-3, 1, 4000))
    errors = deviations * random.standard_normal(4000)
    honest = calibrate(deviations, errors)
    assert honest.slope == pytest.approx(1, abs=0.05)
    assert honest.ratio == pytest.approx(1, abs=0.05)
    boastful = calibrate(0.1 * deviations**0.5, errors)
    assert boastful.slope == pytest.approx(2, abs=0.1)
    assert boastful.ratio > 5
    assert np.isnan(calibrate(np.ones(100), errors[:100]).slope)
    assert len(calibrate(deviations[:12], errors[:12]).errors) == 2


def test_from_a_training_to_the_calculator(tmp_path, capsys):
    values = toy_options(tmp_path, epochs=1)
    best = train(parse_options(values))
    fitted = tmp_path / "sure.ckpt"
    command = ["uncertainty", "fit", str(best), "-o", str(fitted)]
    assert main([*command, "--members", "8"]) == 0
    output = capsys.readouterr().out
    assert "fitted to 13 training structures, calibrated on 4" in output
    files = ["--train", values["data"]["train"], "--valid", values["data"]["valid"]]
    other = tmp_path / "other.ckpt"
    assert main([*command[:4], str(other), "--members", "8", *files]) == 0
    state = checkpoint.read(fitted)["state_dict"]
    for name, tensor in checkpoint.read(other)["state_dict"].items():
        torch.testing.assert_close(tensor, state[name])
    potential, provenance = checkpoint.load_potential(fitted)
    assert provenance["uncertainty"]["n_train"] == 13
    export_model(potential, tmp_path / "model.pt", "float64")
    calculator = PETMADCalculator(tmp_path / "model.pt")
    atoms = alloys(1, seed=8)[0]
    atoms.calc = calculator
    deviation = calculator.get_property("energy_uncertainty", atoms)
    members = calculator.get_property("energy_ensemble", atoms)
    each = calculator.get_property("energies_uncertainty", atoms)
    assert deviation > 0
    assert (members.shape, each.shape) == ((8,), (4,))
    assert np.mean(members) == pytest.approx(atoms.get_potential_energy(), rel=1e-5)


def test_errors_of_the_command(tmp_path, model, capsys):
    path = str(tmp_path / "a.ckpt")
    checkpoint.save(path, model, {})
    assert main(["uncertainty", "fit", path]) == 1
    assert "name both with --train and --valid" in capsys.readouterr().err
    assert main(["uncertainty", "fit", path, "--target", "dipole"]) == 1
    message = "no energy 'dipole' to tell the uncertainty of; it has ['energy', 'energy"
    assert message in capsys.readouterr().err
    file = write(tmp_path / "one.xyz", alloys(1))
    assert main(["uncertainty", "fit", path, "--train", file, "--valid", file]) == 1
    assert "1 training structures are too few" in capsys.readouterr().err


def arguments_of(*words):
    return make_parser().parse_args(["uncertainty", "fit", "a.ckpt", *words])


def test_labels_default_to_those_of_the_training(tmp_path, model):
    """Of the target's level, name and unit; files of Hartree are no files of eV."""
    frames = alloys(3)
    for atoms in frames:
        atoms.info["tight"] = atoms.get_potential_energy() / ase.units.Ha
    file = write(tmp_path / "a.xyz", frames)
    data = {"train": "b.xyz", "energy_key": "energy", "energy_unit": "meV"}
    data["levels"] = {"scan": {"energy_key": "tight", "energy_unit": "Ha"}}
    provenance = {"options": parse_options({"data": data}).to_dict()}
    files = ("--train", file, "--valid", file)
    expected = [atoms.get_potential_energy() for atoms in frames]
    for words, known, scale in (
        ((), {}, 1),
        (("--energy-unit", "meV"), {}, 1e-3),
        ((), provenance, 1e-3),
        (("--energy-unit", "eV"), provenance, 1),
        (("--target", "energy/scan"), provenance, 1),
        (("--target", "energy/scan", "--energy-key", "energy"), provenance, None),
    ):
        samples, _ = read_samples(arguments_of(*files, *words), model, known)
        factor = ase.units.Ha if scale is None else scale
        found = [float(sample.energy) for sample in samples]
        assert found == pytest.approx([factor * energy for energy in expected])
    with pytest.raises(ValueError, match=r"label of 'energy/scan' .*`--energy-key`"):
        read_samples(arguments_of(*files, "--target", "energy/scan"), model, {})


def test_files_of_the_training_are_compared(tmp_path, model):
    values = toy_options(tmp_path)
    options = parse_options(values)
    file = values["data"]["train"]
    known = {"options": options.to_dict(), "data_sha256": {file: file_sha256(file)}}
    train_set, valid_set = read_samples(arguments_of(), model, known)
    assert (len(train_set), len(valid_set)) == (13, 4)
    for words in (("--energy-key", "energy"), ("--energy-unit", "eV")):
        with pytest.raises(ValueError, match="but none are named; name them with"):
            read_samples(arguments_of(*words), model, known)
    with pytest.raises(ValueError, match=r"'energy/scan' of a.ckpt was not trained on"):
        read_samples(arguments_of("--target", "energy/scan"), model, known)
    write(tmp_path / "train.xyz", alloys(13, seed=3))
    with pytest.raises(ValueError, match=r"train.xyz is not the file .*restore it"):
        read_samples(arguments_of(), model, known)


@pytest.mark.parametrize("words", [("--regularizer", "-1"), ("--members", "-1")])
def test_negative_numbers_are_refused(words, capsys):
    with pytest.raises(SystemExit):
        arguments_of(*words)
    assert "got -1" in capsys.readouterr().err


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_negative_regularizers_are_refused(model, data, value):
    with pytest.raises(ValueError, match="`regularizer` must be 0 or more, got"):
        fit_uncertainty(model, *data, regularizer=value)
