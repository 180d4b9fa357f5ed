"""Evaluations: parts of errors by the obvious sums, predictions, the HTML report."""

import json
import re

import ase.io
import numpy as np
import pytest
import torch
from ase.constraints import FixAtoms
from toy_data import MODEL, alloys, write

import petmad
from petmad import PETMADCalculator
from petmad.cli import main
from petmad.data import read_structures
from petmad.data.mapped import write_mapped
from petmad.data.structures import LabelKeys
from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.rotations import rotation_grid
from petmad.training import checkpoint
from petmad.training.evaluation import potential_predictor
from petmad.training.orientations import rotational_errors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint and an exported file of one model with uncertainty, and data."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(4)
    targets = [TargetSpec(has_uncertainty=True), TargetSpec("energy/scan")]
    potential = Potential(PETConfig.from_dict(MODEL), [29, 79], targets)
    potential.to_dtype(torch.float64)
    potential.compositions[1].data.fill_(1.0)
    checkpoint.save(folder / "model.ckpt", potential, {})
    export_model(potential, folder / "model.pt", "float64")
    frames = alloys(12, seed=6)
    for i, atoms in enumerate(frames):
        atoms.info["kind"] = "even" if i % 2 == 0 else "odd"
    frames[3].calc.results.pop("forces")
    write(folder / "test.xyz", frames)
    return folder


def test_parts_of_the_errors(files):
    """Each against sums written out, over all frames but the one without forces."""
    keys = LabelKeys(group="kind")
    result = petmad.evaluate(files / "model.ckpt", files / "test.xyz", keys)
    structures = read_structures(files / "test.xyz", keys, needs_forces=False)
    pairs = [
        (s, p.labels.forces.numpy())
        for s, p in zip(structures, result.predictions, strict=True)
        if s.forces is not None
    ]
    moved = 1000 * np.concatenate([f - s.forces for s, f in pairs])
    numbers = np.concatenate([s.atomic_numbers for s, _ in pairs])
    errors = result.errors
    for symbol, number in (("Cu", 29), ("Au", 79)):
        chosen = moved[numbers == number]
        found = errors["elements"][symbol]
        assert found["mae"] == pytest.approx(np.abs(chosen).mean())
        assert found["rmse"] == pytest.approx(np.sqrt((chosen**2).mean()))
        assert found["n"] == chosen.size
    for i, axis in enumerate("xyz"):
        found = errors["components"][f"forces_{axis}"]["mae"]
        assert found == pytest.approx(np.abs(moved[:, i]).mean())
    energies = [
        (float(p.labels.energies[0]) - s.energy) / len(s.atomic_numbers) * 1000
        for s, p in zip(structures, result.predictions, strict=True)
    ]
    assert errors["overall"]["energy_mae"] == pytest.approx(np.abs(energies).mean())
    for k, name in enumerate(("even", "odd")):
        found = errors["subsets"][name]["energy_rmse"]
        assert found == pytest.approx(np.sqrt(np.mean(np.square(energies[k::2]))))
    strain = [
        p.labels.strain_gradients[0].numpy() - s.stress * s.volume
        for s, p in zip(structures, result.predictions, strict=True)
    ]
    shear = [1000 * 0.5 * (m[0, 1] + m[1, 0]) / 4 for m in strain]
    found = errors["components"]["strain_xy"]["mae"]
    assert found == pytest.approx(np.abs(shear).mean())


def test_checkpoint_and_engine_agree(files):
    first, second = (
        petmad.evaluate(files / name, files / "test.xyz", rotation_order=1)
        for name in ("model.ckpt", "model.pt")
    )
    assert first.errors["overall"] == pytest.approx(second.errors["overall"], rel=1e-8)
    assert first.errors["uncertainty"]["ratio"] == pytest.approx(
        second.errors["uncertainty"]["ratio"], rel=1e-6
    )
    for kind in ("energy", "forces"):
        found = first.errors["rotations"][kind]
        assert found > 0
        assert found == pytest.approx(second.errors["rotations"][kind], rel=1e-6)


def test_spread_over_orientations(files):
    """Of one structure, against a loop over turned frames and the formula."""
    potential, _ = checkpoint.load_potential(files / "model.ckpt")
    predictor = potential_predictor(potential)
    structure = read_structures(files / "test.xyz", needs_forces=False)[0]
    grid = rotation_grid(3, inversion=True)
    energies = []
    for rotation in grid.rotations:
        turned = structure.__class__(
            **{
                **structure.__dict__,
                "positions": structure.positions @ rotation.T,
                "cell": structure.cell @ rotation.T,
            }
        )
        energies.append(float(predictor.predict(turned).labels.energies[0]))
    mean = np.average(energies, weights=grid.weights)
    variance = np.average((energies - mean) ** 2, weights=grid.weights)
    found = rotational_errors(predictor, [structure], 3)
    assert found["energy"] == pytest.approx(1000 * np.sqrt(variance) / 4)
    assert found["n_rotations"] == 48


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt"])
def test_means_over_orientations(files, name):
    """Those of the calculator, structure by structure."""
    result = petmad.evaluate(files / name, files / "test.xyz", average_order=3)
    assert result.errors["averaged"] == {"order": 3, "n_orientations": 48}
    plain = petmad.evaluate(files / name, files / "test.xyz")
    calculator = PETMADCalculator(files / "model.pt", rotations=3, inversion=True)
    frames = ase.io.read(files / "test.xyz", ":")
    for atoms, mean, single in zip(
        frames, result.predictions, plain.predictions, strict=True
    ):
        atoms.calc = calculator
        assert float(mean.labels.energies[0]) == pytest.approx(
            atoms.get_potential_energy(), rel=1e-9
        )
        np.testing.assert_allclose(
            mean.labels.forces, atoms.get_forces(), rtol=0, atol=1e-8
        )
        strain = mean.labels.strain_gradients[0].numpy() / atoms.cell.volume
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose((strain + strain.T) / 2, stress, rtol=0, atol=1e-9)
        moved = mean.labels.forces - single.labels.forces
        assert moved.abs().max() > 1e-6
        assert 0.5 < mean.deviation / single.deviation < 2


def test_a_mean_has_no_spread_to_measure(files):
    with pytest.raises(ValueError, match=r"one of both.*`--lebedev` and `--average`"):
        petmad.evaluate(
            files / "model.pt", files / "test.xyz", rotation_order=3, average_order=3
        )


def test_other_energies_of_a_checkpoint(files):
    shifted = petmad.evaluate(
        files / "model.ckpt", files / "test.xyz", target="energy/scan"
    )
    assert "uncertainty" not in shifted.errors
    for name, message in (("model.ckpt", "no energy 'energy/x'"), ("model.pt", "main")):
        with pytest.raises(ValueError, match=message):
            petmad.evaluate(files / name, files / "test.xyz", target="energy/x")


def test_command_writes_errors_predictions_and_report(files, tmp_path, capsys):
    paths = {n: tmp_path / n for n in ("errors.json", "predictions.xyz", "report.html")}
    command = ["evaluate", str(files / "model.pt"), str(files / "test.xyz")]
    for name, path in paths.items():
        command += [f"--{name.partition('.')[0]}", str(path)]
    nowhere = ["--report", str(tmp_path / "absent" / "report.html")]
    assert main([*command, *nowhere]) == 1
    told = capsys.readouterr()
    assert "make the folder" in told.err
    assert not told.out
    assert main([*command, "--average", "1"]) == 0
    assert "means over 24 orientations" in capsys.readouterr().out
    assert main([*command, "--subset-key", "kind", "--lebedev", "1"]) == 0
    output = capsys.readouterr().out
    for part in ("subset even", "Cu ", "orientations", "slope", "forces_x"):
        assert part in output
    errors = json.loads(paths["errors.json"].read_text())
    assert errors["overall"]["forces_mae"] > 0
    truth = ase.io.read(files / "test.xyz", ":")
    result = petmad.evaluate(files / "model.pt", files / "test.xyz")
    frames = ase.io.read(paths["predictions.xyz"], ":")
    for atoms, expected, prediction in zip(
        frames, truth, result.predictions, strict=True
    ):
        np.testing.assert_allclose(atoms.positions, expected.positions, atol=1e-7)
        forces = prediction.labels.forces.numpy()
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-7)
        reference = expected.get_potential_energy()
        assert atoms.info["reference_energy"] == pytest.approx(reference)
        strain = prediction.labels.strain_gradients[0].numpy()
        stress = 0.5 * (strain + strain.T) / expected.get_volume()
        np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-7)
    report = paths["report.html"].read_text()
    for name in ("parity of forces", "errors of energies", "calibration"):
        assert f"<img alt='{name}' src='data:image/png;base64,iVBOR" in report
    assert not re.search(r"(src|href)='?\"?(http|//)", report)


def test_predictions_keep_what_a_frame_has(files, tmp_path):
    """But for what is written anew, and what the format does not hold."""
    frames = alloys(3, seed=8)
    for i, atoms in enumerate(frames):
        atoms.info |= {"config_type": f"bulk {i}", "source": "DFT", "id": i}
        atoms.info |= {"reference_energy": 99.0, "energy_uncertainty": 99.0}
        atoms.info["REF_energy"] = atoms.get_potential_energy()
        atoms.set_array("site", np.arange(4) + i)
        atoms.set_tags([1, 2, 3, 4])
        atoms.calc.results["free_energy"] = -float(i)
        atoms.set_constraint(FixAtoms([0]))
    text, database = tmp_path / "a.xyz", tmp_path / "a.aselmdb"
    write(text, frames)
    for atoms in frames:
        atoms.set_array("born", np.zeros((4, 3, 3)))
    write_mapped(database, frames)
    keys = LabelKeys("REF_energy")
    for file in (text, database):
        result = petmad.evaluate(files / "model.ckpt", [file, file], keys)
        result.write_predictions(tmp_path / "out.xyz.gz")
        found = ase.io.read(tmp_path / "out.xyz.gz", ":")
        assert [atoms.info["id"] for atoms in found] == [0, 1, 2, 0, 1, 2]
        for i, (atoms, prediction) in enumerate(
            zip(found[:3], result.predictions[:3], strict=True)
        ):
            energy = frames[i].get_potential_energy()
            assert atoms.info["config_type"] == f"bulk {i}"
            assert atoms.info["source"] == "DFT"
            assert atoms.info["REF_energy"] == pytest.approx(energy)
            assert atoms.info["reference_energy"] == pytest.approx(energy)
            assert atoms.info["reference_free_energy"] == -i
            assert atoms.info["energy_uncertainty"] != 99.0
            assert atoms.arrays["site"].tolist() == [i, i + 1, i + 2, i + 3]
            assert atoms.get_tags().tolist() == [1, 2, 3, 4]
            forces = prediction.labels.forces.numpy()
            np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-7)
            labels = frames[i].calc.results["forces"]
            found_labels = atoms.arrays["reference_forces"]
            np.testing.assert_allclose(found_labels, labels, atol=1e-7)
    frames = ase.io.read(text, ":")
    write(text, frames[:1] + frames[2:])
    result = petmad.evaluate(files / "model.ckpt", text, keys)
    write(text, frames[1:])
    with pytest.raises(ValueError, match=r"a.xyz, frame 0 is not what it was"):
        result.write_predictions(tmp_path / "out.xyz.gz")


def test_learning_curves_come_from_the_log(files, tmp_path):
    (tmp_path / "csv" / "version_0").mkdir(parents=True)
    log = "step,valid/energy_mae,valid/forces_mae\n1,,\n5,3.5,70\n9,2.5,60\n"
    (tmp_path / "csv" / "version_0" / "metrics.csv").write_text(log)
    (tmp_path / "best.ckpt").write_bytes((files / "model.ckpt").read_bytes())
    result = petmad.evaluate(tmp_path / "best.ckpt", files / "test.xyz")
    result.write_report(tmp_path / "report.html")
    assert "learning curves" in (tmp_path / "report.html").read_text()


def test_subset_that_is_not_there(files):
    with pytest.raises(ValueError, match=r"frame 0 has no `group`.*subset key"):
        petmad.evaluate(
            files / "model.ckpt", files / "test.xyz", LabelKeys(group="group")
        )


def test_labels_are_those_of_the_training(files, tmp_path):
    """Names and units, unless given."""
    potential, _ = checkpoint.load_potential(files / "model.ckpt")
    data = {"energy_key": "energy", "energy_unit": "Ha", "forces_unit": "Ha/Bohr"}
    known = tmp_path / "known.ckpt"
    checkpoint.save(known, potential, {"options": {"data": data}})
    keys = LabelKeys(energy_unit="Ha", forces_unit="Ha/Bohr")
    expected = petmad.evaluate(known, files / "test.xyz", keys).errors["overall"]
    assert petmad.evaluate(known, files / "test.xyz").errors["overall"] == expected
    other = petmad.evaluate(known, files / "test.xyz", LabelKeys()).errors["overall"]
    assert other != expected
