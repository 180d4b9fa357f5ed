"""Trainings that start from a model: what they inherit, and what they refuse."""

import json
import logging

import numpy as np
import pytest
import torch
import upstream_files
from toy_data import MODEL, alloys, write
from toy_data import options as toy_options

from petmad.cli import main
from petmad.data import collate, make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training import checkpoint
from petmad.training.module import TrainingModule
from petmad.training.options import parse_options
from petmad.training.start import complete, load_start
from petmad.training.tensors import tensor_targets
from petmad.training.trained import select_parameters, trained_energies
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
    assert start.new_targets == []
    completed = complete(options, start)
    start = start.potential
    state = origin.state_dict()
    for name, tensor in start.state_dict().items():
        for part in ("readouts", "scales", "compositions"):
            name = name.replace(f"{part}.0", f"{part}.1", 1)
        assert torch.equal(tensor, state[name]), name
    assert start.target_names == ["energy"]
    assert completed.model.cutoff == MODEL["cutoff"]
    assert completed.model.zbl
    assert completed.data.atomic_numbers == origin.atomic_numbers
    assert "energy/pbe0, non_conservative_force" in caplog.text
    assert "the uncertainty of" in caplog.text


def test_a_training_moves_on_from_there(origin, values):
    """The rate is tiny, so that the result is the start but for a little."""
    values["training"].update(learning_rate=1e-7, ema_decay=0.0)
    best, provenance = checkpoint.load_potential(train(parse_options(values)))
    start = load_start(parse_options(values)).potential
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
    with pytest.raises(
        ValueError, match=r"names \[1, 13\].*add new elements with `finetune.new"
    ):
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


DIPOLE = {"kind": "vector", "unit": "eÅ"}


def with_dipoles(n_frames, seed):
    """Alloys with a vector that a local model can learn."""
    frames = alloys(n_frames, seed)
    for atoms in frames:
        charges = np.where(atoms.numbers == 29, 0.1, -0.1)
        centered = atoms.positions - atoms.positions.mean(0)
        atoms.info["dipole"] = charges @ centered
    return frames


@pytest.fixture
def tensor_values(tmp_path, values):
    """Options that train a dipole on a kept network."""
    for part, seed in (("train", 1), ("valid", 2)):
        values["data"][part] = write(tmp_path / f"{part}.xyz", with_dipoles(6, seed))
    values["data"]["energy_key"] = None
    values["targets"] = {"dipole": dict(DIPOLE)}
    values["training"]["parameters"] = "heads"
    return values


@pytest.mark.parametrize(
    ("origin", "readout"),
    [(".ckpt", "edge"), (".pt", "node"), (".ckpt", "exact"), (".ckpt", "direct")],
    indirect=["origin"],
)
def test_heads_alone_leave_the_rest_to_the_last_bit(origin, tensor_values, readout):
    """A new dipole is learned; energies and all else of the file stay as they are."""
    tensor_values["targets"]["dipole"]["readout"] = readout
    tensor_values["training"].update(epochs=2, learning_rate=1e-3, ema_decay=0.9)
    options = parse_options(tensor_values)
    start = load_start(options).potential
    best, _ = checkpoint.load_potential(train(options))
    assert best.target_names == [*origin.target_names, "dipole"]
    before, after = origin.state_dict(), best.state_dict()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    learned = [name for name in after if name.startswith("readouts.3.")]
    initial = start.state_dict()
    assert any(not torch.equal(after[name], initial[name]) for name in learned)
    frame = with_dipoles(1, seed=3)[0]
    graph = one_graph(frame, best)
    outputs = ["energy", "energy_uncertainty", "non_conservative_force"]
    for name in outputs:
        found = best(graph, outputs)[name]
        assert torch.equal(found, origin(graph, outputs)[name]), name
    assert best(graph, ["dipole"])["dipole"].any()


@pytest.mark.parametrize("parameters", ["heads", "all"])
def test_a_dipole_on_a_model_of_upstream(tmp_path, tensor_values, parameters):
    """A converted checkpoint, its network kept or trained on."""
    model = Potential(PETConfig.from_dict(MODEL), [29, 79]).to_dtype(torch.float32)
    upstream_files.save(upstream_files.newest(model), tmp_path / "upstream.ckpt")
    start = str(tmp_path / "start.ckpt")
    assert main(["convert", str(tmp_path / "upstream.ckpt"), "-o", start]) == 0
    tensor_values["training"].update(
        start_from=start, parameters=parameters, epochs=1, learning_rate=1e-3
    )
    best, _ = checkpoint.load_potential(train(parse_options(tensor_values)))
    names = ["energy", "dipole"] if parameters == "heads" else ["dipole"]
    assert best.target_names == names
    same = [
        torch.equal(tensor, model.network.state_dict()[name])
        for name, tensor in best.network.state_dict().items()
    ]
    assert all(same) if parameters == "heads" else not any(same[:5])
    assert float(best.scales[-1][0, 0]) != 1.0


def one_graph(atoms, potential):
    structure = to_structure(atoms, "toy, frame 0", LabelKeys())
    sample = make_sample(structure, potential.atomic_numbers, potential.config.cutoff)
    return collate([sample]).graph


@pytest.mark.parametrize("origin", [".ckpt"], indirect=True)
def test_kept_parameters_cost_neither_gradient_nor_optimizer(origin, tensor_values):
    options = parse_options(tensor_values)
    start = load_start(options)
    potential = start.potential
    select_parameters(potential, options)
    module = TrainingModule(
        potential,
        options.training,
        1,
        tensor_targets(options),
        trained_energies(options),
    )
    (group,) = module.configure_optimizers().param_groups
    heads = list(
        potential.readouts[potential.target_names.index("dipole")].parameters()
    )
    assert {id(p) for p in group["params"]} == {id(p) for p in heads}
    graph = one_graph(with_dipoles(1, 3)[0], potential)
    features = potential.network(graph)
    assert not any(value.requires_grad for value in features.nodes + features.edges)
    potential(graph, ["dipole"], raw=True)["dipole"].sum().backward()
    assert all(p.grad is None for p in potential.network.parameters())
    assert any(p.grad is not None for p in heads)


@pytest.mark.parametrize("origin", [".ckpt"], indirect=True)
def test_heads_of_the_energy_too(origin, tensor_values):
    """Its head learns and gives up its uncertainty; the network stays."""
    tensor_values["data"]["energy_key"] = "energy"
    tensor_values["training"].update(epochs=1, learning_rate=1e-3)
    best, _ = checkpoint.load_potential(train(parse_options(tensor_values)))
    before, after = origin.state_dict(), best.state_dict()
    changed = {
        name.partition(".")[0] + "." + name.split(".")[1]
        for name, tensor in before.items()
        if name in after and not torch.equal(after[name], tensor)
    }
    assert changed == {"readouts.1"}
    assert not best.targets[1].has_uncertainty


@pytest.mark.parametrize("origin", [".ckpt"], indirect=True)
def test_new_heads_beside_a_trained_network(origin, tensor_values):
    """Without energies to hold it, the network leaves the energy behind."""
    tensor_values["training"]["parameters"] = "all"
    start = load_start(parse_options(tensor_values))
    assert start.potential.target_names == ["dipole"]
    assert start.new_targets == ["dipole"]
    tensor_values["data"]["energy_key"] = "energy"
    start = load_start(parse_options(tensor_values))
    assert start.potential.target_names == ["energy", "dipole"]
    for name, tensor in start.potential.network.state_dict().items():
        assert torch.equal(tensor, origin.network.state_dict()[name])


@pytest.mark.parametrize("origin", [".ckpt"], indirect=True)
def test_a_target_that_is_known_goes_on(origin, tensor_values, tmp_path):
    """In the same form it inherits head and scale; in another it starts anew."""
    best = train(parse_options(tensor_values))
    tensor_values["training"]["start_from"] = str(best)
    start = load_start(parse_options(tensor_values))
    assert start.new_targets == []
    state = checkpoint.load_potential(best)[0].state_dict()
    for name, tensor in start.potential.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    tensor_values["targets"]["dipole"]["readout"] = "node"
    start = load_start(parse_options(tensor_values))
    assert start.new_targets == ["dipole"]
    assert start.potential.target_names.count("dipole") == 1


@pytest.mark.parametrize("origin", [".ckpt"], indirect=True)
def test_heads_need_a_network_in_its_own_precision(origin, tensor_values):
    tensor_values["training"]["dtype"] = "float64"
    message = (
        r"`training.dtype` is float64, .* kept is float32; set `training.dtype: fl"
    )
    with pytest.raises(ValueError, match=message):
        load_start(parse_options(tensor_values))
    del tensor_values["training"]["start_from"]
    with pytest.raises(ValueError, match="random weights; name a model to start from"):
        parse_options(tensor_values)
