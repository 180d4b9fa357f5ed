"""Compiled steps of training against the plain ones: same labels, same gradients.

Most cases stop before code is made (``aot_eager``), which is where the gradient of the
gradient is found; one training goes all the way.
"""

import csv
import logging
from pathlib import Path

import pytest
import torch
from toy_data import MODEL, alloys, options
from variants import VARIANTS

from petmad.data import collate, make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.compiled import CompiledPrediction
from petmad.training.direct import direct_targets
from petmad.training.finetune_options import FinetuneOptions
from petmad.training.lora import add_low_rank
from petmad.training.loss import Levels, predict_with
from petmad.training.options import TrainingOptions, parse_options
from petmad.training.trainer import train


NUMBERS = [29, 79]
LORA_LAYERS = ["input_linear", "output_linear", "edge_embedder"]


def batch_of(n_frames, cutoff):
    structures = [
        to_structure(atoms, "toy", LabelKeys())
        for atoms in alloys(n_frames, seed=n_frames)
    ]
    return collate([make_sample(one, NUMBERS, cutoff) for one in structures])


def potential_of(variant="modern", targets=None, n_layers=1):
    """Tracing takes as long as there are layers; messages need two."""
    torch.manual_seed(0)
    changes = {**VARIANTS[variant], "num_gnn_layers": n_layers}
    config = PETConfig(**{**MODEL, **changes, "cutoff": MODEL["cutoff"]})
    return checkpoint.make_potential(
        config, NUMBERS, targets or [TargetSpec()], "float64"
    )


def gradients(potential, labels):
    """Of a sum over all labels with random factors, by parameter."""
    torch.manual_seed(1)
    loss = sum((value * torch.randn_like(value)).sum() for value in labels)
    trained = {n: p for n, p in potential.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return dict(zip(trained, found, strict=True))


def compare(potential, names=("energy",), outputs=()):
    """Compiled once and plain, for batches of two shapes.

    In the first, sizes agree by chance: 4 structures of 4 atoms.
    """
    predict = CompiledPrediction(potential, "aot_eager")
    torch._dynamo.utils.counters.clear()
    for n_frames in (4, 5):
        batch = batch_of(n_frames, potential.config.cutoff)
        levels = Levels(list(names), torch.arange(n_frames) % len(names))
        found, others = predict(batch.graph, list(outputs), levels)
        plain, plain_others = predict_with(
            potential, batch.graph, list(outputs), True, True, levels
        )
        found, plain = [*found, *others.values()], [*plain, *plain_others.values()]
        assert len(found) == 3 + len(outputs)
        for value, expected in zip(found, plain, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
        expected = gradients(potential, plain)
        for name, value in gradients(potential, found).items():
            other = expected[name]
            assert (value is None) == (other is None), name
            if value is not None:
                torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-12)
        known = [value for value in expected.values() if value is not None]
        assert len(known) > 10
        assert all(bool(torch.isfinite(value).all()) for value in known)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(("variant", "n_layers"), [("modern", 2), ("classic", 1)])
def test_gradients_of_the_weights_are_those_of_the_plain_step(variant, n_layers):
    compare(potential_of(variant, n_layers=n_layers))


def test_levels_direct_heads_and_charges():
    names = ["energy", "energy/scan"]
    options = TrainingOptions(loss={"direct_forces": {"weight": 1}})
    direct = direct_targets(options)
    assert direct
    targets = [TargetSpec(name) for name in names] + direct
    potential = potential_of("conditioned", targets)
    compare(potential, names, [spec.name for spec in direct])


def test_low_rank_updates():
    potential = potential_of("adaptive_grid", n_layers=2)
    potential.requires_grad_(False)
    options = FinetuneOptions(rank=2, lora_init="random", lora_layers=LORA_LAYERS)
    assert add_low_rank(potential, options) > len(LORA_LAYERS)
    compare(potential)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_products_in_bfloat16():
    """Compiled steps round as much as plain ones, in other orders of sums."""
    potential = potential_of().to_dtype(torch.float32)
    batch = batch_of(4, potential.config.cutoff)
    levels = Levels(["energy"], torch.zeros(4, dtype=torch.int64))
    predict = CompiledPrediction(potential, "aot_eager")
    exact, _ = predict_with(potential, batch.graph, [], True, True, levels)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = predict(batch.graph, [], levels)
        plain, _ = predict_with(potential, batch.graph, [], True, True, levels)
        of_found = gradients(potential, found)
        of_plain = gradients(potential, plain)
    rounding = (exact.forces - plain.forces).norm()
    assert rounding > 1e-4 * exact.forces.norm()
    ours = (exact.forces - found.forces).norm()
    assert 0.5 * rounding <= ours <= 2 * rounding
    both = [(of_found[n], g) for n, g in of_plain.items() if g is not None]
    error = sum((a - b).square().sum() for a, b in both).sqrt()
    assert error <= 0.05 * sum(b.square().sum() for _, b in both).sqrt()


def losses(folder, **training):
    values = options(folder, epochs=2, seed=3, **training)
    train(parse_options(values))
    (file,) = Path(values["output"]).glob("csv/version_*/metrics.csv")
    with file.open() as text:
        rows = list(csv.DictReader(text))
    return [float(r["train/loss"]) for r in rows if r["train/loss"]]


@pytest.mark.timeout(900)  # on a busy machine with nothing in the cache
def test_training_goes_as_without(tmp_path, caplog):
    """All the way to compiled code, two epochs of six steps."""
    for name in ("plain", "compiled"):
        (tmp_path / name).mkdir()
    plain = losses(tmp_path / "plain", dtype="float64", log_steps=1)
    with caplog.at_level(logging.INFO, "petmad"):
        found = losses(
            tmp_path / "compiled", dtype="float64", log_steps=1, compile=True
        )
    assert len(plain) == 12
    assert "epochs of 6; the first is compiled" in caplog.text
    assert found == pytest.approx(plain, rel=1e-8)


def test_without_a_compiler(tmp_path):
    with (
        torch._inductor.config.patch({"cpp.cxx": ("/nothing/here",)}),
        torch._inductor.utils.fresh_cache(),
        pytest.raises(
            ValueError, match=r"`training.compile` did not work here: .*g\+\+"
        ),
    ):
        losses(tmp_path, compile=True)


def test_tensors_are_not_compiled(tmp_path):
    values = options(tmp_path, compile=True)
    values["targets"] = {"dipole": {"kind": "vector"}}
    with pytest.raises(ValueError, match=r"`training.compile` is for energies.*dipole"):
        parse_options(values)
