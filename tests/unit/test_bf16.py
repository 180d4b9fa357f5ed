"""Products in bfloat16, on processors that have them, and what is said elsewhere."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cpu_features import needs_bf16
from structures import crystal
from variants import make_potential

from petmad._engine import Engine
from petmad.export import export_model


ops = torch.ops.petmad


@pytest.fixture
def bf16():
    torch.ops.petmad_cuda.choose_precision("bf16")
    yield
    torch.ops.petmad_cuda.choose_precision("auto")


def rows(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def product(x, w, b):
    """``x @ wᵀ + b`` and its gradient in x, by the operator."""
    none = torch.zeros(0)
    x = x.clone().requires_grad_(True)
    y = ops.norm_linear(x, "none", none, none, 0.0, w, b)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient


def rounded(values):
    return values.bfloat16().double()


@needs_bf16
@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize(
    ("n", "k", "m"),
    [
        (1, 1, 1),
        (13, 7, 33),
        (100, 385, 70),
        (97, 512, 96),
        (25, 1037, 40),
        (5, 64, 16),
    ],
)
def test_only_the_factors_are_rounded(n, k, m):
    x, w, b = rows(n, k, seed=1), rows(m, k, seed=2), rows(m, seed=3)
    y, gradient = product(x, w, b)
    wanted = rounded(x) @ rounded(w).T + b.double()
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-5 * k**0.5)
    wanted = rounded(torch.ones(n, m)) @ rounded(w)
    torch.testing.assert_close(gradient.double(), wanted, rtol=0, atol=1e-5 * m**0.5)


@needs_bf16
@pytest.mark.usefixtures("bf16")
def test_rows_do_not_depend_on_others():
    x, w, b = rows(200, 96, seed=1), rows(48, 96, seed=2), rows(48, seed=3)
    together = product(x, w, b)[0]
    for row in (0, 95, 96, 199):
        assert torch.equal(product(x[row : row + 1], w, b)[0][0], together[row])


@needs_bf16
@pytest.mark.usefixtures("bf16")
def test_float64_stays_float64():
    x, w, b = (rows(*shape, seed=1).double() for shape in [(5, 8), (4, 8), (4,)])
    none = torch.zeros(0)
    y = ops.norm_linear(x, "none", none.double(), none.double(), 0.0, w, b)
    torch.testing.assert_close(y, x @ w.T + b, rtol=0, atol=1e-13)


@needs_bf16
@pytest.mark.usefixtures("bf16")
def test_another_library_is_refused():
    ops.choose_product_library("blas")
    try:
        with pytest.raises(RuntimeError, match=r"bf16.*products are left to blas"):
            product(rows(2, 3, seed=1), rows(4, 3, seed=2), torch.zeros(4))
    finally:
        ops.choose_product_library("petmad")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bf16") / "model.pt"
    export_model(make_potential("modern"), path, dtype="float32")
    return str(path)


def forces(engine):
    atoms = crystal()
    species = np.searchsorted(engine.info.atomic_numbers, atoms.numbers).astype("i4")
    return engine.evaluate(atoms.positions, species, atoms.cell, atoms.pbc)["forces"]


@needs_bf16
def test_engine_is_near_float32_and_judges_its_file_exactly(model):
    narrow = Engine(model, "cpu", 0, True, "bf16")  # the file's self test is in float32
    assert narrow.precision == "bf16"
    found, exact = forces(narrow), forces(Engine(model))
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.05


def test_kernels_without_it_say_so(model):
    chosen = ops.instruction_set()
    ops.choose_instruction_set("baseline")
    try:
        with pytest.raises(ValueError, match=r"are baseline .* lacks .*; use fp32"):
            Engine(model, "cpu", 0, True, "bf16")
    finally:
        ops.choose_instruction_set(chosen)


def test_float64_files_are_not_narrowed(tmp_path):
    path = tmp_path / "double.pt"
    export_model(make_potential("modern"), path, "float64")
    with pytest.raises(ValueError, match="is bf16, but the model file holds float64"):
        Engine(str(path), "cpu", 0, True, "bf16")


@needs_bf16
def test_engines_in_threads_keep_to_their_own_precision(model):
    """What products run in is the process's: one has to wait for the other."""
    engines = [Engine(model, "cpu", 0, True, name) for name in ("fp32", "bf16")]
    alone = [forces(engine) for engine in engines]
    assert np.abs(alone[0] - alone[1]).max() > 0

    def many(k):
        return [forces(engines[k]) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        for k, found in zip([0, 1, 0, 1], pool.map(many, [0, 1, 0, 1]), strict=True):
            for one in found:
                np.testing.assert_array_equal(one, alone[k])
