"""``petmad convert --check`` against upstream's numbers of the goldens."""

import json

import ase
import ase.io
import numpy as np
import pytest
from goldens import golden_model, golden_structures
from test_versions import make_model
from upstream_files import newest, save, wrapped
from variants import ATOMIC_NUMBERS, TINY

from petmad import PETMADCalculator
from petmad.cli import main


UPSTREAM = {"total/energy_uncertainty", "total/energy_ensemble"}
"""Numbers of whole structures, which a golden keeps apart from those of atoms."""


def reference(variant: str) -> tuple[list[ase.Atoms], list[dict]]:
    """Structures and upstream's numbers, all names that it has."""
    frames, numbers = [], []
    for structure, theirs in golden_structures(variant).values():
        frames.append(
            ase.Atoms(
                structure.numbers,
                structure.positions,
                cell=structure.cell,
                pbc=structure.pbc,
            )
        )
        values = {
            key.removeprefix("total/"): value.tolist()
            for key, value in theirs.items()
            if key in UPSTREAM or f"total/{key}" not in theirs
        }
        strain_gradient = np.array(values.pop("strain_gradient"))
        if structure.pbc.all():
            values["stress"] = (strain_gradient / structure.volume).tolist()
        numbers.append(values)
    return frames, numbers


@pytest.fixture(params=["heads", "llpr"])
def case(request, tmp_path, monkeypatch):
    """Checkpoint, structures and numbers as files in the working directory."""
    monkeypatch.chdir(tmp_path)
    model = golden_model(request.param)
    checkpoint = newest(model)
    if request.param == "llpr":
        checkpoint = wrapped(model, 4, checkpoint)
    save(checkpoint, "a.ckpt")
    frames, numbers = reference(request.param)
    ase.io.write("a.traj", frames)  # all digits, which extended XYZ has not
    (tmp_path / "a.json").write_text(json.dumps(numbers))
    return request.param, numbers


def test_upstreams_numbers_pass(case, capsys):
    command = ["convert", "a.ckpt", "-o", "a.pt", "--dtype", "float64"]
    assert main([*command, "--check", "a.traj", "a.json"]) == 0
    printed = capsys.readouterr().out
    names = {
        "heads": ["energy/pbe0", "non_conservative_forces", "non_conservative_stress"],
        "llpr": ["energy_uncertainty", "energy_ensemble"],
    }[case[0]]
    for name in ("energy", "energies", "forces", "stress", *names):
        assert f"\n{name} " in printed
    assert "all within 1e-09" in printed


def test_other_numbers_fail(case, capsys, tmp_path):
    numbers = case[1]
    numbers[1]["forces"][0][2] += 1e-3
    (tmp_path / "b.json").write_text(
        json.dumps({"structures": dict(enumerate(numbers))})
    )
    command = ["convert", "a.ckpt", "-o", "a.pt", "--dtype", "float64", "--check"]
    assert main([*command, "a.traj", "b.json"]) == 1
    assert (
        "differs from the reference in forces (1.000e-03 of" in capsys.readouterr().err
    )
    assert not list(tmp_path.glob("*.pt*"))  # nor one under another name
    assert main([*command, "a.traj", "a.json", "--tolerance", "0"]) == 1
    assert "more than 0 relative" in capsys.readouterr().err
    assert main([*command, "a.traj", "b.json", "--tolerance", "0.01"]) == 0
    before = (tmp_path / "a.pt").read_bytes()
    numbers[1]["forces"][0][2] = float("nan")
    (tmp_path / "b.json").write_text(json.dumps(numbers))
    assert main([*command, "a.traj", "b.json", "--tolerance", "0.01"]) == 1
    assert (tmp_path / "a.pt").read_bytes() == before


def test_files_that_do_not_fit(case, capsys, tmp_path):
    command = ["convert", "a.ckpt", "-o", "a.pt", "--check", "a.traj"]
    for content, message in (
        (case[1][:2], "a.traj has 7 structures, b.json has 2"),
        ([{"energy": None}] * 7, "there is nothing to compare"),
        ([{"forcse": 1.0}] * 7, "has 'forcse' in structure 0, which this model does"),
        ([1.0], "must hold one mapping per structure"),
        ([{"forces": [1.0]}] * 7, "`forces` of structure 0 must have shape [2, 3]"),
    ):
        (tmp_path / "b.json").write_text(json.dumps(content))
        assert main([*command, "b.json"]) == 1
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob("*.pt"))
    assert main([*command, "none.json"]) == 1
    assert "cannot read reference numbers from none.json" in capsys.readouterr().err
    assert main(["convert", "a.ckpt", "-o", "b.ckpt", "--check", "a", "b"]) == 1
    assert "`--check` evaluates a model file" in capsys.readouterr().err


def test_energies_are_not_hidden_by_compositions(tmp_path, monkeypatch, capsys):
    """1 eV of two atoms with -10000 eV each, beside a structure of a thousand."""
    monkeypatch.chdir(tmp_path)
    model = make_model(TINY)
    model.compositions[0].data.fill_(-1e4)
    save(newest(model), "a.ckpt")
    command = ["convert", "a.ckpt", "-o", "a.pt", "--dtype", "float32"]
    assert main(command) == 0
    number = ATOMIC_NUMBERS[0]
    cube = np.stack(np.meshgrid(*[3.0 * np.arange(10)] * 3), axis=-1).reshape(-1, 3)
    frames = [
        ase.Atoms([number] * 2, [[0, 0, 0], [0, 0, 2]]),
        ase.Atoms([number] * 1000, cube),
    ]
    ase.io.write("a.traj", frames)
    calculator = PETMADCalculator("a.pt")
    numbers = [{"energy": calculator.get_potential_energy(atoms)} for atoms in frames]
    command += ["--check", "a.traj", "a.json"]
    for wrong, status in ((0.0, 0), (1.0, 1)):
        numbers[0]["energy"] += wrong
        (tmp_path / "a.json").write_text(json.dumps(numbers))
        assert main(command) == status
    assert "in energy (1.000e+00 of 2001.9)" in capsys.readouterr().err


def test_options_without_effect_are_refused(tmp_path, monkeypatch, capsys):
    """Before anything is read: there are no files here."""
    monkeypatch.chdir(tmp_path)
    ours = ["convert", "a.ckpt"]
    theirs = ["convert", "a.ckpt", "--to", "metatrain", "-o", "b.ckpt"]
    for command, message in (
        ([*theirs, "--target", "energy"], "--target: of no effect with `--to metatr"),
        ([*theirs, "--keep"], "--keep: of no effect"),
        ([*theirs, "--check", "a", "b", "--tolerance", "0"], "--check, --tolerance: o"),
        ([*theirs, "--revision", "v1"], "--revision: of no effect"),
        ([*ours, "--revision", "v1"], "`--revision` is of a published name, but a.ck"),
        ([*ours, "--tolerance", "0.1"], "`--tolerance` is that of `--check`"),
        ([*ours, "-o", "b.ckpt", "--name", "x"], "`--name` is not kept in a checkpoi"),
        ([*ours, "-o", "b.pt2"], "b.pt2 is called as a file of `petmad export --aoti"),
        (["convert", "a.ckpt", "--to", "metatrain"], "with `-o theirs.ckpt`"),
    ):
        assert main(command) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*ours, "--check", "a", "b", "--tolerance", "-1"])
    assert "must be a number, 0 or more, got -1" in capsys.readouterr().err
