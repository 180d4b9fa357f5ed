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
