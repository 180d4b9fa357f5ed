"""What tf32 and fp16 do to a product, and what they leave alone."""

import pytest
import torch
from cuda_tools import kernels
from structures import crystal
from variants import make_potential

from petmad._engine import Engine
from petmad.export import export_model


def multiply(device, x, w, precision):
    """``x @ wᵀ`` by an operator in a named precision."""
    x, w = x.to(device), w.to(device)
    nothing, zero = x.new_zeros(0), x.new_zeros(len(w))
    kernels.choose_precision(precision)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        y = kernels.norm_linear(x, "none", nothing, nothing, 0.0, w, zero)
    finally:
        kernels.choose_precision("auto")
        torch.backends.cuda.matmul.allow_tf32 = False
    return y.cpu()


def rows(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def test_bits_that_reach_an_emulated_product():
    one, host = torch.ones(1, 1), torch.device("cpu")
    x = torch.tensor([[1.0 + 2.0**-10], [1.0 + 2.0**-12], [1.0 + 2.0**-24]])
    exact = multiply(host, x, one, "fp32")[:, 0].tolist()
    assert exact == [1 + 2**-10, 1 + 2**-12, 1.0]
    for precision in ("tf32", "fp16"):  # both have ten bits
        rounded = multiply(host, x, one, precision)[:, 0].tolist()
        assert rounded == [1 + 2**-10, 1.0, 1.0]


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_error_is_relative(device, precision, scale):
    x, w = rows(256, 512), rows(384, 512, seed=1)
    exact = x.double() @ w.double().T
    found = multiply(device, scale * x, w, precision).double() / scale
    error = (found - exact).norm() / exact.norm()
    assert 5e-5 < error < 1e-3  # 2^-11 per factor, and not none


def test_default_is_exact_to_float32(device):
    x, w = rows(40, 64), rows(30, 64, seed=1)
    error = (
        (multiply(device, x, w, "auto").double() - x.double() @ w.double().T)
        .abs()
        .max()
    )
    assert error < 1e-4


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_float64_stays_float64(device, precision):
    x, w = rows(5, 8, dtype=torch.float64), rows(4, 8, dtype=torch.float64)
    found = multiply(device, x, w, precision)
    torch.testing.assert_close(found, x @ w.T, rtol=0, atol=1e-14)


def test_zeros_in_fp16(device):
    found = multiply(device, torch.zeros(2, 3), rows(4, 3), "fp16")
    assert torch.equal(found, torch.zeros(2, 4))


def test_unknown_precision():
    with pytest.raises(RuntimeError, match="fp32, tf32, fp16 or bf16, got 'half'"):
        kernels.choose_precision("half")


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Engines of one exported file by precision."""
    path = tmp_path_factory.mktemp("precision") / "model.pt"
    export_model(make_potential("modern"), path, dtype="float32")
    return lambda precision, **more: Engine(str(path), precision=precision, **more)


def evaluate(engine):
    structure = crystal()
    species = [list(engine.info.atomic_numbers).index(z) for z in structure.numbers]
    return engine.evaluate(
        structure.positions, species, structure.cell, [bool(p) for p in structure.pbc]
    )


def test_engine_in_float64(engines):
    single, double = engines("auto"), engines("fp64")
    assert (single.precision, double.precision) == ("fp32", "fp64")
    assert engines("fp32").precision == "fp32"
    coarse, exact = evaluate(single), evaluate(double)
    difference = abs(coarse["forces"] - exact["forces"]).max()
    assert 1e-9 < difference < 1e-4 * abs(exact["forces"]).max()


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_engine_on_a_cpu_names_the_remedy(engines, precision):
    message = rf"`precision` is {precision}, which only GPUs .* use fp32 or fp64, or"
    with pytest.raises(ValueError, match=message):
        engines(precision)
    with pytest.raises(ValueError, match="auto, fp64, fp32, tf32, fp16 or bf16"):
        engines("double")


def test_float64_file_is_not_narrowed(tmp_path):
    path = tmp_path / "model.pt"
    export_model(make_potential("modern"), path, dtype="float64")
    assert Engine(str(path)).precision == "fp64"
    with pytest.raises(ValueError, match=r"holds float64 weights; use fp64, or export"):
        Engine(str(path), precision="fp32")
