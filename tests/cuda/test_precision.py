"""What tf32 and fp16 do to a product, and what they leave alone."""

import pytest
import torch
from cuda_tools import kernels


@pytest.fixture
def product(device):
    """X @ wᵀ of float32 or float64 rows in a named precision."""

    def multiply(x, w, precision):
        x, w = x.to(device), w.to(device)
        nothing, zero = x.new_zeros(0), x.new_zeros(len(w))
        kernels.choose_precision(precision)
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        return kernels.norm_linear(x, "none", nothing, nothing, 0.0, w, zero).cpu()

    yield multiply
    kernels.choose_precision("auto")
    torch.backends.cuda.matmul.allow_tf32 = False


def rows(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def test_bits_that_reach_the_product(product):
    one = torch.ones(1, 1)
    x = torch.tensor([[1.0 + 2.0**-10], [1.0 + 2.0**-12], [1.0 + 2.0**-24]])
    assert product(x, one, "fp32")[:, 0].tolist() == [1 + 2**-10, 1 + 2**-12, 1.0]
    for precision in ("tf32", "fp16"):  # both have ten bits
        assert product(x, one, precision)[:, 0].tolist() == [1 + 2**-10, 1.0, 1.0]


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_error_is_relative(product, precision, scale):
    x, w = rows(40, 64), rows(30, 64, seed=1)
    exact = x.double() @ w.double().T
    found = product(scale * x, w, precision).double() / scale
    error = (found - exact).norm() / exact.norm()
    assert 5e-5 < error < 1e-3  # 2^-11 per factor, and not none


def test_default_is_exact_to_float32(product):
    x, w = rows(40, 64), rows(30, 64, seed=1)
    error = (product(x, w, "auto").double() - x.double() @ w.double().T).abs().max()
    assert error < 1e-4


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_float64_stays_float64(product, precision):
    x, w = rows(5, 8, dtype=torch.float64), rows(4, 8, dtype=torch.float64)
    torch.testing.assert_close(product(x, w, precision), x @ w.T, rtol=0, atol=1e-14)


def test_zeros_in_fp16(product):
    assert torch.equal(
        product(torch.zeros(2, 3), rows(4, 3), "fp16"), torch.zeros(2, 4)
    )


def test_unknown_precision():
    with pytest.raises(RuntimeError, match="fp64, fp32, tf32 or fp16, got 'half'"):
        kernels.choose_precision("half")
