"""What a step is expected to need, and the tier that fits."""

import pytest
import torch
from cuda_tools import kernels, with_gradients


ops = torch.ops.petmad
S_SIZE = [256, 1024, 512, 256, 8, 3, 1, 4, 1]
GIB = 2**30
ROWS = 131072
"""Rows of a block of centers on a GPU, see ``memory_plan.h``."""


def plan(n_atoms, available=140 * GIB, sizes=S_SIZE):
    counts = [n_atoms, 205 * n_atoms, round(24.5 * n_atoms)]
    return kernels.plan_memory(sizes, counts, available)


def test_rows_of_one_layer_by_hand():
    sizes = [2, 8, 3, 5, 1, 1, 1, 8, 0]
    # one edge, no center. A layer: inner of compress; attention x, 1, qkv, mixed,
    # sums; mlp x, 1, inner. Outside of it: combination 2d, 2, inner 2d; head rows d,
    # inner and two outputs
    layer = 2 + (2 + 1 + 6 + 2 + 1) + (2 + 1 + 3)
    outside = (4 + 2 + 4) + (2 + 5 + 10)
    at_once = max(2 * 2 * 3 + 2 * 2, 8 * 2)
    bytes_, tier, _ = kernels.plan_memory(sizes, [0, 0, 1], 10**9)
    assert bytes_[0] == 8 * (layer + outside + at_once)
    assert bytes_[1] == bytes_[0] - 8 * (3 + 4 + 5)
    # a block of one edge, that runs again, beside the combination
    assert bytes_[2] == 8 * (outside - 4 - 5 + 8 * 2 + layer + at_once)
    assert tier == "keep"


def test_messages_and_nodes_that_enter_layers_by_hand():
    def needs(n_layers, counts):
        sizes = [2, 8, 3, 5, 1, n_layers, 1, 8, 0]
        return kernels.plan_memory(sizes, counts, 10**9)[0][2]

    # another layer keeps the messages that enter it, and what the next are made of
    assert needs(2, [0, 0, 1]) - needs(1, [0, 0, 1]) == 8 * (2 + 4 + 2)
    assert needs(2, [1, 0, 0]) - needs(1, [1, 0, 0]) == 8 * 8


def test_a_block_does_not_grow_with_the_system():
    def needs(n_edges):
        return kernels.plan_memory(S_SIZE, [0, 0, n_edges], 1)[0][2]

    outside = needs(3 * ROWS) - needs(2 * ROWS)
    assert needs(2 * ROWS) - needs(ROWS) == outside
    assert needs(ROWS) > 2 * outside


def test_an_evaluation_plans_for_where_it_runs():
    counts = [1000, 205_000, 24_500]
    needs = kernels.plan_memory(S_SIZE, counts, 1)[0]
    assert needs[0] > 1.1 * ops.memory_needs(S_SIZE, counts)[0]  # the CPU's, to keep
    tiers = {needs[0]: "keep", needs[0] - 1: "wide", needs[1] - 1: "layers"}
    try:
        for available, tier in tiers.items():
            kernels.plan_for_gpu(available)
            ops.plan_evaluation(S_SIZE, counts)
            assert ops.memory_tier() == tier
        ops.choose_memory(str((needs[0] - 1) // 10**6))
        ops.plan_evaluation(S_SIZE, counts)
        assert ops.memory_tier() == "keep"
    finally:
        ops.choose_memory("keep")


def test_needs_grow_with_atoms_and_fall_with_tiers():
    small, large = plan(1000)[0], plan(2000)[0]
    assert large == [2 * b for b in small]
    assert small[1] < 0.75 * small[0]
    assert plan(60_000)[0][2] < 0.6 * plan(60_000)[0][1]


def test_first_tier_that_fits():
    needs = plan(60_000)[0]
    assert plan(60_000, needs[0])[1] == "keep"
    assert plan(60_000, needs[0] - 1)[1] == "wide"
    assert plan(60_000, needs[1] - 1)[1] == "layers"
    bytes_, tier, line = plan(60_000, needs[2] - 1)
    assert tier == "layers"
    assert "too little: use more ranks or GPUs, a smaller model or fewer atoms" in line
    assert f"({bytes_[0] / GIB:.3g} GiB to keep all)" in line


def test_sixty_thousand_atoms_of_s_fit_an_h200():
    _, tier, line = plan(60_000)
    assert tier == "keep"
    assert line.startswith("memory: ")
    assert line.endswith("140 GiB available, tier keep")


def test_two_hundred_thousand_atoms_of_s_fit_an_h200():
    _, tier, line = plan(200_000)
    assert tier == "layers"
    assert "140 GiB available, tier layers" in line
    assert "too little" not in line


def test_wrong_numbers_are_named():
    with pytest.raises(RuntimeError, match="sizes of a network are 9 numbers, got 1"):
        kernels.plan_memory([1], [0, 0, 0], 1)
    with pytest.raises(RuntimeError, match="keep, wide or layers, got 'all'"):
        kernels.choose_memory_tier("all")


@pytest.mark.parametrize("flags", [(True, False), (False, True)], ids=str)
def test_recomputed_rows_give_the_same_bits(device, flags):
    x = torch.randn(9, 24, dtype=torch.float64, device=device)
    w_in, w_out = torch.randn(80, 24).to(x), torch.randn(24, 40).to(x)
    gain, nothing = torch.ones(24).to(x), x.new_zeros(0)

    def run(y):
        weights = (w_in, w_in[:, 0].contiguous(), w_out, w_out[:, 0].contiguous())
        norm = ("RMSNorm", gain, nothing, 1e-6)
        return kernels.mlp(y, *norm, *weights, "SwiGLU", *flags)

    kept = with_gradients(run, x)
    kernels.choose_memory_tier("wide")
    try:
        again = with_gradients(run, x)
    finally:
        kernels.choose_memory_tier("keep")
    for a, b in zip(kept, again, strict=True):
        assert torch.equal(a, b)
