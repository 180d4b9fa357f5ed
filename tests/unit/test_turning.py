"""The loss term on the spread over rotations: by hand, on copies, in training."""

import pytest
import torch
from test_training_tensors import NUMBERS, labels, make_options, structures, waters

from petmad.data import collate, make_sample
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.data.tensors import rotate_components
from petmad.training import checkpoint
from petmad.training.options import parse_options
from petmad.training.tensor_evaluation import evaluate_tensors
from petmad.training.tensor_options import TensorOptions
from petmad.training.tensors import TensorTarget, gather, tensor_targets
from petmad.training.trainer import train
from petmad.training.turning import turning_terms


def samples():
    return [make_sample(s, NUMBERS, 3.0) for s in structures(waters(3))]


def target(name, **values):
    options = TensorOptions(**values)
    return TensorTarget(options.spec(name), options)


@torch.no_grad()
def predictions(model, batch, targets):
    atomic = model(batch.graph, [t.spec.name for t in targets], raw=True)
    return {
        t.spec.name: gather(t.spec, atomic[t.spec.name], batch.graph) for t in targets
    }


class Field:
    """The sum of an atom's edge vectors, and half as much of its x component again."""

    def __init__(self, leaning):
        self.leaning = leaning

    def __call__(self, graph, names, raw):
        """Components of every target, y, z, x."""
        total = graph.edge_vectors.new_zeros(len(graph.species), 3)
        total = total.index_add(0, graph.centers, graph.edge_vectors)
        total = total + self.leaning * total * total.new_tensor([1.0, 0.0, 0.0])
        return {name: total[:, [1, 2, 0]] for name in names}


def test_by_hand():
    """A half turn changes nothing; a quarter turn about z exchanges x and y."""
    targets = [target("d", kind="vector", per_atom=True, spread_weight=3.0)]
    batch, model = collate(samples()), Field(0.5)
    predicted = predictions(model, batch, targets)
    half = torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double()
    terms = turning_terms(model, batch, predicted, targets, half)
    assert float(terms["d_l1_spread"]) == pytest.approx(0, abs=1e-28)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).double()
    terms = turning_terms(model, batch, predicted, targets, quarter)
    field = predictions(Field(0.0), batch, targets)["d"]
    # half of the field along the new x comes on, along the new y goes
    squares = 0.25 * (field[:, 0] ** 2 + field[:, 2] ** 2)
    expected = 3.0 * squares.sum() / field.numel() / 2
    assert float(terms["d_l1_spread"]) == pytest.approx(float(expected), rel=1e-12)
    inversion = -torch.eye(3, dtype=torch.float64)
    odd = turning_terms(model, batch, predicted, targets, inversion)
    assert float(odd["d_l1_spread"]) == pytest.approx(0, abs=1e-28)


def test_equals_turned_copies(tmp_path):
    """Of a model: what evaluating each structure again, turned, gives."""
    options = parse_options(make_options(tmp_path))
    specs = [t.spec for t in tensor_targets(options)]
    model = checkpoint.make_potential(options.model, NUMBERS, specs, "float64")
    targets = [
        target("dipole", kind="vector", spread_weight=2.0),
        target("alpha", kind="symmetric", spread_weight=1.0, block_weights=[1.0, 4.0]),
        target("spin", kind="axial_vector", per_atom=True),
    ]
    rotation = random_rotation(0, 0, 5)
    some = samples()
    batch = collate(some)
    predicted = predictions(model, batch, targets)
    terms = turning_terms(model, batch, predicted, targets, rotation)
    turned = collate(
        [rotate(s, rotation, [label.spec for label in labels()]) for s in some]
    )
    again = predictions(model, turned, targets)
    found = {}
    for (spec, _), parts in zip(
        targets[:2], ([(0, 3, 2.0)], [(0, 1, 1.0), (1, 6, 4.0)]), strict=True
    ):
        back = rotate_components(spec, again[spec.name], rotation.T)
        squares = ((back - predicted[spec.name]) / 3).square()  # three atoms each
        for order, (start, stop, weight) in zip(
            [block[0] for block in spec.blocks], parts, strict=True
        ):
            value = weight * squares[:, start:stop].mean() / 2
            found[f"{spec.name}_l{order}_spread"] = float(value)
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(found, rel=1e-9)
    assert min(found.values()) > 1e-8


def test_no_weight_no_evaluation():
    targets = [target("d", kind="vector")]
    assert turning_terms(None, collate(samples()), {}, targets, torch.eye(3)) == {}


def test_training_with_it_lowers_the_spread(tmp_path):
    spreads = []
    for weight in (0.0, 300.0):
        targets = {"dipole": {"kind": "vector", "spread_weight": weight}}
        folder = tmp_path / f"{weight:g}"
        folder.mkdir()
        values = make_options(folder, targets=targets, epochs=20, learning_rate=3e-3)
        model, _ = checkpoint.load_potential(train(parse_options(values)))
        errors = evaluate_tensors(model, values["data"]["valid"], n_rotations=8)
        spreads.append(errors["dipole_l1_spread"])
    assert spreads[1] < 0.5 * spreads[0]


def test_exact_readouts_have_none_to_weigh():
    with pytest.raises(ValueError, match="`readout: exact` has no spread"):
        target("d", kind="vector", readout="exact", spread_weight=1.0)
