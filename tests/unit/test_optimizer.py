"""Muon for the matrices, Adam for the rest: who gets what, one step, and resuming."""

import copy
import csv
import pathlib

import pytest
import torch
from test_training_run import assert_equal_weights, toy_options

from petmad.model import PETConfig, Potential, TargetSpec
from petmad.training.finetune_options import FinetuneOptions
from petmad.training.lora import add_low_rank
from petmad.training.module import TrainingModule
from petmad.training.optimizer import JoinedOptimizers, make_optimizer, matrices
from petmad.training.options import TrainingOptions, parse_options
from petmad.training.trainer import train


CONFIG = PETConfig(
    cutoff=3.0, d_pet=16, d_head=16, d_node=24, d_feedforward=32, num_heads=2
)


def make_model():
    torch.manual_seed(0)
    specs = [TargetSpec(), TargetSpec("d", "vector", readout="exact")]
    return Potential(CONFIG, [1, 8], specs)


def options(**values):
    return TrainingOptions(**{"learning_rate": 1e-2, "optimizer": "muon", **values})


def with_gradients(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    return model


def test_who_gets_what():
    model = make_model()
    names = {id(p): name for name, p in model.named_parameters()}
    wide = {names[id(p)] for p in matrices(model)}
    assert all(dict(model.named_parameters())[name].ndim == 2 for name in wide)
    assert any("attention" in name for name in wide)
    assert any("node_heads" in name for name in wide)
    for part in ("last", "norm", "bias", "embed"):
        assert not any(part in name for name in wide), part
    made = make_optimizer(model, options())
    muon, adam = made.parts
    assert {names[id(p)] for p in muon.param_groups[0]["params"]} == wide
    everything = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {names[id(p)] for p in adam.param_groups[0]["params"]} == everything - wide


def test_low_rank_updates_and_heads_alone():
    model = make_model()
    model.requires_grad_(False)
    add_low_rank(model, FinetuneOptions())
    assert not matrices(model)
    assert isinstance(make_optimizer(model, options()), torch.optim.Adam)
    model = make_model()
    model.network.requires_grad_(False)
    names = {id(p): name for name, p in model.named_parameters()}
    kept = {names[id(p)].split(".")[0] for p in matrices(model)}
    assert kept == {"readouts"}


def test_one_step_is_that_of_both():
    joined, apart = with_gradients(make_model()), with_gradients(make_model())
    make_optimizer(joined, options(weight_decay=0.1)).step()
    wide = matrices(apart)
    chosen = {id(p) for p in wide}
    rest = [p for p in apart.parameters() if p.requires_grad and id(p) not in chosen]
    torch.optim.Muon(
        wide, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    ).step()
    torch.optim.AdamW(rest, lr=1e-2, weight_decay=0.1).step()
    before = make_model().state_dict()
    for name, value in apart.state_dict().items():
        assert torch.equal(joined.state_dict()[name], value), name
    moved = joined.network.state_dict()
    assert any(not torch.equal(moved[k], before[f"network.{k}"]) for k in moved)


def test_rate_and_state_reach_the_parts():
    model = with_gradients(make_model())
    made = make_optimizer(model, options())
    assert isinstance(made, JoinedOptimizers)
    made.step()
    state = copy.deepcopy(made.state_dict())
    other = with_gradients(copy.deepcopy(model))
    resumed = make_optimizer(other, options())
    resumed.load_state_dict(state)
    for optimizer in (made, resumed):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [1e-3] * 2
    with_gradients(model)
    made.step()
    resumed.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns(tmp_path):
    values = toy_options(tmp_path, optimizer="muon", epochs=6)
    train(parse_options(values))
    log = pathlib.Path(values["output"]) / "csv" / "version_0" / "metrics.csv"
    rows = list(csv.DictReader(log.read_text().splitlines()))
    losses = [float(r["valid/loss"]) for r in rows if r["valid/loss"]]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("whole", "stopped")]
    runs = []
    for folder in folders:
        folder.mkdir()
        runs.append(toy_options(folder, optimizer="muon", epochs=4))
    train(parse_options(runs[0]))

    class Stop(Exception):
        pass

    plain = TrainingModule.on_train_batch_start

    def stopping(self, batch, batch_idx):
        if self.current_epoch == 2:
            raise Stop
        plain(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "on_train_batch_start", stopping)
    with pytest.raises(Stop):
        train(parse_options(runs[1]))
    monkeypatch.setattr(TrainingModule, "on_train_batch_start", plain)
    last = f"{runs[1]['output']}/last.ckpt"
    train(parse_options(runs[1]), resume=last)
    assert_equal_weights(f"{runs[0]['output']}/last.ckpt", last)
