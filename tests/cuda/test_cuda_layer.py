"""A whole GNN layer of the GPU's operators = the CPU's own, in every memory tier."""

import pytest
import torch
from cuda_tools import assert_alike, assert_same_in_reverse, kernels


ops = torch.ops.petmad
D, D_WIDE, D_INNER, N_HEADS, N_SPECIES = 12, 20, 10, 2, 3
COUNTS = [3, 0, 7, 1, 9, 0]
"""Edges of each center."""


@pytest.fixture(params=[6, 131072], ids=["blocks", "whole"])
def rows_per_block(request):
    """Few rows, of less than the largest center's; and the usual number."""
    kernels.choose_rows_per_block(request.param)
    yield request.param
    kernels.choose_rows_per_block(131072)


@pytest.fixture(autouse=True)
def _keeps_again():
    yield
    kernels.choose_memory_tier("keep")


def layer_weights(random, expanded, gated, norm):
    """As the operator wants them."""

    def linear(n_out, n_in):
        return [random(n_out, n_in) / n_in**0.5, 0.1 * random(n_out)]

    def of_norm(width):
        bias = 0.1 * random(width) if norm == "LayerNorm" else random(0)
        return [1.0 + 0.1 * random(width), bias]

    def mlp(width, inner):
        return linear(inner * (2 if gated else 1), width) + linear(width, inner)

    found = of_norm(D) + linear(3 * D, D) + linear(D, D) + of_norm(D) + mlp(D, D_INNER)
    if expanded:
        found += linear(D, D_WIDE) + linear(D_WIDE, D)
        found += of_norm(D_WIDE) + mlp(D_WIDE, 2 * D_WIDE)
    return found


class Case:
    """Arguments of ``gnn_layer`` with two transformer layers."""

    def __init__(self, device, expanded, norm, pre_norm, gated, d_message=D) -> None:
        generator = torch.Generator().manual_seed(3)

        def random(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        n_edges = sum(COUNTS)
        inputs = [
            random(len(COUNTS), D_WIDE if expanded else D),
            random(n_edges, d_message),
            random(n_edges, 4),
            -random(n_edges).abs(),
        ]
        compress = [random(N_SPECIES, D), random(4, D), random(D, d_message)]
        compress += [random(D, D), random(D)]
        layers = [
            w for _ in range(2) for w in layer_weights(random, expanded, gated, norm)
        ]
        self.species = torch.arange(n_edges).to(device) % N_SPECIES
        self.starts = torch.tensor([0, *COUNTS]).cumsum(0).to(device)
        self.inputs = [x.to(device) for x in inputs]
        self.compress = [x.to(device) for x in compress]
        self.layers = [x.to(device) for x in layers]
        self.rest = (norm, 1e-6, pre_norm, gated, N_HEADS, 0.4)

    def outputs(self, library, inputs):
        """Node states and tokens by an operator of this library."""
        nodes, messages, geometry, log_weights = inputs
        return library.gnn_layer(
            nodes,
            messages,
            geometry,
            self.species,
            log_weights,
            self.starts,
            self.compress,
            self.layers,
            *self.rest,
        )

    def answers(self, library, wanted=(True, True, True, True)):
        """Both outputs, then the gradients of a sum of them by the wanted inputs."""
        leaves = [
            x.detach().clone().requires_grad_(w)
            for x, w in zip(self.inputs, wanted, strict=True)
        ]
        outputs = self.outputs(library, leaves)
        total = sum((y * y.detach().cos()).sum() for y in outputs)
        gradients = torch.autograd.grad(total, [x for x in leaves if x.requires_grad])
        return [*(y.detach() for y in outputs), *gradients]

    def moved(self, device):
        """The same arguments on another device."""
        self.species, self.starts = self.species.to(device), self.starts.to(device)
        for name in ("inputs", "compress", "layers"):
            setattr(self, name, [x.to(device) for x in getattr(self, name)])
        return self


@pytest.mark.parametrize("tier", ["keep", "wide", "layers"])
@pytest.mark.parametrize("pre_norm", [True, False], ids=["PreLN", "PostLN"])
@pytest.mark.parametrize("norm", ["RMSNorm", "LayerNorm"])
@pytest.mark.parametrize("expanded", [True, False], ids=["expanded", "narrow"])
def test_every_tier(device, rows_per_block, expanded, norm, pre_norm, tier):
    case = Case(device, expanded, norm, pre_norm, gated=expanded)
    kernels.choose_memory_tier(tier)
    found = case.answers(kernels)
    wanted = case.moved("cpu").answers(ops)
    for k, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert_alike(mine, theirs, f"number {k}")


@pytest.mark.parametrize("tier", ["keep", "layers"])
def test_the_first_layer_has_no_messages_and_constant_nodes(
    device, rows_per_block, tier
):
    case = Case(device, True, "RMSNorm", True, True, d_message=0)
    wanted_inputs = (False, False, True, True)
    kernels.choose_memory_tier(tier)
    found = case.answers(kernels, wanted_inputs)
    wanted = case.moved("cpu").answers(ops, wanted_inputs)
    for mine, theirs in zip(found, wanted, strict=True):
        assert_alike(mine, theirs)


def test_order_of_the_lanes_does_not_matter(rows_per_block):
    case = Case(torch.device("cpu"), True, "LayerNorm", True, True)
    kernels.choose_memory_tier("layers")
    assert_same_in_reverse(lambda: case.answers(kernels))


def test_blocks_keep_nothing_but_what_enters(device):
    """In tier ``layers`` one node of the graph holds the inputs; in ``keep``, many."""
    case = Case(device, True, "RMSNorm", True, True)

    def n_recorded(tier):
        kernels.choose_memory_tier(tier)
        leaves = [x.detach().clone().requires_grad_(True) for x in case.inputs]
        tokens = case.outputs(kernels, leaves)[1]
        found, waiting = set(), [tokens.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in found:
                found.add(node)
                waiting.extend(n for n, _ in node.next_functions)
        return len(found)

    n_leaves = len(case.inputs)
    assert n_recorded("layers") == n_leaves + 1
    assert n_recorded("keep") > n_leaves + 10


@pytest.mark.parametrize("tier", ["keep", "layers"])
def test_what_a_layer_refuses(device, tier):
    case = Case(device, False, "RMSNorm", False, True)
    kernels.choose_memory_tier(tier)
    leaves = [x.detach().clone().requires_grad_(True) for x in case.inputs]
    tokens = case.outputs(kernels, leaves)[1]
    with pytest.raises(RuntimeError, match=r"second derivatives"):
        torch.autograd.grad(tokens.sum(), leaves[2], create_graph=True)
    for weights in (case.compress, case.layers):
        for weight in weights:
            if weight.numel() == 0:
                continue
            weight.requires_grad_(True)
            with pytest.raises(RuntimeError, match=r"a weight .* asks for a gradient"):
                case.outputs(kernels, leaves)
            weight.requires_grad_(False)
    case.starts = case.starts[:-1]
    with pytest.raises(RuntimeError, match=r"gnn_layer: nodes .* do not fit together"):
        case.outputs(kernels, leaves)
    case.layers = case.layers[:5]
    with pytest.raises(RuntimeError, match=r"got 5 weights of layers; pass 12 of each"):
        case.outputs(kernels, leaves)
