"""The network's kernels and their backward passes = plain torch."""

import pytest
import torch
from cuda_tools import (
    TOLERANCES,
    assert_alike,
    assert_same_in_reverse,
    kernels,
    with_gradients,
)
from torch import nn


DTYPES = list(TOLERANCES)


def random(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def compare(device, fast, slow, *inputs):
    """Output and gradients of ``fast`` on the device and of ``slow`` on the CPU."""
    found = with_gradients(fast, *[x.to(device) for x in inputs])
    wanted = with_gradients(slow, *inputs)
    for k, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert_alike(mine, theirs, "output" if k == 0 else f"gradient {k}")


def plain_attention(qkv, log_weights, counts, n_heads, scale):
    """Center by center, head by head."""
    d = qkv.shape[1] // 3
    mixed = [None] * len(qkv)
    first = 0
    for i, count in enumerate(counts):
        rows = [i, *range(len(counts) + first, len(counts) + first + count)]
        bias = torch.cat([qkv.new_zeros(1), log_weights[first : first + count]])
        q, k, v = qkv[rows].reshape(len(rows), 3, n_heads, d // n_heads).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale + bias
        out = torch.einsum("hqk,khd->qhd", torch.softmax(scores, -1), v)
        for row, value in zip(rows, out.reshape(len(rows), d), strict=True):
            mixed[row] = value
        first += count
    return torch.stack(mixed)


def attention_case(device, counts, n_heads, d_head, dtype, spread=1.0):
    n_rows = len(counts) + sum(counts)
    qkv = spread * random(n_rows, 3 * n_heads * d_head, dtype=dtype)
    log_weights = -random(sum(counts), dtype=dtype, seed=3).abs()
    starts = torch.tensor([0, *counts]).cumsum(0)
    scale = d_head**-0.5
    compare(
        device,
        lambda x, b: kernels.attention(x, b, starts.to(device), n_heads, scale),
        lambda x, b: plain_attention(x, b, counts, n_heads, scale),
        qkv,
        log_weights,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d_head", [5, 16, 32, 48, 64, 80, 128])
def test_attention_of_every_head_size(device, d_head, dtype):
    attention_case(device, [3, 0, 7], 2, d_head, dtype)


@pytest.mark.parametrize(
    "counts", [[31], [32], [33], [0], [70, 1, 64], [0, 0]], ids=str
)
def test_attention_of_more_tokens_than_a_tile(device, counts):
    attention_case(device, counts, 2, 8, torch.float64)


def test_attention_of_large_scores(device):
    attention_case(device, [40, 5], 1, 16, torch.float64, spread=12.0)


def test_weights_of_zero_take_no_part(device):
    counts, floor = [4], -34.5
    qkv = random(5, 3 * 16)
    log_weights = torch.tensor([0.0, floor, 0.0, floor], dtype=torch.float64)
    starts = torch.tensor([0, 4])
    mixed = kernels.attention(
        qkv.to(device), log_weights.to(device), starts.to(device), 1, 0.25
    )
    assert_alike(mixed, plain_attention(qkv, log_weights, counts, 1, 0.25))


@pytest.mark.cuda
def test_more_centers_than_a_grid_is_high():
    n = 70_000
    qkv = random(n, 3 * 16, dtype=torch.float32)
    starts = torch.zeros(n + 1, dtype=torch.int64)
    nothing = torch.zeros(0, dtype=torch.float32)
    mixed = kernels.attention(qkv.cuda(), nothing.cuda(), starts.cuda(), 1, 1.0)
    assert_alike(mixed, qkv[:, 32:])  # each token attends to itself alone


def norm_of(kind, width, dtype):
    """Name, gain, bias and epsilon, and the plain module."""
    nothing = torch.zeros(0, dtype=dtype)
    if kind == "none":
        return ("none", nothing, nothing, 0.0), nn.Identity()
    gain = 1.0 + 0.1 * random(width, dtype=dtype, seed=5)
    bias = 0.1 * random(width, dtype=dtype, seed=6)
    if kind == "RMSNorm":
        plain = nn.RMSNorm(width, eps=1e-6, dtype=dtype)
        bias = nothing
    else:
        plain = nn.LayerNorm(width, eps=1e-6, dtype=dtype)
        plain.bias.data = bias
    plain.weight.data = gain
    return (kind, gain, bias, 1e-6), plain.requires_grad_(False)


def on(device, values):
    return [v.to(device) if isinstance(v, torch.Tensor) else v for v in values]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [24, 70])
@pytest.mark.parametrize("kind", ["none", "RMSNorm", "LayerNorm"])
def test_norm_linear(device, kind, width, dtype):
    norm, plain = norm_of(kind, width, dtype)
    w, b = random(40, width, dtype=dtype, seed=1), random(40, dtype=dtype, seed=2)
    compare(
        device,
        lambda x: kernels.norm_linear(x, *on(device, norm), *on(device, (w, b))),
        lambda x: nn.functional.linear(plain(x), w, b),
        random(9, width, dtype=dtype),
    )


def plain_mlp(x, norm, w_in, b_in, w_out, b_out, activation, residual, activate_output):
    inner = nn.functional.linear(norm(x), w_in, b_in)
    if activation == "SwiGLU":
        value, gate = inner.chunk(2, dim=-1)
        inner = value * torch.sigmoid(gate)
    else:
        inner = nn.functional.silu(inner)
    y = nn.functional.linear(inner, w_out, b_out)
    y = nn.functional.silu(y) if activate_output else y
    return x + y if residual else y


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("flags", [(True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("activation", ["SwiGLU", "SiLU"])
def test_mlp(device, activation, flags, dtype):
    width, inner = 24, 40
    norm, plain = norm_of("RMSNorm" if flags[0] else "none", width, dtype)
    n_in = inner * (2 if activation == "SwiGLU" else 1)
    weights = [
        0.2 * random(*shape, dtype=dtype, seed=k)
        for k, shape in enumerate([(n_in, width), (n_in,), (width, inner), (width,)])
    ]
    compare(
        device,
        lambda x: kernels.mlp(
            x, *on(device, norm), *on(device, weights), activation, *flags
        ),
        lambda x: plain_mlp(x, plain, *weights, activation, *flags),
        random(9, width, dtype=dtype, seed=9),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d_message", [0, 12])
def test_compress(device, d_message, dtype):
    n, h, d = 7, 40, 12
    species = torch.tensor([0, 2, 1, 2, 2, 0, 1])
    shapes = [(3, h), (4, h), (h, d_message), (d, h), (d,)]
    weights = [random(*s, dtype=dtype, seed=k) for k, s in enumerate(shapes)]
    table, w_geometry, w_message, w_out, b_out = weights

    def plain(geometry, messages):
        inner = geometry @ w_geometry + table[species] + messages @ w_message.T
        return nn.functional.silu(inner) @ w_out.T + b_out

    compare(
        device,
        lambda g, m: kernels.compress(g, m, species.to(device), *on(device, weights)),
        plain,
        random(n, 4, dtype=dtype, seed=7),
        random(n, d_message, dtype=dtype, seed=8),
    )


def combine_arguments(kind, d, dtype):
    """Those after the rows, and the same in plain torch."""
    h = 2 * d + 3
    norm, plain = norm_of(kind, 2 * d, dtype)
    w_in, w_out = (0.3 * random(*s, dtype=dtype, seed=3) for s in [(h, 2 * d), (d, h)])
    b_in, b_out = random(h, dtype=dtype, seed=4), random(d, dtype=dtype, seed=5)

    def by_torch(messages, rows, reversed_):
        inner = nn.functional.linear(plain(torch.cat([rows, reversed_], 1)), w_in, b_in)
        second = nn.functional.linear(nn.functional.silu(inner), w_out, b_out)
        return messages + rows + second

    return (*norm, w_in, b_in, w_out, b_out), by_torch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [5, 24, 70])
@pytest.mark.parametrize("kind", ["RMSNorm", "LayerNorm"])
def test_combine(device, kind, d, dtype):
    arguments, by_torch = combine_arguments(kind, d, dtype)
    compare(
        device,
        lambda *three: kernels.combine(*three, *on(device, arguments)),
        by_torch,
        *[random(9, d, dtype=dtype, seed=k) for k in range(3)],
    )


@pytest.mark.parametrize("kind", ["RMSNorm", "LayerNorm"])
def test_combine_again_gives_the_same_bits(device, kind):
    arguments = on(device, combine_arguments(kind, 24, torch.float64)[0])
    three = [random(9, 24, seed=k).to(device) for k in range(3)]

    def run():
        return with_gradients(lambda *x: kernels.combine(*x, *arguments), *three)

    kept = run()
    for tier in ("wide", "layers"):
        kernels.choose_memory_tier(tier)
        try:
            again = run()
        finally:
            kernels.choose_memory_tier("keep")
        for a, b in zip(kept, again, strict=True):
            assert torch.equal(a, b)


def test_what_combine_refuses(device):
    arguments = on(device, combine_arguments("LayerNorm", 4, torch.float64)[0])
    x = random(3, 4).to(device).requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"combine: messages .* do not fit weights"):
        kernels.combine(x, x, x[:2], *arguments)
    with pytest.raises(RuntimeError, match=r"`gain` has 4 numbers for rows of 8"):
        kernels.combine(x, x, x, "RMSNorm", arguments[1][:4], *arguments[2:])
    with pytest.raises(RuntimeError, match=r"combine has no norm"):
        kernels.combine(x, x, x, "none", *arguments[1:])
    y = kernels.combine(x, x, x, *arguments)
    with pytest.raises(RuntimeError, match=r"second derivatives"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
    arguments[4].requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"a weight .* asks for a gradient"):
        kernels.combine(x, x, x, *arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 40])
def test_sum_by_center_of_equal_weights(device, width, dtype):
    counts = [2, 0, 35, 1]
    starts = torch.tensor([0, *counts]).cumsum(0)
    centers = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    compare(
        device,
        lambda r, b: kernels.sum_by_center(r, r.new_zeros(0), starts.to(device), b),
        lambda r, b: b.index_add(0, centers, r),
        random(38, width, dtype=dtype),
        random(4, width, dtype=dtype, seed=2),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 40])
def test_sum_by_center(device, width, dtype):
    counts = [2, 0, 35, 1]
    starts = torch.tensor([0, *counts]).cumsum(0)
    centers = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    compare(
        device,
        lambda r, w, b: kernels.sum_by_center(r, w, starts.to(device), b),
        lambda r, w, b: b.index_add(0, centers, r * w[:, None]),
        random(38, width, dtype=dtype),
        random(38, dtype=dtype, seed=1),
        random(4, width, dtype=dtype, seed=2),
    )


def test_order_of_the_lanes_does_not_matter():
    starts = torch.tensor([0, 40, 40, 44])
    qkv, log_weights = random(47, 3 * 2 * 20), -random(44, seed=3).abs()
    norm, _ = norm_of("LayerNorm", 40, torch.float64)
    w = random(40, 40, seed=4)
    arguments, _ = combine_arguments("LayerNorm", 40, torch.float64)

    def all_of_it():
        return [
            *with_gradients(
                lambda x, b: kernels.attention(x, b, starts, 2, 0.3), qkv, log_weights
            ),
            *with_gradients(
                lambda x: kernels.mlp(x, *norm, w, w[0], w, w[1], "SiLU", True, True), w
            ),
            *with_gradients(
                lambda x, y, z: kernels.combine(x, y, z, *arguments),
                *[random(9, 40, seed=k) for k in range(3)],
            ),
            *with_gradients(
                lambda r, v: kernels.sum_by_center(r, v, starts, r[:3]),
                w[:, :1].repeat(2, 1)[:44],
                log_weights,
            ),
        ]

    assert_same_in_reverse(all_of_it)


def test_too_wide_a_head(device):
    qkv, nothing = random(1, 3 * 129).to(device), random(0).to(device)
    with pytest.raises(RuntimeError, match=r"heads are 129 wide, .* at most 128"):
        kernels.attention(qkv, nothing, torch.tensor([0, 0]).to(device), 1, 1.0)


def test_mixed_data_types_are_named(device):
    x, w = random(2, 4).to(device), random(4, 4, dtype=torch.float32).to(device)
    nothing = x.new_zeros(0)
    with pytest.raises(RuntimeError, match=r"move and convert the whole model"):
        kernels.norm_linear(x, "none", nothing, nothing, 0.0, w, w[0])


def test_second_derivatives_are_refused(device):
    x = random(3, 6).to(device).requires_grad_(True)
    y = kernels.attention(x, x[0, :2], torch.tensor([0, 2], device=device), 1, 1.0)
    with pytest.raises(RuntimeError, match=r"second derivatives"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)
