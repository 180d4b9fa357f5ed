"""Evaluations and fits of uncertainties on a device: everything follows the model."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from elsewhere import ELSEWHERE, Elsewhere
from tensor_models import water_tensors
from toy_data import MODEL, alloys, write
from toy_data import options as toy_options

import petmad
from petmad.cli import main
from petmad.data import make_sample, read_structures
from petmad.export import export_model
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint, finetune
from petmad.training.device import choose_device, engine_device
from petmad.training.evaluation import load_predictor, potential_predictor
from petmad.training.finetune import compare
from petmad.training.orientations import averaged
from petmad.training.report import evaluate_with
from petmad.training.tensor_evaluation import evaluate_tensors
from petmad.training.uncertainty import fit_uncertainty


NUMBERS = [29, 79]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model of everything that is evaluated, as a checkpoint and exported; data."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(4)
    targets = [
        TargetSpec(has_uncertainty=True),
        TargetSpec("energy/scan"),
        TargetSpec("non_conservative_force", "force", 3, True, "eV/A"),
        TargetSpec("non_conservative_stress", "stress", 9, False, "eV"),
        *water_tensors(),
    ]
    config = PETConfig(**{**MODEL, "zbl": True})
    potential = checkpoint.make_potential(config, NUMBERS, targets, "float64")
    checkpoint.save(folder / "model.ckpt", potential, {})
    export_model(potential, folder / "model.pt", "float64")
    frames = alloys(6, seed=6)
    for atoms in frames:
        atoms.info["dipole"] = atoms.positions.sum(0)
        atoms.info["polarizability"] = np.eye(3) + atoms.cell.array @ atoms.cell.array.T
        atoms.arrays["shielding"] = np.outer(range(1, 5), range(9)).astype(float)
    write(folder / "test.xyz", frames)
    return folder


def everything(potential, file):
    """Errors of energies, their mean over orientations, and of tensors."""
    predictor = potential_predictor(potential)
    structures = list(read_structures(file))
    energies = evaluate_with(predictor, "model", structures[:2], rotation_order=1)
    scan = potential_predictor(potential, "energy/scan")
    others = evaluate_with(scan, "model", structures)
    mean = evaluate_with(averaged(predictor, 1), "model", structures[2:3])
    tensors = evaluate_tensors(potential, file, n_rotations=2)
    parts = (energies.errors, others.errors, mean.errors)
    parts = [part["overall"] for part in parts] + [energies.errors["uncertainty"]]
    return [*parts, energies.errors["rotations"], tensors]


def test_an_evaluation_follows_the_model(files):
    """No tensor stays on the CPU where another is not, and the numbers are the same."""
    potential, _ = checkpoint.load_potential(files / "model.ckpt")
    expected = everything(potential, files / "test.xyz")
    with Elsewhere() as mode:
        found = everything(potential.to(ELSEWHERE), files / "test.xyz")
    assert mode.n_operations > 1000
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-12, nan_ok=True)


def test_a_fit_of_uncertainties_follows_the_model(files):
    potential, _ = checkpoint.load_potential(files / "model.ckpt")
    structures = read_structures(files / "test.xyz")
    samples = [make_sample(s, NUMBERS, MODEL["cutoff"]) for s in structures]
    expected = fit_uncertainty(copy.deepcopy(potential), samples[:3], samples[3:])
    with Elsewhere():
        away = copy.deepcopy(potential).to(ELSEWHERE)
        found = fit_uncertainty(away, samples[:3], samples[3:])
        module = found.potential.to("cpu").uncertainties[0]
    assert found.multiplier == pytest.approx(expected.multiplier, rel=1e-12)
    assert found.regularizer == expected.regularizer
    for name, value in expected.potential.uncertainties[0].state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value)


def test_elsewhere_refuses_what_a_gpu_does():
    with Elsewhere():
        here, away = torch.ones(3), torch.ones(3).to(ELSEWHERE)
        assert away.device == ELSEWHERE
        assert torch.equal((2 * away).cpu(), 2 * here)
        with pytest.raises(AssertionError, match="two devices"):
            here + away
        with pytest.raises(AssertionError, match="two devices"):
            here[away.long()]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("cuda:", "must be auto, cpu, cuda or cuda:N, got 'cuda:'"),
        ("cuda:x", "must be auto, cpu, cuda or cuda:N"),
        ("cuda:99", "'cuda:99', but torch .* finds [0-9]+ CUDA devices"),
    ],
)
def test_devices_that_are_not_there(files, name, message, capsys):
    with pytest.raises(ValueError, match=message):
        choose_device(name)
    model, file = str(files / "model.ckpt"), str(files / "test.xyz")
    fit = ["uncertainty", "fit", model, "--train", file, "--valid", file]
    for command in (["evaluate", model, file], fit):
        assert main([*command, "--device", name]) == 1
        assert re.search(message, capsys.readouterr().err)
    assert main(["evaluate", str(files / "model.pt"), file, "--device", name]) == 1
    assert "`device`" in capsys.readouterr().err


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    import petmad._engine  # noqa: F401  (loads the core)
    from petmad import _core

    for n_devices, name in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=n_devices: n)
        monkeypatch.setattr(_core, "n_cuda_devices", lambda n=n_devices: n)
        assert choose_device() == torch.device(name)
        assert engine_device() == name
    assert choose_device("cuda:1") == torch.device("cuda:1")


def test_a_device_reaches_the_engine_and_machine_code_refuses_it(files, monkeypatch):
    """The engine's own second device, which its tests have for want of a GPU."""
    import petmad._engine as engines

    used, make = [], engines.Engine
    monkeypatch.setattr(
        engines,
        "Engine",
        lambda path, device, *a: used.append(device) or make(path, device, *a),
    )
    plain, emulated = (
        petmad.evaluate(files / "model.pt", files / "test.xyz", device=device)
        for device in ("cpu", "emulated")
    )
    assert used == ["cpu", "emulated"]
    assert emulated.errors["overall"] == pytest.approx(plain.errors["overall"])
    with pytest.raises(ValueError, match=r"model.pt2 holds machine code .* 'cuda:0'"):
        load_predictor("model.pt2", device="cuda:0")


def test_commands_hand_the_device_on(files, tmp_path, monkeypatch):
    """Named once, it is where the energies, the tensors and the fit are made."""
    chosen = []
    used = lambda name: chosen.append(name) or torch.device("cpu")  # noqa: E731
    for module in ("evaluation", "evaluation_command", "uncertainty_command"):
        monkeypatch.setattr(f"petmad.training.{module}.choose_device", used)
    model, file = str(files / "model.ckpt"), str(files / "test.xyz")
    words = ["--device", "cuda:1"]
    assert main(["evaluate", model, file, "--rotations", "0", *words]) == 0
    assert chosen == ["cuda:1"] * 2
    command = ["uncertainty", "fit", model, "--train", file, "--valid", file]
    command += ["--members", "0", "-o", str(tmp_path / "fit.ckpt")]
    assert main([*command, *words]) == 0
    assert chosen == ["cuda:1"] * 3


@pytest.mark.parametrize(("device", "name"), [("gpu", "cuda"), ("cpu", "cpu")])
def test_the_report_of_a_fine_tuning_is_made_where_it_ran(
    files, tmp_path, monkeypatch, device, name
):
    from petmad.training.options import parse_options

    values = toy_options(tmp_path)
    values["training"] |= {"start_from": str(files / "model.ckpt"), "device": device}
    del values["model"]
    best, asked = files / "model.ckpt", []
    (tmp_path / "run").mkdir()

    def choose(name):
        asked.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(finetune, "train", lambda *_: Path(best))
    monkeypatch.setattr(finetune, "choose_device", choose)
    finetune.finetune(parse_options(values))
    assert asked == [name]
    structures = list(read_structures(files / "test.xyz"))
    expected = compare(best, best, "energy", structures, torch.device("cpu"))
    with Elsewhere():
        found = compare(best, best, "energy", structures, ELSEWHERE)
    assert found["after"] == pytest.approx(expected["after"], rel=1e-12)


@pytest.mark.cuda
def test_gpu_and_cpu_agree(files):
    """Checkpoints, exported files and fits, in float64."""
    potential, _ = checkpoint.load_potential(files / "model.ckpt")
    file = files / "test.xyz"
    expected = everything(potential, file)
    found = everything(copy.deepcopy(potential).to("cuda"), file)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-10, abs=1e-10, nan_ok=True)
    for name in ("model.ckpt", "model.pt"):
        gpu, cpu = (
            petmad.evaluate(files / name, file, device=device)
            for device in ("cuda", "cpu")
        )
        expected = cpu.errors["overall"]
        assert gpu.errors["overall"] == pytest.approx(expected, rel=1e-10)
    samples = [make_sample(s, NUMBERS, MODEL["cutoff"]) for s in read_structures(file)]
    gpu, cpu = (
        fit_uncertainty(
            copy.deepcopy(potential).to(device),
            samples[:3],
            samples[3:],
            regularizer=0.01,  # without it C, of three structures, is singular
        )
        for device in ("cuda", "cpu")
    )
    assert gpu.multiplier == pytest.approx(cpu.multiplier, rel=1e-10)
    expected = cpu.calibration.deviations
    np.testing.assert_allclose(gpu.calibration.deviations, expected, rtol=1e-10)
