"""The tensor stage: closed forms, ranks, turning, and changes of basis."""

import math

import pytest
import torch
from graphs import make_graph
from structures import ethanol
from variants import ATOMIC_NUMBERS, TINY

from petmad._engine import Engine
from petmad.export import export_model
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.model.spherical import CARTESIAN_BLOCKS, cartesian_rows, wigner
from petmad.model.tensors import (
    CoupledBasis,
    MaximalCoupling,
    column_choices,
    ladder,
)


BLOCKS = [(order, parity) for order in range(5) for parity in (1, -1)]
EXACT = 1e-14


def vectors(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, dtype=torch.float64, generator=generator)


def test_first_order_is_y_z_x():
    (a,) = vectors(1, 4)
    found = MaximalCoupling((1, 1)).double()([a])
    torch.testing.assert_close(found, a[:, [1, 2, 0]], atol=EXACT, rtol=0)


def test_second_order_closed_form():
    a, b = vectors(2, 6)
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    expected = [
        (ax * by + ay * bx) / math.sqrt(2),
        (ay * bz + az * by) / math.sqrt(2),
        (2 * az * bz - ax * bx - ay * by) / math.sqrt(6),
        (ax * bz + az * bx) / math.sqrt(2),
        (ax * bx - ay * by) / math.sqrt(2),
    ]
    found = MaximalCoupling((2, 1)).double()([a, b])
    torch.testing.assert_close(found, torch.stack(expected, 1), atol=EXACT, rtol=0)


@pytest.mark.parametrize("order", [3, 4])
def test_higher_orders_are_harmonic_polynomials(order):
    """Of one vector: homogeneous, without Laplacian, and of the known length."""
    coupling = MaximalCoupling((order, 1)).double()
    r = vectors(5)
    values = coupling([r] * order)
    length = math.factorial(order) / math.prod(range(1, 2 * order, 2))
    torch.testing.assert_close(
        values.square().sum(1), length * r.square().sum(1) ** order
    )
    torch.testing.assert_close(coupling([2 * r] * order), 2**order * values)
    for m in range(2 * order + 1):
        hessian = torch.func.hessian(lambda x, m=m: coupling([x] * order)[m])(r[0])
        assert abs(float(hessian.diagonal().sum())) < 1e-12
        assert float(hessian.abs().max()) > 0.1


@pytest.mark.parametrize("order", [2, 3, 4])
def test_couplings_are_symmetric(order):
    several = list(vectors(order, 3))
    coupling = MaximalCoupling((order, 1)).double()
    torch.testing.assert_close(
        coupling(several), coupling(several[::-1]), atol=EXACT, rtol=1e-13
    )


def test_pseudo_couplings_by_hand():
    a, b, c = vectors(3, 4)
    triple = torch.linalg.det(torch.stack([a, b, c], 1))
    torch.testing.assert_close(
        MaximalCoupling((0, -1)).double()([a, b, c])[:, 0], triple
    )
    crossed = torch.linalg.cross(a, b)
    torch.testing.assert_close(
        MaximalCoupling((1, -1)).double()([a, b]),
        crossed[:, [1, 2, 0]],
        atol=EXACT,
        rtol=0,
    )
    torch.testing.assert_close(
        MaximalCoupling((2, -1)).double()([a, b, c]),
        MaximalCoupling((2, 1)).double()([crossed, c]),
    )


# Ranks of the bases of three vectors: the table of the tensor design note, section 3.2,
# and of section 5 for pseudotensors.
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ranks(order):
    q = vectors(20, 3)
    coplanar = q.clone()
    coplanar[:, 2] = 0.3 * q[:, 0] - 1.7 * q[:, 1]
    collinear = q[:, :1] * torch.tensor([1.0, 0.4, -2.0])[:, None]
    for parity, expected in [
        (1, [2 * order + 1, order + 1, 1, 0]),
        (-1, [2 * order + 1, order, 0, 0]),
    ]:
        basis = CoupledBasis((order, parity)).double()
        assert basis.n_columns == 2 * order + 1
        for some, rank in zip(
            (q, coplanar, collinear, torch.zeros_like(q)), expected, strict=True
        ):
            found = torch.linalg.matrix_rank(basis(some), atol=1e-9)
            assert found.tolist() == [rank] * 20


def test_columns_of_second_order():
    assert column_choices((2, 1)) == [(0, 0), (1, 1), (0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_turn(block, improper):
    rotation = torch.linalg.qr(vectors(3, seed=2))[0]
    rotation = rotation * torch.linalg.det(rotation).sign() * (-1 if improper else 1)
    basis, q = CoupledBasis(block).double(), vectors(8, 3)
    turned = basis(q @ rotation.T)
    matrix = wigner(block, rotation)
    scale = float(turned.abs().max())
    difference = turned - basis(q) @ matrix.T
    assert float(difference.abs().max()) < 1e-13 * scale
    identity = torch.eye(len(matrix), dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.T, identity, atol=1e-13, rtol=0)


@pytest.mark.parametrize("block", BLOCKS)
def test_inversion_alone(block):
    order, parity = block
    basis, q = CoupledBasis(block).double(), vectors(8, 3)
    assert torch.equal(basis(-q), parity * (-1) ** order * basis(q))


def test_wigner_of_a_product():
    a, b = (torch.linalg.qr(vectors(3, seed=s))[0] for s in (3, 4))
    for block in BLOCKS:
        torch.testing.assert_close(
            wigner(block, a @ b), wigner(block, a) @ wigner(block, b)
        )


@pytest.mark.parametrize("order", range(1, 7))
def test_ladders_have_orthonormal_rows(order):
    rows = ladder(order).flatten(1)
    identity = torch.eye(2 * order + 1, dtype=torch.float64)
    torch.testing.assert_close(rows @ rows.T, identity, atol=EXACT, rtol=0)


def test_matrix_components_by_hand():
    a = vectors(3)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = a.tolist()
    expected = [
        -(xx + yy + zz) / 3**0.5,
        (zx - xz) / 2**0.5,
        (xy - yx) / 2**0.5,
        (yz - zy) / 2**0.5,
        (xy + yx) / 2**0.5,
        (yz + zy) / 2**0.5,
        (2 * zz - xx - yy) / 6**0.5,
        (xz + zx) / 2**0.5,
        (xx - yy) / 2**0.5,
    ]
    found = cartesian_rows("matrix") @ a.flatten()
    assert found.tolist() == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("kind", CARTESIAN_BLOCKS)
def test_round_trip(kind):
    rows = cartesian_rows(kind)
    entries = vectors(7, 3).reshape(7, -1)[:, : rows.shape[1]]
    if kind == "symmetric":
        square = entries.reshape(7, 3, 3)
        entries = (square + square.transpose(1, 2)).flatten(1)
    back = (entries @ rows.T) @ rows
    torch.testing.assert_close(back, entries, atol=EXACT, rtol=0)


@pytest.mark.parametrize("kind", CARTESIAN_BLOCKS)
def test_blocks_turn_as_their_entries_do(kind):
    rotation = -torch.linalg.qr(vectors(3, seed=5))[0]
    rows = cartesian_rows(kind)
    matrix = torch.block_diag(
        *(wigner(block, rotation) for block in CARTESIAN_BLOCKS[kind])
    )
    turn = {1: torch.ones(1, 1), 3: rotation, 9: torch.kron(rotation, rotation)}
    turn = turn[rows.shape[1]].double()
    if kind == "axial_vector":
        turn = turn * torch.linalg.det(rotation)
    torch.testing.assert_close(rows @ turn, matrix @ rows, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "tensor"}, "`kind` of target 'x' must be one of energy, .*spherical"),
        ({"readout": "magic"}, "`readout` of target 'x' must be one of edge, node"),
        ({"order": 5}, "`order` of target 'x' must be 0 to 4 and `parity` 1 or -1"),
        ({"parity": 0}, "got 0 and 0"),
    ],
)
def test_wrong_specs_are_explained(values, message):
    with pytest.raises(ValueError, match=message):
        TargetSpec("x", **{"kind": "spherical", **values})


@pytest.mark.parametrize("readout", ["edge", "node", "exact", "direct"])
def test_scripted_readouts_agree_with_eager(readout):
    torch.manual_seed(0)
    specs = [TargetSpec("m", "matrix", readout=readout)]
    specs += [
        TargetSpec(f"{order}{parity}", "spherical", order=order, parity=parity)
        for order, parity in BLOCKS
    ]
    model = Potential(PETConfig(**TINY), ATOMIC_NUMBERS, specs).double()
    graph = make_graph([ethanol()], TINY["cutoff"])
    eager = model(graph, model.target_names)
    with torch.jit.optimized_execution(False):
        scripted = torch.jit.script(model)(graph, model.target_names)
    assert eager["m"].shape == (9, 9)
    for spec in specs:
        assert torch.equal(scripted[spec.name], eager[spec.name])
        assert float(eager[spec.name].detach().abs().max()) > 0


def test_constants_survive_a_change_of_precision():
    a, b = vectors(2, 6)
    coupling = MaximalCoupling((2, 1)).float().double()
    assert torch.equal(coupling([a, b]), MaximalCoupling((2, 1)).double()([a, b]))
    assert MaximalCoupling((2, 1))([a.float(), b.float()]).dtype == torch.float32


def test_exported_files_hold_tensors(tmp_path):
    """Beside the energy; the engine reads the energy, TorchScript both."""
    specs = [TargetSpec(), TargetSpec("dipole", "vector")]
    model = Potential(PETConfig(**TINY), ATOMIC_NUMBERS, specs)
    metadata = export_model(model, tmp_path / "model.pt", "float64")
    assert metadata["targets"][1]["kind"] == "vector"
    loaded = torch.jit.load(tmp_path / "model.pt")
    graph = make_graph([ethanol()], TINY["cutoff"])
    with torch.jit.optimized_execution(False):
        found = loaded(*graph, ["energy", "dipole"])
    expected = model.double()(graph, ["energy", "dipole"])
    for name in ("energy", "dipole"):
        torch.testing.assert_close(found[name], expected[name])
    assert Engine(str(tmp_path / "model.pt")).check_golden() < 1e-10


def test_scale_multiplies_components_and_composition_adds():
    model = Potential(
        PETConfig(**TINY), ATOMIC_NUMBERS, [TargetSpec("p", "symmetric")]
    ).double()
    graph = make_graph([ethanol()], TINY["cutoff"])
    raw = model(graph, ["p"], raw=True)["p"]
    model.scales[0].data[:, 0] = 2.0
    model.scales[0].data[:, 1:] = 3.0
    model.compositions[0].data[:, 0] = -(3.0**0.5)
    components = raw * torch.tensor([2.0] + [3.0] * 5) + 0.0
    components[:, 0] -= 3.0**0.5
    found = model(graph, ["p"])["p"].reshape(-1, 3, 3)
    torch.testing.assert_close(found, found.transpose(1, 2), atol=1e-14, rtol=0)
    torch.testing.assert_close(
        found.flatten(1) @ cartesian_rows("symmetric").T, components
    )
    trace = found.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, 3.0 - 2.0 * 3.0**0.5 * raw[:, 0])
