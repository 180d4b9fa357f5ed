"""The export by AOTInductor against the plain network, and its errors."""

import json

import ase
import pytest
import torch
from toy_data import MODEL, alloys, write

from petmad.aoti import AheadModel, export_ahead
from petmad.cli import main
from petmad.data.structures import LabelKeys, to_structure
from petmad.export import export_model
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.evaluation import evaluate, load_predictor


NUMBERS = [29, 79]


def potential_of(targets=None, **hypers):
    torch.manual_seed(0)
    config = PETConfig(**{**MODEL, "num_gnn_layers": 2, **hypers})
    model = checkpoint.make_potential(
        config, NUMBERS, targets or [TargetSpec()], "float64"
    )
    for scales, compositions in zip(model.scales, model.compositions, strict=True):
        scales.data.fill_(0.25)
        compositions.data.copy_(torch.linspace(1, 2, 2)[:, None])
    return model


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint and what the command line makes of it."""
    folder = tmp_path_factory.mktemp("aoti")
    checkpoint.save(folder / "best.ckpt", potential_of(), {})
    ahead = folder / "model.pt2"
    command = ["export", str(folder / "best.ckpt"), "--aoti", "--dtype", "float64"]
    assert main([*command, "-o", str(ahead)]) == 0
    assert [file.name for file in folder.glob("*.pt2")] == ["model.pt2"]
    return folder / "best.ckpt", ahead


def test_other_sizes_give_the_numbers_of_the_plain_network(files):
    """Energies, forces and stress, of sizes that it was not made with."""
    frames = [alloys(1)[0], alloys(1)[0].repeat((2, 1, 2)), alloys(3)[2].repeat(2)]
    plain, ahead = (load_predictor(file) for file in files)
    assert ahead.atomic_numbers == plain.atomic_numbers
    for atoms in frames:
        structure = to_structure(atoms, "toy", LabelKeys(energy=None))
        expected = plain.predict(structure).labels
        for value, other in zip(ahead.predict(structure).labels, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-11)
        assert float(expected.forces.abs().max()) > 1e-3


def test_evaluate_reads_it(files, tmp_path, capsys):
    test = write(tmp_path / "test.xyz", alloys(3))
    plain, ahead = (evaluate(load_predictor(file), test) for file in files)
    assert ahead == pytest.approx(plain, rel=1e-9)
    tables = []
    for file in files:
        assert main(["evaluate", str(file), test]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_a_file_that_gives_other_numbers_is_refused(files, monkeypatch):
    read = json.loads

    def changed(text):
        metadata = read(text)
        metadata["golden"][0]["energy"] += 1e-3
        return metadata

    monkeypatch.setattr("petmad.aoti.json.loads", changed)
    with pytest.raises(ValueError, match="energy of a stored system of 6 atoms is off"):
        AheadModel(files[1])


def test_sizes_without_code_are_refused(files):
    """One atom, two that do not see each other; two that do are evaluated."""
    plain, ahead = (load_predictor(file) for file in files)
    for distance, is_refused in ((None, True), (9.0, True), (2.4, False)):
        atoms = ase.Atoms("Cu") if distance is None else ase.Atoms("CuAu")
        atoms.positions[-1, 0] = distance or 0.0
        structure = to_structure(atoms, "toy", LabelKeys(energy=None))
        if is_refused:
            with pytest.raises(ValueError, match="2 or more atoms and kept edges, got"):
                ahead.predict(structure)
            continue
        found, expected = (one.predict(structure).labels for one in (ahead, plain))
        torch.testing.assert_close(found.energies, expected.energies)
        torch.testing.assert_close(found.forces, expected.forces)
        assert float(expected.forces.abs().max()) > 0


def test_a_name_is_not_dropped_in_silence(files, tmp_path, capsys):
    command = ["export", str(files[0]), "--aoti", "--name", "copper"]
    assert main([*command, "-o", str(tmp_path / "model.pt2")]) == 1
    assert "`--name` is not kept" in capsys.readouterr().err


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="must be called"):
        export_ahead(potential_of(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        export_ahead(potential_of(), tmp_path / "model.pt2", "half")
    with pytest.raises(ValueError, match="has ZBL"):
        export_ahead(potential_of(zbl=True), tmp_path / "model.pt2")
    dipole = [TargetSpec("dipole", "vector")]
    with pytest.raises(ValueError, match="has no energy"):
        export_ahead(potential_of(dipole), tmp_path / "model.pt2")
    other = tmp_path / "other.pt2"
    other.write_text("nothing")
    with pytest.raises(ValueError, match="is no file of `petmad export --aoti`"):
        AheadModel(other)
    export_model(potential_of(), tmp_path / "plain.pt")
    (tmp_path / "plain.pt").rename(other)
    with pytest.raises(ValueError, match="is no file of `petmad export") as error:
        AheadModel(other)
    assert len(str(error.value)) < 500
