"""``petmad convert --check`` against upstream's numbers of the goldens."""

import json

import ase
import ase.io
import pytest
from goldens import golden_model, golden_structures
from upstream_files import newest, save, wrapped

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
        if structure.pbc.all():
            values["stress"] = (theirs["strain_gradient"] / structure.volume).tolist()
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
    assert main([*command, "a.traj", "b.json", "--tolerance", "0.01"]) == 0
    numbers[1]["forces"][0][2] = float("nan")
    (tmp_path / "b.json").write_text(json.dumps(numbers))
    assert main([*command, "a.traj", "b.json", "--tolerance", "0.01"]) == 1


def test_files_that_do_not_fit(case, capsys, tmp_path):
    command = ["convert", "a.ckpt", "-o", "a.pt", "--check", "a.traj"]
    for content, message in (
        (case[1][:2], "a.traj has 7 structures, b.json has 2"),
        ([{"dipole": 1.0}] * 7, "there is nothing to compare"),
        ([1.0], "must hold one mapping per structure"),
        ([{"forces": [1.0]}] * 7, "`forces` of structure 0 must have shape [2, 3]"),
    ):
        (tmp_path / "b.json").write_text(json.dumps(content))
        assert main([*command, "b.json"]) == 1
        assert message in capsys.readouterr().err
    assert main([*command, "none.json"]) == 1
    assert "cannot read reference numbers from none.json" in capsys.readouterr().err
    assert main(["convert", "a.ckpt", "-o", "b.ckpt", "--check", "a", "b"]) == 1
    assert "`--check` evaluates a model file" in capsys.readouterr().err
