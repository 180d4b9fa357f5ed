"""Pair terms of tensors: by hand, turning, cutoff, their fit, a model with them."""

import numpy as np
import pytest
import torch
from test_training_tensors import NUMBERS, make_options, structures, waters

from petmad.data import collate, make_sample
from petmad.data.augmentation import random_rotation
from petmad.data.dataset import rotate
from petmad.model import TargetSpec
from petmad.model.config import PETConfig
from petmad.model.pair_terms import N_FUNCTIONS, PairTerms
from petmad.model.spherical import wigner
from petmad.training import checkpoint
from petmad.training.fitted_terms import pair_columns
from petmad.training.options import parse_options
from petmad.training.tensor_baseline import fit_tensor_baseline
from petmad.training.tensor_evaluation import evaluate_tensors
from petmad.training.tensor_options import TensorOptions
from petmad.training.tensors import TensorTarget
from petmad.training.trainer import train


CUTOFF = 3.0
BLOCKS = [(0, 1), (1, 1), (2, 1), (3, 1), (1, -1)]


def samples(n_frames=3, seed=0):
    frames = structures(waters(n_frames, seed))
    return [make_sample(s, NUMBERS, CUTOFF) for s in frames]


def make_terms(blocks=BLOCKS, seed=0):
    config = PETConfig(cutoff=CUTOFF, cutoff_width=0.5)
    terms = PairTerms(config, len(NUMBERS), list(blocks)).double()
    random = torch.Generator().manual_seed(seed)
    for block in terms.blocks:
        block.weights.copy_(torch.randn(block.weights.shape, generator=random))
    return terms


def test_by_hand():
    """Atom by atom and neighbor by neighbor, for a scalar and a vector."""
    terms = make_terms([(0, 1), (1, 1)])
    structure = structures(waters(1))[0]
    graph = collate([make_sample(structure, NUMBERS, CUTOFF)]).graph
    found = terms(graph)
    species = [NUMBERS.index(z) for z in structure.atomic_numbers]
    knots = np.linspace(0.0, CUTOFF, N_FUNCTIONS)
    expected = np.zeros((3, 4))
    for i in range(3):
        for j in range(3):
            if i == j:
                continue
            vector = structure.positions[j] - structure.positions[i]
            r = np.linalg.norm(vector)
            assert r < CUTOFF - 0.5  # so that the cutoff factor is 1
            radial = np.exp(-(((r - knots) * (N_FUNCTIONS - 1) / CUTOFF) ** 2))
            pair = species[i] * 2 + species[j]
            scalar, polar = (b.weights[pair].numpy() @ radial for b in terms.blocks)
            expected[i] += [scalar, *(polar * vector[[1, 2, 0]] / r)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_turns_exactly_and_has_no_pseudotensors():
    terms, some = make_terms(), samples()
    rotation = random_rotation(1, 2, 3)
    assert torch.linalg.det(rotation) < 0
    before = terms(collate(some).graph)
    after = terms(collate([rotate(s, rotation) for s in some]).graph)
    start = 0
    for block in BLOCKS:
        part = slice(start, start + 2 * block[0] + 1)
        turned = before[:, part] @ wigner(block, rotation).T
        torch.testing.assert_close(after[:, part], turned, atol=1e-12, rtol=0)
        assert bool(before[:, part].any()) is (block[1] > 0)
        start = part.stop


def test_is_smooth_at_the_cutoff():
    terms = make_terms([(0, 1), (2, 1)])
    graph = collate(samples(1)).graph

    def at(distance):
        unit = graph.edge_vectors / graph.edge_vectors.norm(dim=1, keepdim=True)
        return terms(graph._replace(edge_vectors=unit * distance))

    assert at(CUTOFF - 0.6).abs().max() > 0.1
    assert not at(CUTOFF + 0.1).any()
    assert (at(CUTOFF - 1e-4) - at(CUTOFF + 1e-4)).abs().max() < 1e-8


def test_derivative():
    terms = make_terms()
    graph = collate(samples(1)).graph
    vectors = graph.edge_vectors.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda v: terms(graph._replace(edge_vectors=v)), vectors
    )


def test_columns_are_what_the_weights_multiply():
    terms, some = make_terms(), samples()
    graph = collate(some).graph
    total = terms(graph)
    start = 0
    for block, (order, parity) in zip(terms.blocks, BLOCKS, strict=True):
        part = slice(start, start + 2 * order + 1)
        if parity > 0:
            columns = pair_columns(terms, block, graph, torch.arange(2))
            found = columns @ block.weights.flatten()
            torch.testing.assert_close(found, total[:, part], atol=1e-12, rtol=0)
        start = part.stop


def test_baseline_leaves_the_rest_to_the_network():
    """With a network of zeros the model predicts composition and pair terms."""
    some = samples(12, seed=1)
    values = {"dipole": {"kind": "vector"}, "alpha": {"kind": "symmetric"}}
    targets = []
    for name, value in values.items():
        options = TensorOptions(**value, pair_terms=True)
        targets.append(TensorTarget(options.spec(name), options))
    config = PETConfig(cutoff=CUTOFF)
    model = checkpoint.make_potential(
        config, NUMBERS, [t.spec for t in targets], "float64"
    )
    fit_tensor_baseline(model, some, targets)
    assert not any(w.requires_grad for n, w in model.named_buffers() if "pair" in n)
    graph = collate(some).graph
    for readout, spec, scale, composition in zip(
        model.readouts, model.targets, model.scales, model.compositions, strict=True
    ):
        value = readout.pair_terms(graph) * scale[0] + composition[graph.species]
        total = value.reshape(12, 3, -1).sum(1)
        labels = torch.cat([s.tensors[spec.name] for s in some])
        left = (labels - total).square().mean().sqrt()
        assert left < 0.02 * (labels - labels.mean(0)).square().mean().sqrt()


def test_from_training_to_file(tmp_path, capsys):
    """The fit is in the checkpoint and in the exported file, and turns exactly."""
    from petmad.cli import main

    targets = {"dipole": {"kind": "vector", "pair_terms": True}}
    values = make_options(tmp_path, targets=targets, epochs=1, dtype="float64")
    best = train(parse_options(values))
    model, _ = checkpoint.load_potential(best)
    assert model.readouts[0].pair_terms.blocks[0].weights.any()
    errors = evaluate_tensors(model, values["data"]["valid"], n_rotations=4)
    assert errors["dipole_l1_relative"] < 0.05  # one epoch: the pair terms alone
    exported = str(tmp_path / "model.pt")
    assert main(["export", str(best), "-o", exported]) == 0
    capsys.readouterr()
    found = []
    for path in (str(best), exported):
        arguments = ["evaluate", path, values["data"]["valid"], "--rotations", "2"]
        assert main(arguments) == 0
        output = capsys.readouterr().out
        rows = [row.split() for row in output.splitlines() if row[:9] == "dipole_l1"]
        found.append([float(number) for number in rows[0][1:3]])
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_specs_of_older_files_have_none():
    assert not TargetSpec(**{"name": "d", "kind": "vector"}).pair_terms
