"""Tensor targets of whole models: symmetries, smoothness, derivatives, special sites.

Thresholds are those of the design note on tensors, section 11.
"""

import numpy as np
import pytest
import torch
from finite_differences import assert_derivative
from graphs import make_graph
from kept_edges import bisect_change
from structures import Structure, ethanol, random_structure, slab, triclinic
from variants import ATOMIC_NUMBERS, TINY, VARIANTS

from petmad.model import PETConfig, Potential, TargetSpec
from petmad.model.derivatives import position_derivatives
from petmad.model.spherical import wigner


READOUTS = ["edge", "node", "exact", "direct"]
SPECS = {
    f"{order}{'+' if parity > 0 else '-'}": (order, parity)
    for order in range(5)
    for parity in (1, -1)
}


def make_model(readout="exact", variant="modern", specs=None, **changes):
    """A float64 model of all blocks up to order 4, energy beside them."""
    torch.manual_seed(1)
    specs = specs or [
        TargetSpec(name, "spherical", order=order, parity=parity, readout=readout)
        for name, (order, parity) in SPECS.items()
    ]
    config = PETConfig(**{**TINY, **VARIANTS[variant], **changes})
    return Potential(config, ATOMIC_NUMBERS, [TargetSpec(), *specs]).double()


def tensors(model, structures):
    """All tensor targets per atom."""
    if isinstance(structures, Structure):
        structures = [structures]
    graph = make_graph(structures, model.config.cutoff)
    results = model(graph, model.target_names[1:])
    return {name: value.detach() for name, value in results.items()}


def assert_close(ours, expected, tolerance):
    """Relative to the largest component."""
    scale = float(expected.abs().max())
    assert scale > 0
    assert float((ours - expected).abs().max()) < tolerance * scale


def turn(seed):
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * (-1 if seed % 2 else 1) * np.sign(np.linalg.det(q))


@pytest.mark.parametrize("variant", ["modern", "adaptive_solver"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)]
)
def test_exact_scalars_turn_exactly(variant, dtype, tolerance):
    """Twenty structures, half of them inverted as well, all orders and parities."""
    model = make_model(variant=variant).to_dtype(dtype)
    for seed in range(20):
        structure, rotation = random_structure(seed), turn(seed)
        turned = structure.changed(
            positions=structure.positions @ rotation.T,
            cell=structure.cell @ rotation.T,
        )
        before, after = tensors(model, structure), tensors(model, turned)
        for name, block in SPECS.items():
            matrix = wigner(block, torch.from_numpy(rotation))
            assert_close(after[name], before[name] @ matrix.T, tolerance)


def test_the_other_readouts_turn_only_as_far_as_they_learned():
    """If this fails, the test above turned nothing."""
    structure, rotation = ethanol(), turn(1)
    turned = structure.changed(positions=structure.positions @ rotation.T)
    matrix = wigner((1, 1), torch.from_numpy(rotation))
    for readout in ("edge", "node", "direct"):
        model = make_model(readout)
        before, after = tensors(model, structure)["1+"], tensors(model, turned)["1+"]
        assert float((after - before @ matrix.T).abs().max()) > 1e-3


@pytest.mark.parametrize("readout", READOUTS)
def test_permutation_translation_and_wrapping(readout):
    model, structure = make_model(readout), triclinic()
    before = tensors(model, structure)
    order = np.random.default_rng(0).permutation(len(structure))
    shifts = np.random.default_rng(3).integers(-2, 3, (len(structure), 3))
    moved = structure.positions + [3.2, -17.3, 8.1] + shifts @ structure.cell
    after = tensors(
        model,
        structure.changed(numbers=structure.numbers[order], positions=moved[order]),
    )
    for name in SPECS:
        assert_close(after[name], before[name][order], 1e-10)


@pytest.mark.parametrize("readout", READOUTS)
def test_extensivity(readout):
    model, one = make_model(readout), ethanol()
    shaken = one.positions + 0.1 * np.random.default_rng(5).normal(size=(9, 3))
    one = one.changed(positions=shaken)  # no mirror plane
    far = shaken + np.array([50.0, 0.0, 0.0])
    both = one.changed(
        numbers=np.tile(one.numbers, 2), positions=np.concatenate([one.positions, far])
    )
    single, double = tensors(model, one), tensors(model, both)
    for name in SPECS:
        total = single[name].sum(0)
        assert_close(double[name].sum(0), 2 * total, 1e-8)


@pytest.mark.parametrize("variant", ["modern", "adaptive_solver"])
@pytest.mark.parametrize("readout", READOUTS)
def test_continuous_where_an_atom_leaves(readout, variant):
    model, molecule = make_model(readout, variant), ethanol()
    outermost = molecule.positions[:, 0].max()

    def at(distance):
        spot = [outermost + distance, 0.1448, 0.0]
        return molecule.changed(
            numbers=[*molecule.numbers, 8], positions=[*molecule.positions, spot]
        )

    cutoff = model.config.cutoff
    close, outside = tensors(model, at(1.5)), tensors(model, at(cutoff + 1.0))
    assert float((close["1+"] - outside["1+"]).abs().max()) > 1e-4
    first_edge = bisect_change(model, at, 1.5, cutoff + 1.0)
    for low, high in (first_edge, (cutoff - 1e-10, cutoff + 1e-10)):
        inner, outer = tensors(model, at(low)), tensors(model, at(high))
        for name in SPECS:
            assert float((inner[name] - outer[name]).abs().max()) < 1e-8


@pytest.mark.parametrize("readout", READOUTS)
def test_derivatives(readout):
    """Of a random sum of all components, along random displacements."""
    model, structure = make_model(readout), slab()
    random = np.random.default_rng(4)
    graph = make_graph([structure], model.config.cutoff)
    names = list(SPECS)
    weights = {
        name: torch.from_numpy(random.normal(size=2 * SPECS[name][0] + 1))
        for name in names
    }

    def total(results):
        return sum((results[name].sum(0) * weights[name]).sum() for name in names)

    (gradient,) = torch.autograd.grad(total(model(graph, names)), graph.edge_vectors)
    for _ in range(2):
        direction = random.normal(size=structure.positions.shape)
        moves = torch.from_numpy(direction)
        moves = moves[graph.neighbors] - moves[graph.centers]
        expected = float((gradient * moves).sum())

        def value(step, direction=direction):
            moved = structure.positions + step * direction
            return float(total(tensors(model, structure.changed(positions=moved))))

        assert_derivative(value, expected, abs(expected), 1e-6, readout)


@pytest.mark.parametrize(("kind", "n"), [("vector", 3), ("symmetric", 9)])
def test_born_charges_and_raman_tensors(kind, n):
    """Against finite differences, atom by atom; and the sum over atoms is zero."""
    model, structure = make_model(specs=[TargetSpec("t", kind)]), slab()
    graph = make_graph([structure], model.config.cutoff)
    found = position_derivatives(model, graph, "t")
    assert found.shape == (n, len(structure), 3)
    assert float(found.sum(1).abs().max()) < 1e-12 * float(found.abs().max())
    for entry, atom, axis in [(0, 0, 0), (1, 2, 1), (n - 1, 3, 2)]:

        def value(step, entry=entry, atom=atom, axis=axis):
            moved = structure.positions.copy()
            moved[atom, axis] += step
            total = tensors(model, structure.changed(positions=moved))["t"].sum(0)
            return float(total[entry])

        expected = float(found[entry, atom, axis])
        assert_derivative(value, expected, abs(expected), 1e-6, f"{kind} {entry}")


def carbon_dioxide():
    return Structure([6, 8, 8], [[0.0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]])


def octahedron():
    spots = [[x, 0, 0] for x in (-1.8, 1.8)] + [[0, x, 0] for x in (-1.8, 1.8)]
    spots += [[0, 0, x] for x in (-1.8, 1.8)]
    return Structure([14, *[8] * 6], [[0.0, 0, 0], *spots])


@pytest.mark.parametrize("site", [carbon_dioxide, octahedron])
@pytest.mark.parametrize("readout", READOUTS)
def test_centrosymmetric_sites_are_finite(readout, site):
    model = make_model(readout)
    graph = make_graph([site()], model.config.cutoff)
    results = model(graph, list(SPECS))
    total = sum(value.sum() for value in results.values())
    gradients = torch.autograd.grad(
        total, [graph.edge_vectors, *model.readouts[1].parameters()], allow_unused=True
    )
    assert all(bool(torch.isfinite(value).all()) for value in results.values())
    assert all(bool(torch.isfinite(g).all()) for g in gradients if g is not None)


@pytest.mark.parametrize("lambda_columns", [True, False])
def test_carbon_of_carbon_dioxide_needs_the_lambda_columns(lambda_columns):
    specs = [
        TargetSpec(
            readout,
            "spherical",
            order=2,
            readout=readout,
            lambda_columns=lambda_columns,
        )
        for readout in ("node", "exact")
    ]
    results = tensors(make_model(specs=specs), carbon_dioxide())
    for value in results.values():
        size = float(value[0].abs().max())
        assert size > 1e-3 if lambda_columns else size < 1e-14


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("variant", ["modern", "adaptive_solver"])
def test_exact_tensors_alone_pass_the_layers_by(variant, scripted):
    """To the last bit; also where a tensor that reads the network stands beside."""
    specs = [
        TargetSpec("alpha", "symmetric", readout="exact"),
        TargetSpec("dipole", "vector", readout="edge"),
    ]
    model = make_model(variant=variant, specs=specs)
    evaluated = []
    if scripted:
        model = torch.jit.script(model)
    else:
        model.network.gnn_layers[0].register_forward_hook(
            lambda *_: evaluated.append(1)
        )
    graph = make_graph([triclinic()], TINY["cutoff"])
    alone = model(graph, ["alpha", "cutoff_stats"])
    assert not evaluated
    beside = model(graph, ["energy", "alpha", "cutoff_stats"])
    for name, value in alone.items():
        assert torch.equal(value, beside[name]), name
    assert scripted or evaluated
    for outputs in (["dipole"], ["features"], ["layer_sizes"]):
        assert model(graph, outputs)[outputs[0]].abs().sum() > 0, outputs
    assert len(model(graph, ["alpha", "layer_sizes"])["layer_sizes"]) > 0


def planar(numbers, positions, seed):
    """A molecule shaken within its plane, then turned; and the normal of the plane."""
    random = np.random.default_rng(seed)
    flat = np.zeros((len(numbers), 3))
    flat[:, :2] = positions + 0.08 * random.normal(size=(len(numbers), 2))
    rotation = turn(2 * seed)
    return Structure(numbers, flat @ rotation.T), rotation[:, 2]


def ring(n, radius, start=0.0):
    angles = start + 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


MOLECULES = {
    "water": ([8, 1, 1], np.array([[0.0, 0.0], [0.76, 0.59], [-0.76, 0.59]])),
    "benzene": ([6] * 6 + [1] * 6, np.concatenate([ring(6, 1.39), ring(6, 2.48)])),
}


def axial_targets(structure):
    """Per atom, along the normal of a planar molecule: Σ_jk g_j h_k r_ij x r_ik."""
    vectors = structure.positions[None] - structure.positions[:, None]
    squared = (vectors**2).sum(2)
    near = (vectors * np.exp(-squared)[:, :, None]).sum(1)
    far = (vectors * np.exp(-0.3 * squared)[:, :, None]).sum(1)
    return np.cross(near, far)


@pytest.mark.parametrize(("molecule", "n_frames"), [("water", 200), ("benzene", 25)])
def test_axial_vectors_of_planar_molecules_can_be_fitted(molecule, n_frames):
    """By the 387 weights of the last layer alone: 600 atoms of water, 300 of benzene.

    Columns built on a pseudoscalar of the vectors vanish here and could fit nothing.
    """
    pairs = [planar(*MOLECULES[molecule], seed) for seed in range(n_frames)]
    structures = [structure for structure, _ in pairs]
    target = [axial_targets(structure) for structure in structures]
    for vectors, (_, normal) in zip(target, pairs, strict=True):
        assert np.abs(np.cross(vectors, normal)).max() < 1e-12
    target = torch.from_numpy(np.concatenate(target))[:, [1, 2, 0]]
    model = make_model(specs=[TargetSpec("axial", "axial_vector", readout="exact")])
    readout, graph = model.readouts[1], make_graph(structures, model.config.cutoff)
    with torch.no_grad():
        features = model.network(graph)
        (columns,) = readout.basis(features, graph)
        hidden = readout.scalars(features, graph)[1]
    hidden = torch.cat([hidden, torch.ones_like(hidden[:, :1])], 1)
    design = torch.einsum("ibm,ik->imbk", columns, hidden).reshape(target.numel(), -1)
    assert design.shape[1] == 3 * 129
    fit = torch.linalg.lstsq(design, target.reshape(-1, 1), driver="gelsd").solution
    residual = design @ fit - target.reshape(-1, 1)
    assert float(residual.norm() / target.norm()) < 0.01
