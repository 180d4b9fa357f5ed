"""The whole network on the kernels = the plain network, in every variant."""

import copy

import numpy as np
import pytest
import torch
from cuda_tools import Emulated, assert_alike, assert_same_in_reverse
from graphs import make_graph
from structures import chain, crystal, ethanol, far_pair, random_structure
from variants import VARIANTS, make_potential

from petmad import fast_network
from petmad._engine import Engine
from petmad.export import export_model
from petmad.fast_network import make_fast


SMALL_CUTOFF = {"cutoff": 3.0, "cutoff_width_adaptive": 0.9}


@pytest.fixture
def emulated(monkeypatch):
    """The exported network's operators are the emulated ones."""
    monkeypatch.setattr(torch.ops, "petmad", Emulated())
    monkeypatch.setattr(fast_network, "runs_gpu_kernels", lambda x: True)
    # GPUs have no operator of a whole layer
    monkeypatch.setattr(fast_network, "runs_whole_layers", lambda x: False)


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
    expected = {"adaptive_cutoffs_solver", "attention", "compress", "edge_starts"}
    expected |= {"combine", "mlp", "norm_linear", "sum_by_center"}
    assert expected <= set(names)


def test_answers_do_not_depend_on_the_order_of_lanes(emulated):
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
