"""The whole network on the kernels = the plain network, in every variant."""

import copy

import numpy as np
import pytest
import torch
from cuda_tools import Emulated, assert_alike, assert_same_in_reverse, kernels
from graphs import make_graph
from structures import chain, crystal, ethanol, far_pair, random_structure
from variants import VARIANTS, make_potential

from petmad import fast_network
from petmad._engine import Engine
from petmad.export import export_model
from petmad.fast_network import make_fast, network_sizes


SMALL_CUTOFF = {"cutoff": 3.0, "cutoff_width_adaptive": 0.9}
TIERS = ("keep", "wide", "layers")


@pytest.fixture(autouse=True)
def _keeps_again():
    yield
    torch.ops.petmad.choose_memory("keep")


@pytest.fixture
def emulated(monkeypatch):
    """The exported network's operators are the emulated ones."""
    monkeypatch.setattr(torch.ops, "petmad", Emulated())
    monkeypatch.setattr(fast_network, "runs_gpu_kernels", lambda x: True)


@pytest.fixture
def on_kernels(device, request):
    """The device; on a CPU the kernels are emulated."""
    if device.type == "cpu":
        request.getfixturevalue("emulated")
    return device


def answer(potential, graph, outputs):
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    predictions = potential(graph._replace(edge_vectors=vectors), outputs)
    energy = predictions["energy"].sum()
    (gradients,) = torch.autograd.grad(energy, vectors)
    return {**{k: v.detach() for k, v in predictions.items()}, "gradients": gradients}


def moved(graph, device):
    tensors = [x.to(device) if isinstance(x, torch.Tensor) else x for x in graph]
    return type(graph)(*tensors)


def compare(device, variant, structures, dtype, **changes):
    plain = make_potential(variant, **changes).to_dtype(dtype).requires_grad_(False)
    fast = copy.deepcopy(plain)
    make_fast(fast)
    graph = make_graph(structures, plain.config.cutoff)
    outputs = [*plain.target_names, "features", "cutoff_stats"]
    wanted = answer(plain, graph, outputs)
    found = answer(fast.to(device), moved(graph, device), outputs)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert_alike(found[name], value, name, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant(on_kernels, variant, dtype):
    structure = random_structure(11, 6).changed(charge=1, spin_multiplicity=3)
    compare(on_kernels, variant, [structure], dtype, **SMALL_CUTOFF)


@pytest.mark.parametrize("method", ["solver", "grid"])
def test_several_structures_in_one_batch(on_kernels, method):
    structures = [ethanol(), far_pair(), chain(), crystal()]
    changes = {"num_neighbors_adaptive": 5, "adaptive_cutoff_method": method}
    compare(on_kernels, "modern", structures, torch.float64, **changes)


@pytest.mark.parametrize("d_head", [32, 80])
def test_wide_heads(on_kernels, d_head):
    changes = {"d_pet": 2 * d_head, "num_heads": 2}
    compare(on_kernels, "modern", [crystal()], torch.float64, **changes)


def test_the_kernels_are_what_runs(on_kernels, monkeypatch):
    """Guards the tests above against comparing the plain network with itself."""
    names = []
    real = torch.ops.petmad

    class Recorder:
        def __getattr__(self, name):
            names.append(name)
            return getattr(real, name)

    monkeypatch.setattr(torch.ops, "petmad", Recorder())
    changes = {"num_neighbors_adaptive": 5}
    compare(on_kernels, "modern", [ethanol()], torch.float64, **changes)
    expected = {"adaptive_cutoffs_solver", "edge_starts", "gnn_layer", "combine"}
    assert expected | {"mlp", "sum_by_center"} <= set(names)


@pytest.fixture
def in_blocks():
    """Tier ``layers`` in blocks of few rows."""
    kernels.choose_rows_per_block(12)
    torch.ops.petmad.choose_memory("layers")
    yield
    kernels.choose_rows_per_block(131072)


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_that_run_twice(on_kernels, in_blocks, variant):
    structures = [random_structure(11, 9), chain(), far_pair(), crystal()]
    compare(on_kernels, variant, structures, torch.float64, **SMALL_CUTOFF)
    assert torch.ops.petmad.memory_tier() == "layers"


def test_one_block_gives_the_bits_of_the_other_tiers(on_kernels):
    fast = make_potential("modern").requires_grad_(False)
    make_fast(fast)
    fast = fast.to(on_kernels)
    graph = moved(make_graph([random_structure(4, 9)], 4.5), on_kernels)
    found = {}
    for tier in TIERS:
        torch.ops.petmad.choose_memory(tier)
        found[tier] = answer(fast, graph, ["energy"])
    for name, value in found["keep"].items():
        assert torch.equal(found["wide"][name], value), name
        assert torch.equal(found["layers"][name], value), name


def bytes_kept(potential, graph):
    """Of distinct arrays that autograd holds after a forward pass, weights aside."""
    arrays = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        arrays[storage.data_ptr()] = storage.nbytes()
        return tensor

    vectors = graph.edge_vectors.detach().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = potential(graph._replace(edge_vectors=vectors), ["energy"])
    assert outputs["energy"].requires_grad
    weights = [*potential.parameters(), *potential.buffers()]
    for weight in weights:
        arrays.pop(weight.untyped_storage().data_ptr(), None)
    return sum(arrays.values())


def test_the_plan_counts_what_is_kept(emulated):
    """All but the rows of the largest step and block, which are there for a while."""
    d, d_node, d_inner, n_heads = 64, 256, 128, 4
    changes = {"d_pet": d, "d_head": d, "d_node": d_node, "d_feedforward": d_inner}
    changes |= {"num_heads": n_heads, "num_gnn_layers": 3, "num_attention_layers": 1}
    fast = make_potential("modern", **changes).requires_grad_(False)
    make_fast(fast)
    graph = make_graph([random_structure(k, 12) for k in range(6)], 4.5)
    n_nodes, n_edges = len(graph.structures), len(graph.centers)  # all are kept
    sizes = network_sizes(fast.config, torch.float64)
    planned = kernels.plan_memory(sizes, [n_nodes, 0, n_edges], 1)[0]
    attention, at_once = 5 * d + 1 + n_heads, 6 * d_inner + 2 * d
    block = n_edges * (d + attention + d + 1 + 2 * d_inner + at_once)
    block += n_nodes * (attention + d_node + 1 + 4 * d_node)
    passing = [n_edges * at_once, n_edges * at_once, n_edges * 8 * d + block]
    for tier, needs, numbers in zip(TIERS, planned, passing, strict=True):
        torch.ops.petmad.choose_memory(tier)
        expected = needs - 8 * numbers
        assert 0.93 * expected < bytes_kept(fast, graph) < expected, tier


def test_answers_do_not_depend_on_the_order_of_lanes(in_blocks, emulated):
    fast = make_potential("modern").requires_grad_(False)
    make_fast(fast)
    graph = make_graph([random_structure(4, 9)], 4.5)
    assert_same_in_reverse(lambda: answer(fast, graph, ["energy"]).values())


def test_the_same_answer_every_time(on_kernels):
    fast = make_potential("modern").to_dtype(torch.float32).requires_grad_(False)
    make_fast(fast)
    fast = fast.to(on_kernels)
    graph = moved(
        make_graph([random_structure(k, 8) for k in range(4)], 4.5), on_kernels
    )
    first = answer(fast, graph, ["energy"])
    for _ in range(3):
        again = answer(fast, graph, ["energy"])
        for name, value in first.items():
            assert torch.equal(again[name], value), name


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_exported_file_on_the_gpu(dtype, tmp_path):
    path = tmp_path / "model.pt"
    export_model(make_potential("modern", num_neighbors_adaptive=5), path, dtype=dtype)
    answers = {}
    for where in ("cpu", "cuda"):
        engine = Engine(str(path), where)  # which judges itself by its goldens first
        structure = crystal()
        species = np.searchsorted(engine.info.atomic_numbers, structure.numbers)
        answers[where] = engine.evaluate(
            structure.positions, species, structure.cell, structure.pbc
        )
    for name in ("atomic_energies", "forces", "virial"):
        found, wanted = (torch.from_numpy(answers[w][name]) for w in ("cuda", "cpu"))
        assert_alike(found, wanted, name, getattr(torch, dtype))
