"""Exported files describe and prove themselves, and say what is wrong with them."""

import json
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from graphs import answer
from structures import Structure
from variants import ATOMIC_NUMBERS, make_potential

import petmad
from petmad._engine import Engine
from petmad.cli import main
from petmad.export import export_model, weights_hash
from petmad.model import Potential, TargetSpec
from petmad.model_file import read_metadata


PROVENANCE = {"data": {"file": "train.xyz", "sha256": "00ff"}, "seed": 7}


@pytest.fixture(scope="module")
def potential() -> Potential:
    return make_potential("adaptive_solver")


@pytest.fixture(scope="module")
def model_path(tmp_path_factory, potential):
    path = tmp_path_factory.mktemp("export") / "water.pt"
    export_model(potential, path, "float64", training=PROVENANCE)
    return path


def resave(source, target, change) -> None:
    """Load a file, apply ``change(module, metadata)`` and write it elsewhere."""
    extra = {"metadata.json": ""}
    module = torch.jit.load(str(source), _extra_files=extra)
    metadata = json.loads(extra["metadata.json"])
    change(module, metadata)
    extra = {"metadata.json": json.dumps(metadata)}
    torch.jit.save(module, str(target), _extra_files=extra)


# What a file says.


def test_file_names_no_folders(model_path):
    """Sources of the exporting machine would lie in the archive as debug records."""
    folder = str(pathlib.Path(petmad.__file__).parent).encode()
    with zipfile.ZipFile(model_path) as archive:
        for name in archive.namelist():
            assert folder not in archive.read(name), name


def test_metadata(model_path, potential):
    metadata = read_metadata(model_path)
    expected = {
        "format_version": 3,
        "name": "water",
        "architecture": "PET",
        "atomic_numbers": ATOMIC_NUMBERS,
        "cutoff": 5.0,
        "is_adaptive": True,
        "reach_hops": 3,
        "reach": 20.0,
        "length_unit": "angstrom",
        "energy_unit": "eV",
        "dtype": "float64",
        "training": PROVENANCE,
        "hypers": potential.config.to_dict(),
        "torch_version": torch.__version__,
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["targets"] == [TargetSpec().to_dict()]
    assert re.fullmatch("[0-9a-f]{64}", metadata["weights_hash"])
    assert [golden["n_atoms"] for golden in metadata["golden"]] == [6, 5, 7]
    network = sum(p.numel() for p in potential.network.parameters())
    assert metadata["n_parameters"] > network


def test_attributes_equal_the_metadata(model_path):
    """C++ reads the attributes, ``petmad info`` the JSON."""
    module, metadata = torch.jit.load(str(model_path)), read_metadata(model_path)
    assert json.loads(module.metadata_json) == metadata
    for name in ("format_version", "name", "weights_hash", "dtype", "atomic_numbers"):
        assert getattr(module, name) == metadata[name]
    for name in ("cutoff", "is_adaptive", "reach_hops", "reach"):
        assert getattr(module, name) == metadata[name]
    assert module.targets == ["energy"]
    assert module.is_conditioned is False
    assert module.petmad_model == 1


def test_golden_structures_are_the_models_own_answers(model_path, potential):
    """By the slow edge list: an isolated cluster, a crystal and a slab."""
    module = torch.jit.load(str(model_path))
    assert [g["pbc"].tolist() for g in module.golden] == [
        [False, False, False],
        [True, True, True],
        [True, True, False],
    ]
    for golden in module.golden:
        numbers = np.array(ATOMIC_NUMBERS)[golden["species"].numpy()]
        cell, pbc = golden["cell"].numpy(), golden["pbc"].numpy()
        structure = Structure(numbers, golden["positions"].numpy(), cell, pbc)
        expected = answer(potential, structure)
        strain = expected.strain_gradients[0]
        virial = -0.5 * (strain + strain.T)
        close = {"rtol": 0, "atol": 1e-11}
        np.testing.assert_allclose(golden["energy"], expected.energy[0], **close)
        np.testing.assert_allclose(golden["forces"], expected.forces, **close)
        np.testing.assert_allclose(golden["virial"], virial, **close)
        energies = golden["atomic_energies"]
        np.testing.assert_allclose(energies, expected.atomic_energies, **close)
        assert np.abs(expected.forces).max() > 1e-3


def test_export_leaves_the_model_alone(tmp_path):
    model = make_potential("modern")
    before = weights_hash(model)
    export_model(model, tmp_path / "model.pt", "float32")
    assert weights_hash(model) == before
    assert all(p.requires_grad for p in model.network.parameters())
    assert type(model.network.halo).__name__ == "LocalHalo"


def test_hash_follows_the_weights(tmp_path):
    model = make_potential("modern")
    first = export_model(model, tmp_path / "a.pt")["weights_hash"]
    assert export_model(model, tmp_path / "b.pt")["weights_hash"] == first
    with torch.no_grad():
        model.readouts[0].node_last[0].bias.add_(1e-3)
    assert export_model(model, tmp_path / "c.pt")["weights_hash"] != first


def test_failed_export_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def out_of_space(*arguments, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch.jit, "save", out_of_space)
    with pytest.raises(OSError, match="no space left"):
        export_model(make_potential("modern"), path)
    assert path.read_bytes() == b"old"


def test_export_refuses_what_it_cannot_write(tmp_path, potential):
    with pytest.raises(ValueError, match="one of float32, float64, got 'float16'"):
        export_model(potential, tmp_path / "model.pt", "float16")
    other = Potential(potential.config, [1], [TargetSpec("charge", "generic")])
    with pytest.raises(
        ValueError, match=r"needs a target named 'energy' or a tensor.*\['charge'\]"
    ):
        export_model(other, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


# Files that are not what they should be. The engine's own messages: test_engine.py.


def test_places_where_no_file_can_be(potential, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="is a folder; name the file to write"):
        export_model(potential, tmp_path)
    with pytest.raises(ValueError, match=r"make the folder .*absent first"):
        export_model(potential, tmp_path / "absent" / "model.pt")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ValueError, match="does not admit it; write elsewhere"):
        export_model(potential, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_none_are_not_written(tmp_path):
    bad = make_potential("modern")
    names = [name for name, _ in bad.network.named_parameters()]
    with torch.no_grad():
        for k in (3, 1):
            bad.network.get_parameter(names[k]).view(-1)[0] = float("nan")
    message = rf"weights are not finite: 'network\.{re.escape(names[1])}' has 1 of"
    with pytest.raises(ValueError, match=message):
        export_model(bad, tmp_path / "model.pt")
    large = make_potential("modern")
    with torch.no_grad():
        large.scales[0].fill_(1e300)
        large.readouts[0].requires_grad_(False)
        for parameter in large.readouts[0].parameters():
            parameter.mul_(1e10)
    with pytest.raises(ValueError, match="answers for a golden structure are not fin"):
        export_model(large, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_missing_file_is_named_in_full(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "no.pt"))):
        read_metadata(tmp_path / "no.pt")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file(model_path, tmp_path, kept):
    data = model_path.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match="may be damaged or truncated: give a file"):
        read_metadata(path)


def test_file_of_something_else(tmp_path):
    text, archive = tmp_path / "model.txt", tmp_path / "other.zip"
    text.write_text("cutoff: 5.0\n" * 100)
    with pytest.raises(ValueError, match="is not a readable model file"):
        read_metadata(text)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match="an archive but not a petmad model"):
        read_metadata(archive)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(archive))
    with pytest.raises(ValueError, match="an archive but not a petmad model"):
        read_metadata(archive)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"name": "water"}'])
def test_damaged_description(tmp_path, text):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/extra/metadata.json", text)
    with pytest.raises(ValueError, match="description is damaged; export it again"):
        read_metadata(path)


def test_newer_format(model_path, tmp_path):
    def renew(module, metadata):
        metadata["format_version"] = 99

    path = tmp_path / "new.pt"
    resave(model_path, path, renew)
    message = "has format version 99, this petmad .* reads up to 3; install a newer"
    with pytest.raises(ValueError, match=message):
        read_metadata(path)


# The self test catches whatever changes the numbers.


def change_energy(module, metadata):
    module.golden[0]["energy"].add_(1e-6)


def change_force(module, metadata):
    module.golden[1]["forces"][0, 2] += 1e-6


def change_virial(module, metadata):
    module.golden[2]["virial"][1, 1] += 1e-6


def change_to_nan(module, metadata):
    module.golden[0]["atomic_energies"][0] = float("nan")


def change_weight(module, metadata):
    with torch.no_grad():
        dict(module.named_parameters())["potential.scales.0"].mul_(1 + 1e-7)


def change_composition(module, metadata):
    with torch.no_grad():
        dict(module.named_parameters())["potential.compositions.0"].add_(1e-6)


@pytest.mark.parametrize(
    "change",
    [
        change_energy,
        change_force,
        change_virial,
        change_to_nan,
        change_weight,
        change_composition,
    ],
)
def test_tampering_is_detected(model_path, tmp_path, change):
    path = tmp_path / "tampered.pt"
    resave(model_path, path, change)
    with pytest.raises(ValueError, match=r"self test of .* failed: its 3 golden"):
        Engine(str(path))
    Engine(str(path), check_golden=False)  # only the check was in the way


def test_a_file_without_golden_structures_proves_nothing(model_path, tmp_path):
    def forget(module, metadata):
        module.golden = torch.jit.annotate(list[dict[str, torch.Tensor]], [])

    path = tmp_path / "unproven.pt"
    resave(model_path, path, forget)
    with pytest.raises(ValueError, match="golden structures"):
        Engine(str(path))


def test_changed_weights_never_pass(model_path, tmp_path):
    """In the exponent of a number in the middle of each of the ten largest tensors.

    The archive is in order, so that the file's own structures must find it.
    """
    path = tmp_path / "changed.pt"
    with zipfile.ZipFile(model_path) as archive:
        contents = {i.filename: archive.read(i) for i in archive.infolist()}
    tensors = [name for name in contents if re.search(r"/data/\d+$", name)]
    tensors = sorted(tensors, key=lambda name: -len(contents[name]))[:10]
    assert len(contents[tensors[-1]]) > 1000
    for tensor in tensors:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                changed = bytearray(content)
                if name == tensor:
                    changed[len(content) // 16 * 8 + 7] ^= 0x03
                archive.writestr(name, bytes(changed))
        with pytest.raises(ValueError, match=r"self test|cannot load|not finite"):
            Engine(str(path))


# petmad info.


def test_info_prints_everything(model_path, capsys):
    assert main(["info", str(model_path)]) == 0
    printed = capsys.readouterr().out
    metadata = read_metadata(model_path)
    for text in ("water", "float64", metadata["weights_hash"], "train.xyz", "20.0"):
        assert text in printed
    for name in [*metadata, *metadata["hypers"]]:
        assert f"{name}:" in printed


def test_info_checks(model_path, capsys):
    assert main(["info", "--check", str(model_path)]) == 0
    printed = capsys.readouterr().out
    deviation = float(re.search(r"largest deviation (\S+)", printed)[1])
    assert 0 <= deviation < 1e-10
    needs = [float(b) for b in re.findall(r"\+ (\S+) per kept neighbor", printed)]
    assert needs[0] > needs[1] > needs[2] > 0


def test_info_needs_no_torch(model_path):
    program = (
        "import sys; from petmad.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    arguments = [sys.executable, "-c", program, "info", str(model_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "weights_hash" in done.stdout


def test_info_ends_in_one_message(tmp_path, capsys):
    assert main(["info", str(tmp_path / "missing.pt")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("petmad: error: no model file at ")
    assert len(printed.err.splitlines()) == 1
