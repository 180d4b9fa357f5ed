"""Composition, scale, targets, loss and errors against hand-made numbers."""

import math

import numpy as np
import pytest
import torch
from toy_data import MODEL, alloys

from petmad.data import collate, make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.baseline import (
    energy_spread,
    fit_composition,
    fit_scale,
    force_spread,
)
from petmad.training.loss import Labels, loss_terms, predict, scaled_targets
from petmad.training.loss_options import LossOptions, LossTerm
from petmad.training.metrics import Errors
from petmad.training.module import TrainingModule
from petmad.training.options import TrainingOptions
from petmad.training.schedule import learning_rate_factor


NUMBERS = [29, 79]


@pytest.fixture(scope="module")
def samples():
    frames = alloys(6)
    structures = [to_structure(atoms, "toy", LabelKeys()) for atoms in frames]
    return [
        make_sample(structure, NUMBERS, MODEL["cutoff"]) for structure in structures
    ]


def potential(**hypers):
    torch.manual_seed(0)
    config = PETConfig(**{**MODEL, **hypers})
    model = checkpoint.make_potential(config, NUMBERS, [TargetSpec()], "float64")
    model.scales[0].data.fill_(0.25)
    model.compositions[0].data.copy_(torch.tensor([[1.5], [-2.0]]))
    return model


def test_composition_is_recovered(samples):
    exact = torch.tensor([-3.0, 7.0], dtype=torch.float64)
    made = [s._replace(energy=exact[s.species.long()].sum()) for s in samples]
    torch.testing.assert_close(fit_composition(made, 2), exact, atol=1e-10, rtol=0)


def test_composition_of_an_absent_species_is_zero(samples):
    made = [s._replace(species=s.species * 2, energy=s.energy * 0 + 1) for s in samples]
    assert abs(float(fit_composition(made, 3)[1])) < 1e-10


def test_composition_of_one_formula_reproduces_the_energy(samples):
    # water: O and H always come 1 to 2, so only the sum is determined
    species = torch.tensor([0, 0, 1], dtype=torch.int32)
    made = [samples[0]._replace(species=species, energy=samples[0].energy * 0 + 9)] * 3
    composition = fit_composition(made, 2)
    assert float(composition[species.long()].sum()) == pytest.approx(9, abs=1e-9)
    assert composition.tolist() == pytest.approx([3.6, 1.8], abs=1e-6)


def test_spreads_by_hand(samples):
    composition = torch.tensor([1.0, 2.0], dtype=torch.float64)
    residuals = [
        (float(s.energy) - sum(1.0 + int(z) for z in s.species)) / 4 for s in samples
    ]
    expected = math.sqrt(sum(r * r for r in residuals) / len(residuals))
    assert energy_spread(samples, composition) == pytest.approx(expected)
    forces = np.concatenate([s.forces.numpy() for s in samples])
    assert force_spread(samples) == pytest.approx(np.sqrt((forces**2).mean()))
    assert fit_scale(samples, composition, "energy") == pytest.approx(expected)
    assert fit_scale(samples, composition, 0.3) == 0.3


def test_nothing_to_learn_is_refused(samples):
    made = [s._replace(forces=torch.zeros_like(s.forces)) for s in samples]
    composition = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"forces .* scale of 0 eV.*energy_scale"):
        fit_scale(made, composition, "forces")


def test_scaled_targets_invert_what_the_model_adds(samples):
    model, batch = potential(), collate(samples)
    raw = predict(model, batch.graph, raw=True)
    physical = predict(model, batch.graph)
    batch = batch._replace(
        energies=physical.energies.detach(),
        forces=physical.forces.detach(),
        strain_gradients=physical.strain_gradients.detach(),
    )
    for a, b in zip(scaled_targets(model, batch), raw, strict=True):
        torch.testing.assert_close(a, b.detach(), atol=1e-10, rtol=1e-10)


def test_zbl_is_subtracted_from_the_targets(samples):
    model, batch = potential(zbl=True), collate(samples)
    with_zbl = predict(model, batch.graph)
    plain = potential()
    plain.load_state_dict(model.state_dict(), strict=False)
    moved = (with_zbl.forces - predict(plain, batch.graph).forces).abs().max()
    assert float(moved) > 1e-3
    batch = batch._replace(
        energies=with_zbl.energies.detach(),
        forces=with_zbl.forces.detach(),
        strain_gradients=with_zbl.strain_gradients.detach(),
    )
    raw = predict(model, batch.graph, raw=True)
    for a, b in zip(scaled_targets(model, batch), raw, strict=True):
        torch.testing.assert_close(a, b.detach(), atol=1e-9, rtol=1e-9)


def test_loss_by_hand():
    predicted = Labels(
        torch.tensor([2.0, 5.0], dtype=torch.float64),
        torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64),
        torch.ones(2, 3, 3, dtype=torch.float64),
    )
    nan = float("nan")
    targets = Labels(
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        torch.tensor([[0.0, 0.0, 0.0], [nan, nan, nan]], dtype=torch.float64),
        torch.stack([torch.zeros(3, 3), torch.full((3, 3), nan)]).double(),
    )
    n_atoms = torch.tensor([2, 4])
    options = LossOptions(
        forces=LossTerm(weight=3.0), stress=LossTerm(kind="huber", delta=0.1)
    )
    terms = loss_terms(predicted, targets, n_atoms, options)
    # energies off by 2 in 2 atoms and by 4 in 4
    assert float(terms["energy"]) == pytest.approx(1.0)
    assert float(terms["forces"]) == pytest.approx(3.0 * (1 + 4) / 3)
    # strain off by 1 in 2 atoms: delta·(0.5 - delta/2)
    assert float(terms["stress"]) == pytest.approx(0.1 * (0.5 - 0.05))
    options = LossOptions(energy=LossTerm(kind="mae"), stress=LossTerm(weight=0))
    terms = loss_terms(predicted, targets, n_atoms, options)
    assert float(terms["energy"]) == pytest.approx(1.0)
    assert set(terms) == {"energy", "forces"}


def test_unknown_targets_leave_the_term_out():
    nan = torch.full((2, 3), float("nan"))
    labels = Labels(torch.zeros(1), torch.zeros(2, 3), torch.zeros(1, 3, 3))
    targets = Labels(torch.zeros(1), nan, torch.zeros(1, 3, 3))
    terms = loss_terms(labels, targets, torch.tensor([2]), LossOptions())
    assert set(terms) == {"energy", "stress"}


def test_prediction_that_is_not_a_number_shows():
    labels = Labels(torch.zeros(1), torch.zeros(2, 3), torch.zeros(1, 3, 3))
    broken = labels._replace(forces=torch.full((2, 3), float("nan")))
    terms = loss_terms(broken, labels, torch.tensor([2]), LossOptions())
    assert math.isnan(float(terms["forces"]))


def test_loss_gradient_is_its_slope(samples):
    model, batch = potential(), collate(samples)
    options = LossOptions()

    def loss():
        predicted = predict(model, batch.graph, raw=True, create_graph=True)
        targets = scaled_targets(model, batch)
        return sum(loss_terms(predicted, targets, batch.n_atoms, options).values())

    weight = model.network.gnn_layers[0].edge_embedder.weight
    (gradient,) = torch.autograd.grad(loss(), weight)
    direction = torch.randn_like(weight)
    step = 1e-5
    above = _shifted(loss, weight, step * direction)
    below = _shifted(loss, weight, -step * direction)
    slope = (above - below) / (2 * step)
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


def _shifted(loss, weight, shift):
    with torch.no_grad():
        weight += shift
    value = float(loss().detach())
    with torch.no_grad():
        weight -= shift
    return value


def test_losses_in_physical_units(samples):
    """Huber of residuals in eV/atom and eV/Å, against the formula written out."""
    model, batch = potential(), collate(samples[:3])
    loss = {"units": "physical"}
    for name, delta in (("energy", 0.5), ("forces", 0.2), ("stress", 1.0)):
        loss[name] = {"kind": "huber", "delta": delta}
    module = TrainingModule(model, TrainingOptions(loss=loss), 1)
    found = module.terms(model, batch)[0]
    predicted = predict(model, batch.graph)
    n_atoms = batch.n_atoms.double()
    residuals = {
        "energy": (predicted.energies - batch.energies) / n_atoms,
        "forces": predicted.forces - batch.forces,
        "stress": (predicted.strain_gradients - batch.strain_gradients)
        / n_atoms[:, None, None],
    }
    for name, residual in residuals.items():
        size, delta = residual.detach().abs(), loss[name]["delta"]
        expected = torch.where(
            size < delta, 0.5 * size**2, delta * (size - 0.5 * delta)
        )
        torch.testing.assert_close(found[name].detach(), expected.mean())


def test_errors_by_level(samples):
    """Those of all structures, and those of each level's alone."""
    model, batch = potential(), collate(samples[:3])
    predicted = Labels(*(v.detach() for v in predict(model, batch.graph)))
    truth = Labels(batch.energies, batch.forces, batch.strain_gradients)
    levels = torch.tensor([1, 0, 1])
    errors, alone = Errors(["energy", "energy/b"]), Errors()
    errors.add(predicted, truth, batch.n_atoms, levels)
    one = collate(samples[1:2])
    alone.add(
        Labels(*(v.detach() for v in predict(model, one.graph))),
        Labels(one.energies, one.forces, one.strain_gradients),
        one.n_atoms,
    )
    results = errors.compute()
    for name, value in alone.compute().items():
        if not name.endswith("prod"):
            assert results[f"energy:{name}"] == pytest.approx(value)
    both = 2 * results["energy/b:energy_mae"] + results["energy:energy_mae"]
    assert results["energy_mae"] == pytest.approx(both / 3)


def test_errors_by_hand():
    errors = Errors()
    zero = torch.zeros(1, 3, 3)
    errors.add(
        Labels(torch.tensor([1.0]), torch.ones(2, 3), zero),
        Labels(torch.tensor([0.0]), torch.zeros(2, 3), zero * float("nan")),
        torch.tensor([2]),
    )
    errors.add(
        Labels(torch.tensor([1.0]), torch.ones(1, 3) * 4, zero),
        Labels(torch.tensor([0.0]), torch.zeros(1, 3), zero * float("nan")),
        torch.tensor([1]),
    )
    results = errors.compute()
    assert results["energy_mae"] == pytest.approx(750.0)
    assert results["energy_rmse"] == pytest.approx(1000 * math.sqrt(1.25 / 2))
    assert results["forces_mae"] == pytest.approx(2000.0)
    assert results["forces_rmse"] == pytest.approx(1000 * math.sqrt(18 / 3))
    assert results["mae_prod"] == pytest.approx(750.0 * 2000.0)
    assert "strain_mae" not in results


def test_schedule():
    factors = [learning_rate_factor(step, 100, 10) for step in range(101)]
    assert factors[0] == 0.0
    assert factors[5] == pytest.approx(0.5)
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert learning_rate_factor(0, 100, 0) == 1.0
