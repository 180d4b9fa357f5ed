"""What the fast operators refuse, and their choice of kernels."""

import pytest
import torch

from petmad._ops import load_ops


load_ops()
ops = torch.ops.petmad
NOTHING = torch.zeros(0)


def rows(n=3, width=4):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(0))


def run_mlp(x, w_in=None, activation="SiLU", norm="none"):
    w_in = rows(6, 4) if w_in is None else w_in
    return ops.mlp(
        x,
        norm,
        NOTHING,
        NOTHING,
        0.0,
        w_in,
        torch.zeros(len(w_in)),
        rows(4, 6),
        torch.zeros(4),
        activation,
        False,
        False,
    )


def test_second_derivatives_are_refused():
    x = rows().requires_grad_(True)
    energy = run_mlp(x).square().sum()
    with pytest.raises(RuntimeError, match=r"second derivatives .* load the check"):
        torch.autograd.grad(energy, x, create_graph=True)


def test_gradients_of_weights_are_refused():
    weight = rows(6, 4).requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"for inference: train the checkpoint"):
        run_mlp(rows(), weight)


def test_shapes_that_do_not_fit():
    with pytest.raises(RuntimeError, match=r"do not fit weights"):
        run_mlp(rows(width=5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "ReLU"}, "must be SwiGLU or SiLU"),
        ({"norm": "BatchNorm"}, "must be none, RMSNorm or LayerNorm"),
    ],
)
def test_unknown_names(changes, message):
    with pytest.raises(RuntimeError, match=message):
        run_mlp(rows(), **changes)


def test_attention_wants_one_row_per_center_and_edge():
    with pytest.raises(RuntimeError, match=r"one row per center and edge"):
        ops.attention(rows(5, 12), torch.zeros(1), torch.tensor([0, 1, 1]), 2, 1.0)


@pytest.mark.parametrize("starts", [[0, 3, 2], [1, 1, 2], [0, 0, 1]])
def test_attention_wants_starts_that_ascend_to_the_end(starts):
    with pytest.raises(
        RuntimeError, match=r"starts must ascend from 0 .*, 2, in one p"
    ):
        ops.attention(rows(4, 12), torch.zeros(2), torch.tensor(starts), 2, 1.0)


def test_edges_must_be_sorted_by_center():
    with pytest.raises(RuntimeError, match=r"center of edge 1 is 0; .* sorted"):
        ops.edge_starts(torch.tensor([1, 0]), 2)
    assert ops.edge_starts(torch.tensor([0, 0, 2]), 4).tolist() == [0, 2, 2, 3, 3]


def run_compress(**changes):
    given = {
        "geometry": rows(2, 4),
        "messages": rows(2, 0),
        "species": torch.tensor([0, 1]),
        "table": rows(2, 6),
        "w_geometry": rows(4, 6),
        "w_message": torch.zeros(6, 0),
        "w_out": rows(4, 6),
        "b_out": torch.zeros(4),
    }
    return ops.compress(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"messages": rows(3, 0)}, r"do not fit together; pass one row per edge"),
        ({"w_message": rows(6, 5)}, r"do not fit a table .*the layer's own weights"),
        ({"b_out": torch.zeros(3)}, r"do not fit a table"),
    ],
)
def test_compress_wants_shapes_that_fit(changes, message):
    assert run_compress().shape == (2, 4)
    with pytest.raises(RuntimeError, match=message):
        run_compress(**changes)


def test_norm_linear_wants_one_bias_per_column():
    arguments = ("none", NOTHING, NOTHING, 0.0, rows(6, 4))
    assert ops.norm_linear(rows(), *arguments, torch.zeros(6)).shape == (3, 6)
    with pytest.raises(RuntimeError, match=r"do not fit weights .*own weights"):
        ops.norm_linear(rows(), *arguments, torch.zeros(5))


def run_combine(**changes):
    given = {
        "messages": rows(),
        "rows": rows(),
        "reversed": rows(),
        "norm": "LayerNorm",
        "gain": torch.ones(8),
        "bias": torch.zeros(8),
        "epsilon": 1e-5,
        "w_in": rows(6, 8),
        "b_in": torch.zeros(6),
        "w_out": rows(4, 6),
        "b_out": torch.zeros(4),
    }
    return ops.combine(**{**given, **changes})


@pytest.mark.parametrize("wrong", [{"rows": rows(2)}, {"w_in": rows(6, 4)}])
def test_combine_wants_one_row_per_edge(wrong):
    assert run_combine().shape == (3, 4)
    with pytest.raises(RuntimeError, match=r"do not fit weights .*one row per edge"):
        run_combine(**wrong)


def test_distinct_rows_and_their_gradient():
    x = rows(5, 3).requires_grad_(True)
    index = torch.tensor([4, 0, 2])
    y = ops.distinct_rows(x, index)
    assert torch.equal(y, x.detach()[index])
    (gradient,) = torch.autograd.grad(y, x, rows(3, 3))
    assert torch.equal(gradient, torch.zeros(5, 3).index_add(0, index, rows(3, 3)))


@pytest.mark.parametrize("index", [[0, 0], [0, 5], [-1, 0]])
def test_rows_that_are_not_distinct(index):
    with pytest.raises(RuntimeError, match=r"must be distinct, and from 0 to 4"):
        ops.distinct_rows(rows(5, 3), torch.tensor(index))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ops.instruction_sets())
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [(1, 1, 1), (13, 7, 33), (100, 385, 70), (97, 512, 96), (25, 1024, 32), (5, 0, 4)],
)
def test_products_of_every_shape(n, k, m, name, dtype):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, k, generator=generator, dtype=torch.float64)
    w = torch.randn(m, k, generator=generator, dtype=torch.float64)
    b = torch.randn(m, generator=generator, dtype=torch.float64)
    ops.choose_instruction_set(name)
    ops.choose_product_library("petmad")
    none = torch.zeros(0, dtype=dtype)
    x_, w_, b_ = (values.to(dtype) for values in (x, w, b))
    x_.requires_grad_(True)
    y = ops.norm_linear(x_, "none", none, none, 0.0, w_, b_)
    (gradient,) = torch.autograd.grad(y.sum(), x_)
    ops.choose_instruction_set(ops.instruction_sets()[0])
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    scale = max(k, m) ** 0.5 * 10
    wanted = x_.detach().double() @ w_.double().T + b_.double()
    assert (y - wanted).abs().max() <= tolerance * scale
    assert (gradient - w_.double().sum(0)).abs().sum() <= tolerance * scale * n * (
        k + 1
    )


def test_packed_weights_follow_their_weight():
    before = ops.product_library()
    ops.choose_product_library("petmad")
    weight = rows(6, 4)
    arguments = ("none", NOTHING, NOTHING, 0.0, weight, torch.zeros(6))
    first = ops.norm_linear(rows(), *arguments)
    held = ops.packed_bytes()
    weight.mul_(2.0)
    torch.testing.assert_close(ops.norm_linear(rows(), *arguments), 2.0 * first)
    assert ops.packed_bytes() <= held  # packed again in place of the old
    ops.choose_product_library(before)


def test_species_outside_the_table():
    with pytest.raises(RuntimeError, match=r"species of edge 1 is 2; .* 0 to 1"):
        run_compress(species=torch.tensor([0, 2]))


def test_instruction_set_by_name():
    names = ops.instruction_sets()
    assert names[-1] == "baseline"
    assert ops.instruction_set() == names[0]
    with pytest.raises(RuntimeError, match=r"'mmx' is not available.*baseline"):
        ops.choose_instruction_set("mmx")


def test_product_library_by_name():
    assert ops.product_library() in ("blas", "petmad")
    with pytest.raises(
        RuntimeError, match=r"'atlas' is not available.*choose petmad, blas"
    ):
        ops.choose_product_library("atlas")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silu_far_out_stays_finite(dtype):
    x = torch.tensor([[-1e4, -90.0, -1.0, 0.0], [1.0, 90.0, 800.0, 1e4]], dtype=dtype)
    eye = torch.eye(4, dtype=dtype)
    zero = torch.zeros(4, dtype=dtype)
    nothing = x.new_zeros(0)
    arguments = ("none", nothing, nothing, 0.0, eye, zero, eye, zero, "SiLU")
    y = ops.mlp(x, *arguments, False, False)
    wanted = torch.nn.functional.silu(x)
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-30)
