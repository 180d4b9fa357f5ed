"""``petmad evaluate`` of energies and tensors: what is compared, left out, refused."""

import json

import ase.units
import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys, write

from petmad.cli import main
from petmad.data.structures import LabelKeys
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training import checkpoint
from petmad.training.options import parse_options
from petmad.training.report import evaluate, write_json


TENSORS = [TargetSpec("dipole", "vector"), TargetSpec("alpha", "symmetric")]
LEVEL = TargetSpec("energy/scan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of energies, of tensors and of both; files with labels of each."""
    folder = tmp_path_factory.mktemp("files")
    config = PETConfig(**{**MODEL, "num_neighbors_adaptive": None})
    for name, targets in (
        ("energy", [TargetSpec(), LEVEL, TargetSpec("direct", "force")]),
        ("tensors", TENSORS),
        ("both", [TargetSpec(), *TENSORS]),
    ):
        torch.manual_seed(0)
        potential = Potential(config, [29, 79], targets).to_dtype(torch.float64)
        checkpoint.save(folder / f"{name}.ckpt", potential, {})
    frames = alloys(3)
    write(folder / "energy.xyz", frames)
    for atoms in frames:
        atoms.info["dipole"] = atoms.positions.sum(0)
    write(folder / "both.xyz", frames)
    for atoms in frames:
        atoms.calc = None
    write(folder / "tensors.xyz", frames)
    return folder


def run(folder, model, file, *words):
    command = ["evaluate", str(folder / f"{model}.ckpt"), str(folder / f"{file}.xyz")]
    return main([*command, "--rotations", "0", *words])


@pytest.mark.parametrize(
    ("model", "file", "compared", "left_out"),
    [
        ("both", "both", ["energy", "dipole"], ["alpha"]),
        ("both", "tensors", ["dipole"], ["energy", "alpha"]),
        ("both", "energy", ["energy"], ["dipole", "alpha"]),
        ("tensors", "both", ["dipole"], ["alpha"]),
        ("energy", "both", ["energy"], []),
    ],
)
def test_what_both_have_is_compared(
    folder, tmp_path, capsys, model, file, compared, left_out
):
    """The rest is named; the JSON has it all."""
    path = tmp_path / "errors.json"
    assert run(folder, model, file, "--errors", str(path)) == 0
    output = capsys.readouterr().out
    for name in ("energy", "dipole", "alpha"):
        line = f"{name}: not compared, no frame has `{name}`"
        assert (line in output) == (name in left_out)
    errors = json.loads(path.read_text())
    assert ("overall" in errors) == ("meV/atom" in output) == ("energy" in compared)
    assert ("dipole_l1" in output) == ("dipole" in compared)
    expected = {"dipole_l1_mae"} if "dipole" in compared else set()
    assert expected <= set(errors.get("tensors", {}))


def test_unknown_numbers_are_null(folder, tmp_path):
    """The slope of a calibration that three structures do not tell."""
    targets = [TargetSpec(has_uncertainty=True)]
    potential = Potential(PETConfig(**MODEL), [29, 79], targets)
    checkpoint.save(tmp_path / "a.ckpt", potential, {})
    path = tmp_path / "errors.json"
    file = str(folder / "energy.xyz")
    command = ["evaluate", str(tmp_path / "a.ckpt"), file, "--errors", str(path)]
    assert main(command) == 0

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    errors = json.loads(path.read_text(), parse_constant=refuse)
    assert errors["uncertainty"]["slope"] is None


@pytest.mark.parametrize("option", ["--average", "--lebedev"])
def test_orientations_without_energies_are_refused(folder, capsys, option):
    for model, file, message in (
        ("tensors", "both", "the model has none"),
        ("both", "tensors", "tensors.xyz has no energies"),
    ):
        assert run(folder, model, file, option, "1") == 1
        told = capsys.readouterr()
        assert f"`{option}` is about energies and forces, but" in told.err
        assert message in told.err
        assert not told.out


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("energy", ["--energy-key", "nope"], "`nope`, named by `--energy-key`; it has"),
        ("both", ["--energy-key", "nope"], "`nope`, named by `--energy-key`; it has"),
        ("energy", ["--forces-key", "nope"], "`nope`, named by `--forces-key`"),
        ("energy", ["--stress-key", "nope"], "`nope`, named by `--stress-key`"),
        ("energy", ["--virial-key", "nope"], "`nope`, named by `--virial-key`"),
        ("energy", ["--virial-unit", "kbar"], "must be an energy"),
        ("energy", ["--virial-unit", "Ha"], "no virial is read; name it with `--vir"),
        ("energy", ["--subset-key", "nope"], "`nope`, named by `--subset-key`"),
        ("both", ["--target-key", "dipole=mu"], "`mu`, named by `--target-key dipole`"),
        ("both", ["--target-key", "dipol=dipole"], "names 'dipol', which is no tensor"),
        ("tensors", ["--energy-unit", "Ha"], "`--energy-unit` is about energies"),
        ("both", ["--target", "dipole"], "no energy 'dipole'; it has ['energy']"),
        ("energy", ["--target", "direct"], "no energy 'direct'; it has ['energy', 'e"),
        ("energy", ["--target", "energy/scan"], "name it with `--energy-key`"),
    ],
)
def test_what_would_be_passed_over_is_refused(folder, capsys, model, words, message):
    assert run(folder, model, "both", *words) == 1
    told = capsys.readouterr()
    assert message in told.err
    assert not told.out


def test_nothing_in_common(folder, capsys):
    assert run(folder, "tensors", "energy") == 1
    message = capsys.readouterr().err
    assert (
        "has `dipole` (dipole), `alpha` (alpha) to compare with; it has ['energy'"
        in (message)
    )
    assert "with `--target-key dipole=KEY` or `--target-key alpha=KEY`" in message


def test_messages_name_the_options_of_the_command(folder, tmp_path, capsys):
    frames = alloys(2)
    del frames[1].calc.results["energy"]
    for atoms, kind in zip(frames, ({"kind": "a"}, {}), strict=True):
        atoms.info.update(kind)
    model, file = str(folder / "energy.ckpt"), write(tmp_path / "a.xyz", frames)
    commands = [["evaluate", model, str(folder / "tensors.xyz")]]
    commands.append(["uncertainty", "fit", model, "--train", file, "--valid", file])
    for command in commands:
        assert main(command) == 1
        assert "name the right one with `--energy-key`" in capsys.readouterr().err
    file = write(tmp_path / "b.xyz", frames[:1] + alloys(1))
    assert main(["evaluate", model, file, "--subset-key", "kind"]) == 1
    assert "named by `--subset-key`; it has" in capsys.readouterr().err


def test_labels_default_to_those_of_the_training(folder, tmp_path, caplog):
    """Names and units of the level that is evaluated."""
    frames = alloys(3)
    for atoms in frames:
        atoms.info["tight"] = atoms.get_potential_energy() / ase.units.Ha
        atoms.arrays["pull"] = atoms.get_forces() / ase.units.Ha * ase.units.Bohr
    file = write(tmp_path / "a.xyz", frames)
    level = {"energy_key": "tight", "energy_unit": "Ha"}
    level |= {"forces_key": "pull", "forces_unit": "Ha/Bohr"}
    data = {"train": "a.xyz", "energy_unit": "meV", "levels": {"scan": level}}
    potential, _ = checkpoint.load_potential(folder / "energy.ckpt")
    model = str(tmp_path / "a.ckpt")
    options = parse_options({"data": data}).to_dict()
    checkpoint.save(model, potential, {"options": options})
    scan = "energy `tight` in Ha, forces `pull` in Ha/Bohr"
    for words, keys, target, told in (
        ([], LabelKeys(energy_unit="meV"), "energy", "energy `energy` in meV"),
        (["--energy-unit", "eV"], LabelKeys(), "energy", ""),
        (["--target", "energy/scan"], LabelKeys(), "energy/scan", scan),
    ):
        path = tmp_path / "errors.json"
        assert main(["evaluate", model, file, *words, "--errors", str(path)]) == 0
        expected = evaluate(model, file, keys, target).errors["overall"]
        found = json.loads(path.read_text())["overall"]
        for name in ("energy_mae", "forces_mae"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5)
        assert np.isfinite(found["forces_mae"])
        labels = [record.message for record in caplog.records]
        caplog.clear()
        assert labels == ([f"labels: {told}"] if told else [])


def test_numbers_that_are_none_are_null_in_lists_too(tmp_path):
    write_json(
        tmp_path / "errors.json", {"bins": [float("nan"), 1.0], "slope": float("inf")}
    )
    found = json.loads((tmp_path / "errors.json").read_text())
    assert found == {"bins": [None, 1.0], "slope": None}


def test_virials_stand_for_stresses(folder, tmp_path, caplog):
    """Typed, or as in the training; of the sign of LAMMPS, in any unit."""
    frames = alloys(3)
    write(tmp_path / "stress.xyz", frames)
    for atoms in frames:
        stress = atoms.calc.results.pop("stress")[[0, 5, 4, 5, 1, 3, 4, 3, 2]]
        virial = -stress.reshape(3, 3) * atoms.get_volume()
        atoms.info["pull"] = virial / ase.units.Ha
    file = write(tmp_path / "virial.xyz", frames)
    potential, _ = checkpoint.load_potential(folder / "energy.ckpt")
    model, known = folder / "energy.ckpt", tmp_path / "known.ckpt"
    data = {"train": "a.xyz", "virial_key": "pull", "virial_unit": "Ha"}
    options = parse_options({"data": data}).to_dict()
    checkpoint.save(known, potential, {"options": options})
    expected = evaluate(model, tmp_path / "stress.xyz").errors["overall"]
    assert expected["strain_mae"] > 0
    words = ["--virial-key", "pull", "--virial-unit", "Ha"]
    for path, typed in ((model, words), (known, [])):
        errors = tmp_path / "errors.json"
        command = ["evaluate", str(path), file, *typed, "--errors", str(errors)]
        assert main(command) == 0
        found = json.loads(errors.read_text())["overall"]
        for kind in ("mae", "rmse"):
            assert found[f"strain_{kind}"] == pytest.approx(
                expected[f"strain_{kind}"], rel=1e-6
            )
        assert "virial `pull` in Ha" in caplog.records[-1].message
    for path, keys in (
        (known, None),
        (model, LabelKeys(virial="pull", virial_unit="Ha")),
    ):
        found = evaluate(path, file, keys).errors["overall"]["strain_mae"]
        assert found == pytest.approx(expected["strain_mae"], rel=1e-6)
    assert "strain_mae" not in evaluate(model, file).errors["overall"]


def test_a_virial_that_is_named_goes_before_a_stress(tmp_path, folder, capsys):
    """Unless the stress is named, too: then it is read, and the virial elsewhere."""
    frames = alloys(2)
    for atoms in frames:
        atoms.info["pull"] = 1e3 * np.eye(3)
    file, errors = write(tmp_path / "a.xyz", frames), tmp_path / "errors.json"
    command = ["evaluate", str(folder / "energy.ckpt"), file, "--errors", str(errors)]
    found = {}
    for words in ("", "--virial-key pull", "--virial-key pull --stress-key stress"):
        assert main([*command, *words.split()]) == 0
        found[words] = json.loads(errors.read_text())["overall"]["strain_mae"]
    plain, virial, both = found.values()
    assert virial > 10 * plain
    assert both == plain
    capsys.readouterr()
    assert main([*command, "--virial-key", "pull", "--stress-unit", "GPa"]) == 1
    assert "`--stress-unit GPa` has no effect, since no s" in capsys.readouterr().err
