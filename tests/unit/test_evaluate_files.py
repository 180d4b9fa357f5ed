"""Evaluations of several files, of frames without labels, of several energies."""

import json

import ase.io
import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys, write

import petmad
from petmad.cli import main
from petmad.data.structures import LabelKeys, labels_of_frame
from petmad.export import export_model
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.options import parse_options


TENSORS = [
    TargetSpec("dipole", "vector", unit="eÅ"),
    TargetSpec("gap", "scalar", unit="eV"),
    TargetSpec("twist", "spherical", order=2, parity=-1),
    TargetSpec("alpha", "symmetric", unit="Å³"),
    TargetSpec("shielding", "matrix", per_atom=True, unit="ppm"),
    TargetSpec("pull", "vector", per_atom=True),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models of several energies, of tensors, of both; a plain and a mixed file."""
    folder = tmp_path_factory.mktemp("files")
    config = PETConfig(**{**MODEL, "num_neighbors_adaptive": None})
    levels = [TargetSpec(), TargetSpec("energy/scan"), TargetSpec("energy/r2")]
    for name, targets in (
        ("energies", levels),
        ("tensors", TENSORS),
        ("both", [TargetSpec(has_uncertainty=True), *TENSORS]),
    ):
        torch.manual_seed(0)
        potential = checkpoint.make_potential(config, [29, 79], targets, "float64")
        for spec, composition in zip(targets, potential.compositions, strict=True):
            if spec.kind == "scalar":
                composition.data += torch.tensor([[1.0], [2.0]])
        level = {"energy_key": "r2", "forces_key": "r2_forces"}
        data = {"train": "a.xyz", "levels": {"r2": level}}
        options = parse_options({"data": data}).to_dict()
        given = {"options": options} if name == "energies" else {}
        checkpoint.save(folder / f"{name}.ckpt", potential, given)
        export_model(potential, folder / f"{name}.pt", "float64")
    random = np.random.default_rng(0)
    frames = alloys(6, seed=3)
    for i, atoms in enumerate(frames):
        for spec in TENSORS:
            label = random.standard_normal((4, spec.rows().shape[1]))
            if spec.name == "alpha":
                label[0] = (label[0] + label[0].reshape(3, 3).T.ravel()) / 2
            if spec.per_atom:
                atoms.arrays[spec.name] = label
            elif spec.name == "alpha":
                atoms.info[spec.name] = label[0].reshape(3, 3)
            else:
                atoms.info[spec.name] = label[0] if label.shape[1] > 1 else label[0, 0]
        if i % 2 == 0:
            atoms.info["r2"] = atoms.get_potential_energy() + 1.0
    write(folder / "all.xyz", frames)
    write(folder / "r2.xyz", frames[::2])
    del frames[1].calc.results["energy"]
    del frames[4].info["dipole"]
    for name in ("energy", *(spec.name for spec in TENSORS)):
        for part in (frames[2].calc.results, frames[2].info, frames[2].arrays):
            part.pop(name, None)
    write(folder / "mixed.xyz", frames)
    write(folder / "both.xyz", [frames[i] for i in (0, 3, 4, 5)])
    write(folder / "other.xyz", alloys(3, seed=8))
    for atoms in frames:
        atoms.calc = None
    write(folder / "tensors.xyz", frames)
    return folder


def run(folder, model, files, *words):
    command = ["evaluate", str(folder / model)]
    command += [str(folder / file) for file in files]
    return main([*command, "--rotations", "0", *words])


@pytest.mark.parametrize(
    ("model", "words", "left_out", "where"),
    [
        ("energies.ckpt", [], "energy/scan, energy/r2", "`: "),
        ("energies.ckpt", ["--target", "energy/r2"], "energy, energy/scan", "`: "),
        ("energies.pt", [], "energy/scan, energy/r2", "` of the checkpoint: "),
    ],
)
def test_energies_that_are_not_compared_are_told(
    folder, capsys, model, words, left_out, where
):
    assert run(folder, model, ["all.xyz"], *words) == 0
    assert f"`--target NAME{where}{left_out}\n" in capsys.readouterr().out


def test_one_energy_is_no_news(folder, capsys):
    assert run(folder, "both.ckpt", ["other.xyz"]) == 0
    assert "--target NAME" not in capsys.readouterr().out


def test_frames_without_the_energy_are_left_out_and_counted(folder, tmp_path, capsys):
    """Of a further level: what is told is of the frames that have it, and their own."""
    path = tmp_path / "errors.json"
    words = ["--target", "energy/r2", "--errors", str(path)]
    assert run(folder, "energies.ckpt", ["all.xyz"], *words) == 0
    output = capsys.readouterr().out
    assert "energy: not compared in 3 of 6 frames, which have no `r2`" in output
    told = json.loads(path.read_text())
    assert told["without"] == {"energy": 3}
    assert run(folder, "energies.ckpt", ["r2.xyz"], *words) == 0
    assert "not compared" not in capsys.readouterr().out
    alone = json.loads(path.read_text())
    assert "without" not in alone
    assert told["overall"] == alone["overall"]
    assert "forces_mae" not in told["overall"]  # those of the frames are another's


def test_the_main_energy_may_be_missing_too(folder, caplog):
    result = petmad.evaluate(folder / "both.ckpt", folder / "mixed.xyz")
    alone = petmad.evaluate(folder / "both.ckpt", folder / "both.xyz")
    expected = {**alone.errors, "without": {"energy": 2}}
    assert json.dumps(result.errors) == json.dumps(expected)  # a slope is NaN
    assert len(result.predictions) == 4
    assert "energy: not compared in 2 of 6 frames" in caplog.text
    with pytest.raises(ValueError, match="has no `r3`, needed as energy; it has"):
        petmad.evaluate(
            folder / "both.ckpt", folder / "mixed.xyz", LabelKeys(energy="r3")
        )


@pytest.mark.parametrize("suffix", ["ckpt", "pt"])
def test_several_files_are_told_together_and_one_by_one(
    folder, tmp_path, capsys, suffix
):
    """Each as if it were evaluated alone; together as if they were one file."""
    path = tmp_path / "errors.json"
    found = {}
    frames = ase.io.read(folder / "all.xyz", ":")
    write(tmp_path / "one.xyz", frames + ase.io.read(folder / "other.xyz", ":"))
    for name, files in (
        ("several", ["all.xyz", "other.xyz"]),
        ("joined", [tmp_path / "one.xyz"]),
        ("all.xyz", ["all.xyz"]),
        ("other.xyz", ["other.xyz"]),
    ):
        assert run(folder, f"both.{suffix}", files, "--errors", str(path)) == 0
        found[name] = json.loads(path.read_text())
        if name == "several":
            output = capsys.readouterr().out
    for part in ("overall", "tensors"):
        assert found["several"][part] == pytest.approx(found["joined"][part])
    assert found["several"]["elements"] == found["joined"]["elements"]
    assert found["joined"]["files"] == {}
    assert "dipole: not compared in 3 of 9 frames" in output
    parts = found["several"]["files"]
    assert list(parts) == [str(folder / name) for name in ("all.xyz", "other.xyz")]
    for name in ("all.xyz", "other.xyz"):
        part = parts[str(folder / name)]
        tensors = part.pop("tensors")
        assert part == pytest.approx(found[name]["overall"])
        assert tensors == pytest.approx(found[name].get("tensors", {}))
        shown = f"file {folder / name}: MAE of energy {part['energy_mae']:.3f} forces"
        assert shown in output
        assert ("dipole_l1 " in output.partition(shown)[2].partition("\n")[0]) == (
            name == "all.xyz"
        )


def test_several_files_in_python(folder):
    files = [folder / "all.xyz", folder / "other.xyz"]
    result = petmad.evaluate(folder / "both.ckpt", files)
    assert len(result.structures) == 9
    for file in files:
        alone = petmad.evaluate(folder / "both.ckpt", file).errors["overall"]
        assert result.errors["files"][str(file)] == pytest.approx(alone)


def test_names_are_looked_for_in_all_files(folder, tmp_path, capsys):
    files = ["other.xyz", "all.xyz"]
    words = ["--energy-key", "r2", "--predictions", str(tmp_path / "a.xyz")]
    assert run(folder, "both.ckpt", files, *words) == 0
    assert "energy: not compared in 6 of 9 frames" in capsys.readouterr().out
    assert run(folder, "both.ckpt", files, "--energy-key", "r3") == 1
    assert "other.xyz, " in capsys.readouterr().err


def as_tensor(atoms, name, spec):
    """What a file has, flat: [rows, entries]."""
    return np.reshape(
        labels_of_frame(atoms)[name], (len(atoms) if spec.per_atom else 1, -1)
    )


@pytest.mark.parametrize("suffix", ["ckpt", "pt"])
@pytest.mark.parametrize(
    ("model", "file", "has_energies"),
    [("both", "mixed", True), ("both", "tensors", False), ("tensors", "all", False)],
)
def test_tensors_are_written_beside_energies(
    folder, tmp_path, model, file, has_energies, suffix
):
    """Against the calculator, and the labels; read back from the file."""
    paths = [tmp_path / "predictions.xyz", tmp_path / "report.html"]
    words = ["--predictions", str(paths[0]), "--report", str(paths[1])]
    assert run(folder, f"{model}.{suffix}", [f"{file}.xyz"], *words) == 0
    written = ase.io.read(paths[0], ":")
    frames = ase.io.read(folder / f"{file}.xyz", ":")
    if file != "all":
        del frames[2]  # without any label
    assert len(written) == len(frames)
    calculator = petmad.PETMADCalculator(folder / f"{model}.pt")
    for atoms, origin in zip(written, frames, strict=True):
        assert ("energy" in labels_of_frame(atoms)) == has_energies
        has_label = has_energies and "energy" in labels_of_frame(origin)
        assert ("reference_energy" in atoms.info) == has_label
        sums = calculator.get_property("tensors", origin)
        rows = calculator.get_property("atomic_tensors", origin)
        for spec in TENSORS:
            found = as_tensor(atoms, f"predicted_{spec.name}", spec)
            expected = (rows if spec.per_atom else sums)[spec.name]
            np.testing.assert_allclose(
                found, np.reshape(expected, found.shape), rtol=0, atol=2e-8
            )
            name = f"reference_{spec.name}"
            if spec.name in labels_of_frame(origin):
                label = as_tensor(origin, spec.name, spec)
                found = as_tensor(atoms, name, spec)
                np.testing.assert_allclose(found, label, rtol=0, atol=2e-8)
            else:
                assert name not in labels_of_frame(atoms)
    report = paths[1].read_text()
    assert ("parity of energies" in report) == has_energies
    for spec in TENSORS:
        assert f"<img alt='parity of {spec.name}' src='data:image/png" in report
    assert "dipole_l1" in report
    if file == "mixed":
        assert "2 frames have no energy to compare with" in report


def test_matrices_keep_their_rows(folder, tmp_path):
    """ASE turns nine numbers of ``info`` into a matrix by columns."""
    torch.manual_seed(1)
    spec = TargetSpec("nmr", "matrix")
    config = PETConfig(**MODEL)
    potential = checkpoint.make_potential(config, [29, 79], [spec], "float64")
    checkpoint.save(tmp_path / "nmr.ckpt", potential, {})
    export_model(potential, tmp_path / "nmr.pt", "float64")
    frames = alloys(2)
    for atoms in frames:
        atoms.calc = None
        atoms.info["nmr"] = np.arange(9.0).reshape(3, 3)
    file = write(tmp_path / "a.xyz", frames)
    path = str(tmp_path / "out.xyz")
    assert run(tmp_path, "nmr.ckpt", [file], "--predictions", path) == 0
    atoms = ase.io.read(path, 1)
    calculator = petmad.PETMADCalculator(tmp_path / "nmr.pt")
    expected = calculator.get_property("tensors", frames[1])["nmr"]
    assert np.abs(expected - expected.T).max() > 1e-6
    np.testing.assert_allclose(atoms.info["predicted_nmr"], expected, atol=2e-8)
    label = frames[1].info["nmr"]
    np.testing.assert_allclose(atoms.info["reference_nmr"], label, atol=1e-8)
