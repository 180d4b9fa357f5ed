"""What is kept for the backward pass changes memory, and not one bit of the answer."""

import copy

import numpy as np
import pytest
import torch
from graphs import make_graph
from structures import chain, crystal, far_pair, random_structure
from variants import VARIANTS, make_potential

from petmad._engine import Engine
from petmad._ops import load_ops
from petmad.export import export_model
from petmad.fast_network import make_fast, network_sizes
from petmad.model import PETConfig, Potential


load_ops()
ops = torch.ops.petmad
TIERS = ("keep", "wide", "layers")
LARGEST_BLOCK = 2048
"""Rows of a block of centers, see ``memory_plan.h``."""


@pytest.fixture(autouse=True)
def _restored():
    """The library whose rows do not depend on each other; then as it was."""
    library = ops.product_library()
    ops.choose_product_library("petmad")
    yield
    ops.choose_product_library(library)
    ops.choose_memory("keep")


def answers(potential, graph, outputs):
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    predictions = potential(graph._replace(edge_vectors=vectors), outputs)
    (gradient,) = torch.autograd.grad(predictions["energy"].sum(), vectors)
    return [predictions[name].detach() for name in outputs] + [gradient]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_the_same_bits(variant):
    potential = make_potential(variant).requires_grad_(False)
    fast = copy.deepcopy(potential)
    make_fast(fast)
    structures = [random_structure(4, 9), crystal(), chain(), far_pair()]
    graph = make_graph(structures, potential.config.cutoff)
    outputs = [*potential.target_names, "features", "last_layer_features/energy"]
    found = {}
    for tier in TIERS:
        ops.choose_memory(tier)
        found[tier] = answers(fast, graph, outputs)
        assert ops.memory_tier() == tier
    for tier in TIERS[1:]:
        for wanted, value in zip(found["keep"], found[tier], strict=True):
            assert torch.equal(wanted, value)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(2)
    config = PETConfig(
        cutoff=4.0,
        d_pet=16,
        d_head=16,
        d_node=32,
        d_feedforward=32,
        num_heads=2,
        num_gnn_layers=2,
        num_attention_layers=2,
    )
    path = tmp_path_factory.mktemp("memory") / "small.pt"
    export_model(Potential(config, [1, 8]), path)
    return str(path)


def grid(n_side=9):
    """(positions, species, cell, pbc) of jittered atoms 2 Å apart."""
    rng = np.random.default_rng(3)
    spots = np.stack(np.meshgrid(*3 * [np.arange(n_side)]), -1).reshape(-1, 3)
    positions = 2.0 * spots + 0.3 * rng.standard_normal(spots.shape)
    species = rng.integers(0, 2, len(spots)).astype(np.int32)
    return positions, species, 2.0 * n_side * np.eye(3), np.array([True] * 3)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_blocks_of_centers_give_the_same_bits(model, n_threads):
    before = torch.get_num_threads()
    wanted = Engine(model, n_threads=n_threads, memory="keep").evaluate(*grid())
    for tier in TIERS[1:]:
        engine = Engine(model, n_threads=n_threads, memory=tier)
        found = engine.evaluate(*grid())
        assert engine.statistics.n_kept_edges > 2 * LARGEST_BLOCK
        assert engine.memory_plan.tier == tier
        for name in ("atomic_energies", "forces", "virial"):
            np.testing.assert_array_equal(found[name], wanted[name])
    torch.set_num_threads(before)


def test_a_system_without_edges(model):
    apart = np.array([[0.0, 0, 0], [20.0, 0, 0]])
    species = np.array([0, 1], dtype=np.int32)
    arguments = (apart, species, np.zeros((3, 3)), np.array([False] * 3))
    wanted = Engine(model, memory="keep").evaluate(*arguments)
    found = Engine(model, memory="layers").evaluate(*arguments)
    assert found["energy"] == wanted["energy"]


def test_the_first_tier_that_fits(model):
    engine = Engine(model, memory="100000")
    assert not engine.memory_plan.bytes
    assert str(engine.memory_plan).startswith("memory: not planned, no layers have run")
    engine.evaluate(*grid())
    plan = engine.memory_plan
    assert (plan.tier, plan.fits, plan.available) == ("keep", True, 100_000_000_000)
    keep, wide, layers = plan.bytes
    assert keep > 1.2 * wide
    assert wide > 1.2 * layers
    assert plan.n_centers == 729
    engine = Engine(model, memory=str(int((wide + keep) / 2e6)))
    engine.evaluate(*grid())
    assert engine.memory_plan.tier == "wide"


def test_too_little_for_any_tier_is_said(model):
    engine = Engine(model, memory="1")
    engine.evaluate(*grid())
    assert engine.memory_plan.tier == "layers"
    assert not engine.memory_plan.fits
    line = str(engine.memory_plan)
    assert line.startswith("memory: ")
    assert "KiB per atom" in line
    assert "tier layers" in line
    assert "likely too little: use more ranks or GPUs" in line


def test_what_the_machine_has_free_is_known(model):
    engine = Engine(model)
    engine.evaluate(*grid())
    assert engine.memory_plan.available > 2**20
    assert engine.memory_plan.tier == "keep"


@pytest.mark.parametrize("text", ["half", "-5", "0", "1.5", "10000000000000"])
def test_unknown_memory(model, text):
    with pytest.raises(ValueError, match=r"auto, keep, wide, layers, or the MB .* got"):
        Engine(model, memory=text)


def test_needs_of_one_row_by_hand():
    sizes = [2, 8, 3, 5, 1, 1, 1, 8, 0]
    # one edge: inner row of compress; tokens, their norm, queries to values, rows of
    # the MLP with their norm and inner row; both parts of the message, their norm and
    # inner row; the head's rows, twice its width; at once three rows, or five
    layer = 2 + (2 + 1 + 6) + (2 + 1 + 3)
    keep = layer + (4 + 2 + 4) + (2 + 10) + 6
    wide = 2 + (2 + 1 + 6) + 2 + 4 + 2 + 10
    layers = 4 + 2 + 6 + (layer + 16)  # the block that runs again, and its adjoints
    found = ops.memory_needs(sizes, [0, 0, 1])
    assert found == [8 * keep, 8 * wide, 8 * layers]


def test_needs_of_widened_weights(tmp_path):
    """A file of float32 that runs in float64 needs what one of float64 does."""
    plans = {}
    for dtype, precision in (
        ("float64", "fp64"),
        ("float32", "fp64"),
        ("float32", "fp32"),
    ):
        path = tmp_path / f"{dtype}.pt"
        export_model(make_potential("modern"), path, dtype)
        engine = Engine(str(path), precision=precision)
        engine.evaluate(*grid())
        plans[dtype, precision] = list(engine.memory_plan.bytes)
    assert plans["float32", "fp64"] == plans["float64", "fp64"]
    assert plans["float32", "fp64"][0] > 1.5 * plans["float32", "fp32"][0]


def test_sizes_of_a_network():
    sizes = network_sizes(PETConfig(), torch.float32)
    per_atom = ops.memory_needs(sizes, [1000, 0, 16000])
    assert per_atom[0] > per_atom[1] > per_atom[2] > 0


def test_weights_of_a_layer_are_counted():
    x = torch.zeros(1, 4)
    arguments = (x, x, x, torch.zeros(1, dtype=torch.int64), x[:, 0], torch.arange(2))
    rest = ("RMSNorm", 1e-6, True, True, 2, 1.0)
    with pytest.raises(RuntimeError, match=r"got 2 weights of compress; pass 5"):
        ops.gnn_layer(*arguments, [x, x], [x], *rest)
    with pytest.raises(RuntimeError, match=r"got 3 weights of layers; pass 22 of each"):
        ops.gnn_layer(*arguments, 5 * [x], 3 * [x], *rest)
