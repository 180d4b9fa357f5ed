"""The exported network's fast operators = the plain network, by instruction set."""

import copy

import pytest
import torch
from graphs import make_graph
from structures import chain, crystal, ethanol, far_pair, random_structure
from variants import VARIANTS, make_potential

from petmad._ops import load_ops
from petmad.fast_network import make_fast


load_ops()

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
"""Relative to the largest number of its kind."""
INSTRUCTION_SETS = torch.ops.petmad.instruction_sets()
SMALL_CUTOFF = {"cutoff": 3.0, "cutoff_width_adaptive": 0.9}


@pytest.fixture(params=INSTRUCTION_SETS, autouse=True)
def instruction_set(request):
    """Each one this processor has, in turn."""
    torch.ops.petmad.choose_instruction_set(request.param)
    yield request.param
    torch.ops.petmad.choose_instruction_set(INSTRUCTION_SETS[0])


def answer(potential, graph, outputs):
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    predictions = potential(graph._replace(edge_vectors=vectors), outputs)
    energy = predictions["energy"].sum()
    (gradients,) = torch.autograd.grad(energy, vectors, allow_unused=True)
    if gradients is None:
        gradients = torch.zeros_like(vectors)
    return {**{k: v.detach() for k, v in predictions.items()}, "gradients": gradients}


def compare(variant, structures, dtype, **changes):
    plain = make_potential(variant, **changes).to_dtype(dtype).requires_grad_(False)
    fast = copy.deepcopy(plain)
    make_fast(fast)
    graph = make_graph(structures, plain.config.cutoff)
    outputs = [*plain.target_names, "features", "cutoff_stats"]
    outputs.append("last_layer_features/energy")
    wanted, found = answer(plain, graph, outputs), answer(fast, graph, outputs)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        difference = (found[name] - value).abs().max() if value.numel() else 0.0
        scale = value.abs().max() if value.numel() else 1.0
        assert difference <= TOLERANCES[dtype] * scale, name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(variant, dtype):
    structure = random_structure(11, 6).changed(charge=1, spin_multiplicity=3)
    compare(variant, [structure], dtype, **SMALL_CUTOFF)


@pytest.mark.parametrize("d_head", [8, 16, 32, 48, 64])
def test_every_head_size(d_head):
    compare("modern", [crystal()], torch.float64, d_pet=2 * d_head, num_heads=2)


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_several_structures_in_one_batch(method):
    structures = [ethanol(), far_pair(), chain(), crystal()]
    compare(
        "modern",
        structures,
        torch.float64,
        num_neighbors_adaptive=5,
        adaptive_cutoff_method=method,
    )


def test_more_rows_than_one_block():
    structures = [random_structure(seed, 8) for seed in range(12)]
    compare("modern", structures, torch.float64)


def test_two_threads_give_the_same_bits():
    plain = make_potential("modern").to_dtype(torch.float32).requires_grad_(False)
    make_fast(plain)
    graph = make_graph([random_structure(seed, 8) for seed in range(12)], 4.5)
    before = torch.get_num_threads()
    results = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        results.append(answer(plain, graph, ["energy"]))
    torch.set_num_threads(before)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("library", ["blas", "onednn", "petmad"])
def test_either_product_library(library):
    before = torch.ops.petmad.product_library()
    torch.ops.petmad.choose_product_library(library)
    structures = [random_structure(seed, 8) for seed in range(12)]
    compare("modern", structures, torch.float32)
    torch.ops.petmad.choose_product_library(before)


def test_an_atom_alone():
    compare("modern", [far_pair()], torch.float64, cutoff=2.0)
