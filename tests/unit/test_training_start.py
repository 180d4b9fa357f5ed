"""Trainings that start from a model: what they inherit, and what they refuse."""

import json
import logging

import pytest
import torch
from toy_data import MODEL
from toy_data import options as toy_options

from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training import checkpoint
from petmad.training.options import parse_options
from petmad.training.start import complete, load_start
from petmad.training.trainer import train


def make_origin(numbers: list[int]) -> Potential:
    """An energy between other targets, with numbers of its own."""
    torch.manual_seed(11)
    targets = [
        TargetSpec("energy/pbe0"),
        TargetSpec("energy", has_uncertainty=True, n_members=2),
        TargetSpec("non_conservative_force", "force", 3, True, "eV/A"),
    ]
    config = PETConfig.from_dict({**MODEL, "zbl": True})
    origin = Potential(config, numbers, targets, [1.2] * len(numbers))
    with torch.no_grad():
        for i, (scale, composition) in enumerate(
            zip(origin.scales, origin.compositions, strict=True)
        ):
            scale.fill_(0.3 + i)
            composition.copy_(torch.randn_like(composition))
    return origin


@pytest.fixture
def values(tmp_path):
    """Options of a toy training that says nothing of the model."""
    values = toy_options(tmp_path, epochs=1)
    del values["model"]
    return values


@pytest.fixture(params=[".ckpt", ".pt"])
def origin(request, tmp_path, values):
    numbers = sorted({*range(13, 80)})
    model = make_origin(numbers)
    path = tmp_path / f"origin{request.param}"
    if request.param == ".ckpt":
        checkpoint.save(path, model, {"from": "a test"})
    else:
        export_model(model, path)
    values["training"]["start_from"] = str(path)
    return model


def test_inherited_to_the_last_bit(origin, values, caplog):
    caplog.set_level(logging.INFO)
    options = parse_options(values)
    start = load_start(options)
    state = origin.state_dict()
    for name, tensor in start.state_dict().items():
        for part in ("readouts", "scales", "compositions"):
            name = name.replace(f"{part}.0", f"{part}.1", 1)
        assert torch.equal(tensor, state[name]), name
    assert start.target_names == ["energy"]
    completed = complete(options, start)
    assert completed.model.cutoff == MODEL["cutoff"]
    assert completed.model.zbl
    assert completed.data.atomic_numbers == origin.atomic_numbers
    assert "energy/pbe0, non_conservative_force" in caplog.text
    assert "the uncertainty of" in caplog.text


def test_a_training_moves_on_from_there(origin, values):
    """The rate is tiny, so that the result is the start but for a little."""
    values["training"].update(learning_rate=1e-7, ema_decay=0.0)
    best, provenance = checkpoint.load_potential(train(parse_options(values)))
    start = load_start(parse_options(values))
    for name, tensor in start.state_dict().items():
        found = best.state_dict()[name]
        if name.startswith(("network.", "readouts.")):
            torch.testing.assert_close(found, tensor, rtol=0, atol=1e-4)
        else:
            assert torch.equal(found, tensor), name
    changed = [
        not torch.equal(found, start.state_dict()[name])
        for name, found in best.state_dict().items()
    ]
    assert sum(changed) > 20
    assert values["training"]["start_from"] in provenance["data_sha256"]


def test_options_that_contradict_the_model(origin, values):
    wrong = json.loads(json.dumps(values))
    wrong["model"] = {"cutoff": 3.25}
    message = r"`model.cutoff` is 3.25, but the model .* leave the `model` section out"
    with pytest.raises(ValueError, match=message):
        load_start(parse_options(wrong))
    wrong = json.loads(json.dumps(values))
    wrong["data"]["atomic_numbers"] = [1, 13]
    with pytest.raises(ValueError, match=r"names \[1, 13\].*new elements cannot"):
        load_start(parse_options(wrong))


def test_other_files_are_refused(tmp_path, values):
    model = Potential(PETConfig.from_dict(MODEL), [1, 8], [TargetSpec("dipole")])
    checkpoint.save(tmp_path / "a.ckpt", model, {})
    values["training"]["start_from"] = str(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"predicts \['dipole'\], but no 'energy'"):
        load_start(parse_options(values))
    values["training"]["start_from"] = str(tmp_path / "none.ckpt")
    with pytest.raises(ValueError, match="no such checkpoint"):
        load_start(parse_options(values))
