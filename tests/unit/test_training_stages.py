"""Trainings in stages: direct heads first, gradients of the energy after."""

import csv
import math
from pathlib import Path

import pytest
import torch
from toy_data import alloys, options, write

from petmad.data import collate, make_sample, read_structures
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.direct import (
    FORCE,
    STRESS,
    direct_labels,
    direct_targets,
    direct_terms,
    fit_direct_scales,
    true_direct,
)
from petmad.training.loss import predict_with
from petmad.training.module import TrainingModule
from petmad.training.options import TrainingOptions, parse_options
from petmad.training.stages import learning_rate_at, stage_at, stages_of
from petmad.training.trainer import train


NO_GRADIENTS = {"forces": {"weight": 0}, "stress": {"weight": 0}}
STAGES = [
    {
        "epochs": 3,
        "learning_rate": 5e-3,
        "loss": {
            **NO_GRADIENTS,
            "direct_forces": {"weight": 1},
            "direct_stress": {"weight": 1},
        },
    },
    {"epochs": 2, "loss": {"direct_forces": {"weight": 0.01}}},
]


def staged(folder):
    folder.mkdir(exist_ok=True)
    values = options(folder, epochs=5, learning_rate=2e-3, stages=STAGES)
    values["training"] |= {"checkpoint_steps": 2, "log_steps": 1}
    return values


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A training of two stages, 3 and 2 epochs of 6 steps."""
    values = staged(tmp_path_factory.mktemp("staged"))
    train(parse_options(values))
    return values


def rows(values, column):
    (file,) = Path(values["output"]).glob("csv/version_*/metrics.csv")
    with file.open() as lines:
        found = [(row["epoch"], row.get(column, "")) for row in csv.DictReader(lines)]
    return [(int(epoch), float(value)) for epoch, value in found if value]


def test_errors_of_direct_heads_and_gradients_fall(finished):
    direct = [value for _, value in rows(finished, "valid/direct_forces_mae")]
    assert min(direct[1:3]) < direct[0]
    gradients = [value for _, value in rows(finished, "valid/forces_mae")]
    assert len(direct) == len(gradients) == 5
    assert gradients[-1] < gradients[2]  # those of a stage that did not train them


def test_only_the_second_stage_differentiates(finished):
    assert {epoch for epoch, _ in rows(finished, "train/loss_forces")} == {3, 4}
    assert {epoch for epoch, _ in rows(finished, "train/loss_direct_stress")} == {
        0,
        1,
        2,
    }


def test_resumed_inside_a_stage_it_is_the_same(finished, tmp_path, monkeypatch):
    values = {**finished, "output": str(tmp_path / "again")}
    step = TrainingModule.training_step

    def failing(self, batch, batch_idx):
        if self.global_step == 21:  # the fourth of the second stage
            raise RuntimeError("stop here")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", failing)
    with pytest.raises(RuntimeError, match="stop here"):
        train(parse_options(values))
    monkeypatch.undo()
    last = tmp_path / "again" / "last.ckpt"
    train(parse_options(values), resume=last)
    a, b = (
        torch.load(file, weights_only=True)["state_dict"]
        for file in (Path(finished["output"]) / "last.ckpt", last)
    )
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture
def model_and_batch(tmp_path):
    training = TrainingOptions(
        loss={
            "direct_forces": {"weight": 2},
            "direct_stress": {"weight": 1, "kind": "mae"},
        }
    )
    structures = read_structures(write(tmp_path / "a.xyz", alloys(3)))
    config = PETConfig(cutoff=3.0, d_pet=8, d_head=8, d_node=16, d_feedforward=8)
    samples = [make_sample(s, [29, 79], 3.0) for s in structures]
    torch.manual_seed(0)
    specs = direct_targets(training)
    assert specs == [FORCE, STRESS]
    potential = checkpoint.make_potential(config, [29, 79], specs, "float64")
    fit_direct_scales(potential, samples, specs)
    return potential, collate(samples), training.loss


def test_terms_are_the_definition(model_and_batch):
    potential, batch, loss = model_and_batch
    atomic = potential(batch.graph, [FORCE.name, STRESS.name], raw=True)
    predicted = direct_labels(potential, atomic, batch)
    whole = potential(batch.graph, [FORCE.name, STRESS.name])
    torch.testing.assert_close(predicted.forces, whole[FORCE.name])
    scale = batch.forces.square().mean().sqrt()
    expected = 2.0 * ((predicted.forces - batch.forces) / scale).square().mean()
    terms = direct_terms(potential, predicted, batch, loss)
    torch.testing.assert_close(terms["direct_forces"], expected)
    sums = whole[STRESS.name].reshape(3, 4, 3, 3).sum(1)
    per_atom = batch.strain_gradients / 4
    scale = per_atom.square().mean().sqrt()
    expected = ((sums / 4 - per_atom) / scale).abs().mean()
    torch.testing.assert_close(terms["direct_stress"], expected)


def test_other_levels_are_left_out(model_and_batch):
    _, batch, _ = model_and_batch
    batch = batch._replace(levels=torch.tensor([0, 1, 0]))
    targets = true_direct(batch)
    assert torch.isnan(targets.forces[4:8]).all()
    assert not torch.isnan(targets.forces[:4]).any()
    assert torch.isnan(targets.strain_gradients[1]).all()


def test_without_gradients_nothing_is_differentiated(model_and_batch):
    _, batch, _ = model_and_batch
    config = PETConfig(cutoff=3.0, d_pet=8, d_head=8, d_node=16, d_feedforward=8)
    specs = [TargetSpec(), FORCE]
    potential = checkpoint.make_potential(config, [29, 79], specs, "float64")
    whole, _ = predict_with(potential, batch.graph, [])
    plain, others = predict_with(
        potential, batch.graph, [FORCE.name], with_gradients=False
    )
    torch.testing.assert_close(plain.energies, whole.energies)
    assert torch.isnan(plain.forces).all()
    assert torch.isnan(plain.strain_gradients).all()
    assert others[FORCE.name].shape == (12, 3)


def test_stages_are_functions_of_the_step():
    training = TrainingOptions(
        epochs=5, learning_rate=1e-3, warmup_fraction=0.1, stages=STAGES
    )
    stages = stages_of(training, 50)
    assert [(s.first, s.n_steps) for s in stages] == [(0, 30), (30, 20)]
    assert [stage_at(stages, step) for step in (0, 29, 30, 49, 50)] == [
        *[stages[0]] * 2,
        *[stages[1]] * 3,
    ]
    rates = [learning_rate_at(stage_at(stages, i), i, 0.1) for i in range(50)]
    assert rates[0] == rates[30] == 0.0
    assert max(rates[:30]) == rates[3] == 5e-3
    assert max(rates[30:]) == rates[32] == 1e-3
    (whole,) = stages_of(TrainingOptions(epochs=5), 50)
    assert (whole.first, whole.n_steps, whole.learning_rate) == (0, 50, 1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 7}, "add up to 5, but `epochs` is 7"),
        ({"loss": {"energy": {"weight": 2}}}, "`loss` and `stages` are both given"),
        (
            {"stages": [{"epochs": 5, "los": {}}]},
            r"unknown option `training.stages.los`; did you mean `training.stages.",
        ),
    ],
)
def test_contradicting_options_are_refused(tmp_path, changes, message):
    values = staged(tmp_path)
    values["training"].update(changes)
    with pytest.raises(ValueError, match=message):
        parse_options(values)


def test_direct_heads_need_an_energy_and_labels(tmp_path, model_and_batch):
    values = staged(tmp_path)
    values["data"]["energy_key"] = None
    values["targets"] = {"dipole": {"kind": "vector"}}
    with pytest.raises(ValueError, match=r"`data.energy_key` is null; name"):
        parse_options(values)
    potential, _, _ = model_and_batch
    frames = alloys(2)
    for atoms in frames:
        del atoms.calc.results["stress"]
    structures = read_structures(write(tmp_path / "b.xyz", frames))
    samples = [make_sample(s, [29, 79], 3.0) for s in structures]
    with pytest.raises(ValueError, match="no training structure has stress other"):
        fit_direct_scales(potential, samples, [STRESS])


@pytest.mark.parametrize("head", ["forces", "stress"])
def test_one_direct_head_alone(tmp_path, head):
    """The other has no errors, and the best model is kept all the same."""
    values = options(tmp_path, epochs=1, loss={f"direct_{head}": {"weight": 1}})
    best = train(parse_options(values))
    errors = checkpoint.load_potential(best)[1]["validation"]
    assert all(math.isfinite(value) for value in errors.values())
    assert "direct_forces_mae" in errors or head == "stress"
    assert "direct_strain_mae" in errors or head == "forces"
