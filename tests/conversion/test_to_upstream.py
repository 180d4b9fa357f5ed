"""Models of petmad in upstream's layout: both readers take them back."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from goldens import assert_close, golden, golden_model, golden_structures, meta
from resources import REPOSITORY
from test_contents import with_uncertainty
from test_versions import check_same, make_model
from variants import TINY, VARIANTS

from petmad.cli import main
from petmad.conversion.convert import convert
from petmad.conversion.tensormap import read_map, write_map
from petmad.export import export_model
from petmad.training.checkpoint import load_any, save


def written(potential, folder, suffix=".ckpt"):
    """The model in upstream's layout, by way of a file of ours."""
    ours, theirs = folder / f"ours{suffix}", folder / "theirs.ckpt"
    if suffix == ".ckpt":
        save(ours, potential, {})
    else:
        export_model(potential, ours, "float64")
    command = ["convert", "--to", "metatrain", str(ours), "-o", str(theirs)]
    assert main(command) == 0
    return theirs


@pytest.mark.parametrize("variant", ["classic", "conditioned", "heads", "llpr", "zbl"])
def test_round_trip(tmp_path, variant, capsys):
    model = golden_model(variant)
    converted, report = convert(written(model, tmp_path))
    check_same(converted, model)
    assert converted.targets == model.targets
    assert report.version == 16
    assert f"targets {', '.join(model.target_names)}" in capsys.readouterr().out


@pytest.mark.parametrize("values", [TINY, {**TINY, "zbl": True}])
def test_round_trip_in_float32_through_an_exported_file(tmp_path, values):
    model = with_uncertainty(values)
    model.targets[2].name = model.target_names[2] = "non_conservative_force"
    exported = tmp_path / "a.pt"
    export_model(model, exported)
    again, _ = load_any(exported)
    check_same(again, model)
    theirs = tmp_path / "theirs.ckpt"
    command = ["convert", "--to", "metatrain", str(exported), "-o", str(theirs)]
    assert main(command) == 0
    check_same(convert(theirs)[0], model)


STRESS = "non_conservative_stress"


@pytest.mark.parametrize(
    ("shape", "names", "components", "prop", "length"),
    [
        ((4, 1), ("center_type",), [], "energy", 1114),
        ((4, 5), ("center_type",), [], "dos", 1258),
        ((1, 1), ("atomic_type",), [], "energy", 1078),
        ((4, 1), ("atomic_type",), [], "non_conservative_force", 1114),
        ((0, 1), ("system",), [], "energy", 1066),
        ((0, 3, 1), ("system", "atom"), ["xyz"], "non_conservative_force", 1352),
        (
            (0, 3, 3, 1),
            ("system",),
            ["xyz_1", "xyz_2"],
            "non_conservative_stress",
            1638,
        ),
    ],
)
def test_maps_are_as_long_as_upstreams(shape, names, components, prop, length):
    """Upstream loads a buffer into one of its own, of metatensor's length."""
    rows = np.zeros((shape[0], len(names)))
    values = np.random.default_rng(0).normal(size=shape)
    written = write_map(values, (names, rows), components, prop)
    assert len(written) == length
    (block,) = read_map(written)
    assert block.sample_names == names
    np.testing.assert_array_equal(block.values, values)


def test_what_has_no_place_upstream(tmp_path, capsys):
    model = make_model(TINY)
    model.scales[0][0] *= 2
    save(tmp_path / "a.ckpt", model, {})
    command = ["convert", "--to", "metatrain", str(tmp_path / "a.ckpt"), "-o"]
    assert main([*command, str(tmp_path / "b.ckpt")]) == 1
    assert "'energy' has scales that differ between elements" in capsys.readouterr().err
    model = make_model(TINY)
    model.scales[2][:, 0] *= 2
    save(tmp_path / "a.ckpt", model, {})
    assert main([*command, str(tmp_path / "b.ckpt")]) == 1
    assert "scales that differ between components" in capsys.readouterr().err
    model = make_model(TINY)
    model.compositions[2].fill_(1.0)
    save(tmp_path / "a.ckpt", model, {})
    assert main([*command, str(tmp_path / "b.ckpt")]) == 1
    assert "has a composition, which metatrain's" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "b.pt")]) == 1
    assert "does not end in `.ckpt`" in capsys.readouterr().err
    assert not (tmp_path / "b.ckpt").exists()


EVALUATE = """
import sys, numpy as np
from make_golden import evaluate, evaluate_uncertainty, load_model, AUXILIARY, TARGETS
from petmad.model import TargetSpec
from structures import Structure
import torch
path, variant, output = sys.argv[1:]
from goldens import golden_structures
exported = load_model(path).to(torch.float64).export()
targets = TARGETS.get(variant, [TargetSpec()])
numbers = {}
for key, (structure, _) in golden_structures(variant).items():
    found = evaluate(exported, structure, targets, [])
    if variant == "llpr":
        found.update(evaluate_uncertainty(exported, structure))
    numbers.update({f"{key}/{name}": value for name, value in found.items()})
np.savez(output, **numbers)
"""


@pytest.mark.oracle
@pytest.mark.parametrize("variant", VARIANTS)
def test_upstream_gives_the_same_numbers(tmp_path, variant):
    """Upstream (by PETMAD_ORACLE_PYTHON) loads what we wrote and agrees to 1e-10."""
    assert meta(variant)["tools"]["metatrain"] == "2026.4.1"
    assert len(golden(variant)) > 0
    theirs = written(golden_model(variant), tmp_path)
    python = os.environ.get("PETMAD_ORACLE_PYTHON", sys.executable)
    folders = [str(REPOSITORY / "python"), str(REPOSITORY / "tests")]
    path = os.pathsep.join([*folders, os.environ.get("PYTHONPATH", "")])
    output = tmp_path / "numbers.npz"
    subprocess.run(
        [python, "-c", EVALUATE, theirs, variant, output],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    with np.load(output) as numbers:
        assert len(numbers.files) > 20
        for name in numbers.files:
            key, quantity = name.split("/", maxsplit=1)
            wanted = golden_structures(variant)[key][1][quantity]
            assert_close(numbers[name], wanted, name)


def test_dtype_can_be_chosen(tmp_path):
    save(tmp_path / "a.ckpt", make_model(TINY), {})
    theirs = str(tmp_path / "b.ckpt")
    command = ["convert", "--to", "metatrain", str(tmp_path / "a.ckpt"), "-o", theirs]
    assert main([*command, "--dtype", "float64"]) == 0
    converted, report = convert(theirs)
    assert report.dtype == "float64"
    assert next(converted.network.parameters()).dtype == torch.float64
