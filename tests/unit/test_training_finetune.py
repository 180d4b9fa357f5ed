"""Fine-tuning: low-rank updates, new energies, new elements, and the report."""

import json
import pathlib

import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys, write
from toy_data import options as toy_options

from petmad.cli import main
from petmad.data import collate, make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.export import export_model, load_exported
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training import checkpoint
from petmad.training.adapt import refit_composition, with_species
from petmad.training.calibration import Calibration
from petmad.training.evaluation import evaluate, load_predictor
from petmad.training.finetune import finetune, format_report
from petmad.training.finetune_options import FinetuneOptions
from petmad.training.lora import add_low_rank, merged_state
from petmad.training.loss import predict
from petmad.training.options import parse_options
from petmad.training.start import load_start
from petmad.training.trained import count_parameters, select_parameters
from petmad.training.trainer import train
from petmad.training.uncertainty import Fit
from petmad.training.uncertainty_command import describe


def make_origin(numbers=(29, 79), config=None, dtype=torch.float64) -> Potential:
    torch.manual_seed(7)
    config = config or PETConfig.from_dict(MODEL)
    potential = Potential(config, list(numbers), [TargetSpec()]).to_dtype(dtype)
    potential.scales[0].data.fill_(0.4)
    potential.compositions[0].data.copy_(torch.randn(len(numbers), 1).double())
    return potential


def sample_of(atoms, numbers=(29, 79)):
    structure = to_structure(atoms, "toy, frame 0", LabelKeys())
    return make_sample(structure, list(numbers), MODEL["cutoff"])


def energy_and_forces(potential, atoms):
    graph = collate([sample_of(atoms, potential.atomic_numbers)]).graph
    found = predict(potential, graph)
    return found.energies.detach(), found.forces.detach()


@pytest.fixture
def values(tmp_path):
    """Options of a fine-tuning of 6 steps from an untrained model in float64."""
    values = toy_options(tmp_path, epochs=1, dtype="float64", learning_rate=1e-2)
    del values["model"]
    checkpoint.save(tmp_path / "origin.ckpt", make_origin(), {})
    values["training"]["start_from"] = str(tmp_path / "origin.ckpt")
    return values


def test_zero_updates_change_nothing_and_random_ones_do():
    atoms = alloys(1)[0]
    expected = energy_and_forces(make_origin(), atoms)
    still, moved = make_origin(), make_origin()
    assert add_low_rank(still, FinetuneOptions()) == 2
    add_low_rank(moved, FinetuneOptions(lora_init="random"))
    for a, b, c in zip(
        energy_and_forces(still, atoms),
        expected,
        energy_and_forces(moved, atoms),
        strict=True,
    ):
        assert torch.equal(a, b)
        assert not torch.allclose(c, b, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"\['nothing'\] name no linear layer; choose"):
        add_low_rank(make_origin(), FinetuneOptions(lora_layers=["nothing"]))


def test_merged_updates_are_the_same_model():
    """W + (alpha / rank) B A, written out, and the same energies without updates."""
    model = make_origin()
    add_low_rank(model, FinetuneOptions(lora_init="random", rank=2, alpha=3.0))
    plain = make_origin()
    plain.load_state_dict(merged_state(model))
    layer = "network.gnn_layers.0.trans.layers.0.attention.input_linear"
    state = model.state_dict()
    update = f"{layer}.parametrizations.weight.0"
    expected = state[f"{layer}.parametrizations.weight.original"] + 1.5 * (
        state[f"{update}.up"] @ state[f"{update}.down"]
    )
    torch.testing.assert_close(plain.state_dict()[f"{layer}.weight"], expected)
    for a, b in zip(
        energy_and_forces(model, alloys(1)[0]),
        energy_and_forces(plain, alloys(1)[0]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_updates_are_a_small_part_of_a_usual_model(tmp_path):
    checkpoint.save(tmp_path / "a.ckpt", make_origin(config=PETConfig()), {})
    values = toy_options(tmp_path, parameters="lora", dtype="float64")
    del values["model"]
    values["training"]["start_from"] = str(tmp_path / "a.ckpt")
    options = parse_options(values)
    potential = load_start(options).potential
    select_parameters(potential, options)
    n_trained, n_parameters = count_parameters(potential)
    assert n_trained == 4 * 4 * (128 + 384 + 128 + 128)
    assert n_trained < 0.05 * n_parameters


def test_training_of_updates_alone(values):
    values["training"].update(parameters="lora", ema_decay=0.5)
    options = parse_options(values)
    best, _ = checkpoint.load_potential(train(options))
    origin = make_origin()
    changed = {
        name
        for name, tensor in best.state_dict().items()
        if not torch.equal(tensor, origin.state_dict()[name])
    }
    attention = "network.gnn_layers.0.trans.layers.0.attention"
    layers = ("input_linear", "output_linear")
    assert changed == {f"{attention}.{layer}.weight" for layer in layers}
    export_model(best, f"{options.output}/model.pt", "float64")
    exported, _ = load_exported(f"{options.output}/model.pt")
    assert exported.state_dict().keys() == origin.state_dict().keys()


def test_updates_resume(values):
    """``last.ckpt`` holds the updates themselves, and the model with them merged."""
    values["training"].update(parameters="lora", epochs=2)
    options = parse_options(values)
    train(options)
    last = pathlib.Path(options.output) / "last.ckpt"
    state = torch.load(last, weights_only=True)["state_dict"]
    assert any(name.endswith("weight.0.down") for name in state)
    before = last.read_bytes()
    train(options, resume=last)  # nothing is left to do
    assert (
        checkpoint.read(last)["state_dict"].keys() == make_origin().state_dict().keys()
    )
    assert before
    options.finetune.rank = 2
    with pytest.raises(ValueError, match="its `finetune` is"):
        train(options, resume=last)


def changed_names(options, best):
    """Of parameters that differ from those at the start."""
    start = load_start(options).potential.state_dict()
    return {
        name
        for name, tensor in best.state_dict().items()
        if name.startswith(("network", "readouts"))
        and not torch.equal(tensor, start[name])
    }


UPDATES = {
    f"network.gnn_layers.0.trans.layers.0.attention.{layer}.weight"
    for layer in ("input_linear", "output_linear")
}
TABLES = {"network.edge_embedder.weight", "network.node_embedders.0.weight"}


def test_updates_come_with_the_heads_of_new_targets(values, tmp_path):
    add_level(values, tmp_path)
    values["training"]["parameters"] = "lora"
    options = parse_options(values)
    best, _ = checkpoint.load_potential(train(options))
    changed = changed_names(options, best)
    heads = {name for name in changed if name.startswith("readouts.1.")}
    assert changed - heads == UPDATES
    assert len(heads) == len(list(best.readouts[1].parameters()))


@pytest.mark.parametrize("parameters", ["lora", "heads"])
def test_what_a_kept_network_knows_of_new_elements_is_trained(
    values, tmp_path, parameters
):
    """Rows of known elements stay, to the last bit, under weight decay, too."""
    frames = alloys(9, seed=3)
    for atoms in frames:
        atoms.numbers = np.where(atoms.numbers == 79, 47, atoms.numbers)
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    values["data"]["valid"] = write(tmp_path / "valid.xyz", frames[:2])
    values["finetune"] = {"new_species": {"Ag": "Au"}}
    values["training"].update(parameters=parameters, ema_decay=0.5, weight_decay=0.1)
    options = parse_options(values)
    best, _ = checkpoint.load_potential(finetune(options))
    changed = changed_names(options, best)
    heads = {name for name in changed if name.startswith("readouts")}
    assert bool(heads) is (parameters == "heads")
    assert changed - heads == TABLES | (UPDATES if parameters == "lora" else set())
    start = load_start(options).potential.state_dict()
    for name in TABLES:
        rows = (best.state_dict()[name] != start[name]).any(dim=1)
        assert rows.tolist() == [False, True, False]
    n_trained = sum(start[name].shape[1] for name in TABLES)
    if parameters == "heads":
        n_trained += sum(p.numel() for p in best.readouts.parameters())
    else:
        n_trained += 4 * (8 + 24 + 8 + 8)
    report = json.loads((tmp_path / "run" / "finetune.json").read_text())
    assert report["n_trained"] == n_trained
    train(options, resume=tmp_path / "run" / "last.ckpt")  # the updates are in it


def add_level(values, tmp_path):
    frames = alloys(9, seed=1)
    for atoms in frames:
        counts = [np.sum(atoms.numbers == z) for z in (29, 79)]
        shifted = atoms.get_potential_energy() + np.dot(counts, [2.0, -3.0])
        atoms.info["scan_energy"] = shifted
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    values["data"]["levels"] = {"scan": {"energy": {"key": "scan_energy"}}}
    del values["data"]["valid"]
    return frames


def test_new_energy_starts_as_the_old_one(values, tmp_path):
    """Head and scale are copied; energies of elements fit what the network leaves."""
    frames = add_level(values, tmp_path)
    options = parse_options(values)
    start = load_start(options)
    potential = start.potential
    assert start.new_targets == ["energy/scan"]
    for a, b in zip(
        potential.readouts[0].parameters(),
        potential.readouts[1].parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert torch.equal(potential.scales[0], potential.scales[1])
    keys = LabelKeys("scan_energy")
    structures = [to_structure(atoms, "toy, frame 0", keys) for atoms in frames]
    samples = [make_sample(s, [29, 79], MODEL["cutoff"]) for s in structures]
    refit_composition(potential, "energy/scan", samples, [0, 1])
    network = torch.stack(
        [
            predict(potential, collate([s]).graph).energies[0].detach()
            - potential.compositions[0][s.species.long()].sum()
            for s in samples
        ]
    )
    counts = np.array([[np.sum(a.numbers == z) for z in (29, 79)] for a in frames])
    energies = np.array([s.energy for s in structures])
    expected = np.linalg.lstsq(counts, energies - network.numpy(), rcond=None)[0]
    np.testing.assert_allclose(potential.compositions[1][:, 0], expected, atol=1e-9)
    options.finetune.inherit = {"energy/scan": "energy/x"}
    with pytest.raises(ValueError, match=r"energy/scan cannot start from 'energy/x'"):
        load_start(options)


def test_heads_of_two_energies(values, tmp_path):
    add_level(values, tmp_path)
    values["training"]["parameters"] = "heads"
    best, provenance = checkpoint.load_potential(train(parse_options(values)))
    assert best.target_names == ["energy", "energy/scan"]
    assert provenance["validation"]["energy/scan:energy_mae"] > 0
    origin = make_origin().state_dict()
    for name, tensor in best.state_dict().items():
        if name.startswith("network."):
            assert torch.equal(tensor, origin[name]), name
    assert torch.equal(best.compositions[0], origin["compositions.0"])


def test_new_elements_start_as_copies():
    origin = make_origin()
    model = with_species(origin, {"Ag": "Au", "Al": "Cu"})
    assert model.atomic_numbers == [13, 29, 47, 79]
    atoms = alloys(1)[0]
    expected = energy_and_forces(origin, atoms)
    renamed = atoms.copy()
    renamed.calc = atoms.calc
    renamed.numbers = np.where(atoms.numbers == 29, 13, 47)
    for chosen in (atoms, renamed):
        for a, b in zip(energy_and_forces(model, chosen), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"Xx": "Cu"}, "'Xx' is no element"),
        ({"Cu": "Au"}, "must map elements that the model lacks"),
        ({"Ag": "Pt"}, r"to elements it has; it has atomic numbers \[29, 79\]"),
    ],
)
def test_impossible_new_elements(new, message):
    with pytest.raises(ValueError, match=message):
        with_species(make_origin(), new)


def test_fine_tuning_to_a_new_element(values, tmp_path):
    frames = alloys(9, seed=3)
    for atoms in frames:
        atoms.numbers = np.where(atoms.numbers == 79, 47, atoms.numbers)
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    values["data"]["valid"] = write(tmp_path / "valid.xyz", frames[:2])
    with pytest.raises(ValueError, match=r"has Ag, unknown to the model"):
        train(parse_options(values))
    values["finetune"] = {"new_species": {"Ag": "Au"}}
    best = finetune(parse_options(values))
    potential, _ = checkpoint.load_potential(best)
    assert potential.atomic_numbers == [29, 47, 79]
    kept = make_origin().compositions[0][:, 0]
    found = potential.compositions[0][:, 0]
    assert torch.equal(found[[0, 2]], kept)
    assert found[1] != kept[1]
    report = json.loads((best.parent / "finetune.json").read_text())
    assert report["validation"]["energy"]["before"] is None


def test_another_zero_of_energy_is_told(values, tmp_path, caplog):
    frames = alloys(13, seed=1)
    for atoms in frames:
        atoms.calc.results["energy"] += float(np.sum(atoms.numbers)) * 10.0
    values["data"]["train"] = write(tmp_path / "train.xyz", frames)
    del values["data"]["valid"]
    train(parse_options(values))
    assert "the data have another zero of energy than the model" in caplog.text
    caplog.clear()
    values["finetune"] = {"composition": "fit"}
    values["output"] = str(tmp_path / "fitted")
    train(parse_options(values))
    assert "another zero" not in caplog.text


def test_report_tells_what_was_gained_and_lost(values, tmp_path, capsys):
    base = write(tmp_path / "base.xyz", alloys(3, seed=9))
    values["finetune"] = {"base": base}
    (tmp_path / "options.yaml").write_text(json.dumps(values))
    assert main(["finetune", str(tmp_path / "options.yaml")]) == 0
    report = json.loads((tmp_path / "run" / "finetune.json").read_text())
    before = load_predictor(values["training"]["start_from"])
    after = load_predictor(tmp_path / "run" / "best.ckpt")
    for part, file in (
        (report["base"], base),
        (report["validation"]["energy"], values["data"]["valid"]),
    ):
        assert part["before"] == pytest.approx(evaluate(before, file))
        assert part["after"] == pytest.approx(evaluate(after, file))
    assert report["n_trained"] == report["n_parameters"]
    assert "best model" in capsys.readouterr().out


def test_fine_tuning_needs_a_start(tmp_path, capsys):
    values = toy_options(tmp_path)
    (tmp_path / "options.yaml").write_text(json.dumps(values))
    assert main(["finetune", str(tmp_path / "options.yaml")]) == 1
    assert "give `training.start_from`" in capsys.readouterr().err
    values["training"]["parameters"] = "lora"
    with pytest.raises(ValueError, match="`parameters: lora` leaves the network"):
        parse_options(values)


def test_fine_tuning_is_of_energies(values):
    values["data"]["energy_key"] = None
    values["targets"] = {"dipole": {"kind": "vector"}}
    with pytest.raises(ValueError, match=r"is null; train .* with `petmad train`"):
        finetune(parse_options(values))
    assert not pathlib.Path(values["output"]).exists()


def test_shares_and_regularizers_are_plain_numbers():
    report = {"n_trained": 7, "n_parameters": 7, "validation": {}}
    assert "7 of 7 parameters (100 %)" in format_report(report)
    quality = Calibration(np.array([1.0]), np.array([1.0]), 1.0, 1.0)
    first, *_ = describe(Fit(None, 10.0, 1.0, quality), 1, 1)
    assert first.endswith("regularizer 10")
