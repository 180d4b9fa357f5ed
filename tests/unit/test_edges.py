"""Edge vectors, reverse index and folds of the core: by hand, and against torch."""

import pytest
import torch

from petmad.model import folds
from petmad.neighbors import EdgeList, edge_vectors, neighbor_list


ops = torch.ops.petmad


def random_edges(n_atoms=6, size=4.0, cutoff=3.5):
    """(positions, cell, edges) of a small skewed periodic system."""
    generator = torch.Generator().manual_seed(1)
    cell = size * torch.eye(3, dtype=torch.float64)
    cell[1, 0] = 0.8
    cell[2, 1] = -0.5
    positions = size * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64)
    return (
        positions,
        cell,
        neighbor_list(positions, cell, torch.tensor([True] * 3), cutoff),
    )


def test_vector_of_one_edge():
    positions = torch.tensor([[0.5, 0.0, 0.0], [9.5, 1.0, 0.0]], dtype=torch.float64)
    cell = torch.diag(torch.tensor([10.0, 20.0, 30.0], dtype=torch.float64))
    edges = EdgeList(
        torch.tensor([0, 1]),
        torch.tensor([1, 0]),
        torch.tensor([[-1, 0, 0], [1, 0, 0]]),
        torch.tensor([1, 0]),
    )
    wanted = torch.tensor([[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        edge_vectors(positions, cell, edges), wanted, rtol=0, atol=0
    )


def test_vectors_against_torch():
    positions, cell, edges = random_edges()
    wanted = positions[edges.neighbors] - positions[edges.centers]
    wanted = wanted + edges.cell_shifts.to(torch.float64) @ cell
    found = edge_vectors(positions, cell, edges)
    assert len(found) > 50
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_reversed_vectors_are_negated_bit_by_bit():
    positions, cell, edges = random_edges()
    vectors = edge_vectors(positions, cell, edges)
    assert torch.equal(vectors[edges.reverse_edges], -vectors)


def test_reverse_index_is_minus_one_where_it_is_not_listed():
    positions, cell, _ = random_edges()
    part = ops.build_neighbor_list(positions, cell, torch.tensor([True] * 3), 3.5, 3)
    reverse = ops.reverse_index(*part)
    outside = part[1] >= 3
    assert 0 < outside.sum() < len(outside)
    assert torch.equal(reverse < 0, outside)


def test_reverse_index_wants_an_ascending_list():
    _, _, edges = random_edges()
    order = torch.arange(len(edges.centers) - 1, -1, -1)
    with pytest.raises(RuntimeError, match="edge 1 does not follow the one before it"):
        ops.reverse_index(
            edges.centers[order], edges.neighbors[order], edges.cell_shifts[order]
        )


def test_folds_of_one_edge():
    gradient = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    vector = torch.tensor([[2.0, 0.0, 0.0]], dtype=torch.float64)
    center, neighbor = torch.tensor([0]), torch.tensor([2])
    forces = ops.fold_forces(gradient, center, neighbor, 3)
    assert forces.tolist() == [[1, 2, 3], [0, 0, 0], [-1, -2, -3]]
    virial = ops.fold_virial(gradient, vector)
    assert virial.tolist() == [[-2, -2, -3], [-2, 0, 0], [-3, 0, 0]]
    atomic = ops.fold_atomic_virials(gradient, vector, center, neighbor, 3)
    assert atomic[0].tolist() == [[-1, -2, -3], [0, 0, 0], [0, 0, 0]]
    assert torch.equal(atomic[2], atomic[0])
    assert not atomic[1].any()


def test_folds_against_torch():
    positions, cell, edges = random_edges()
    vectors = edge_vectors(positions, cell, edges)
    generator = torch.Generator().manual_seed(2)
    gradients = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
    ends = (edges.centers, edges.neighbors, len(positions))
    pairs = [
        (ops.fold_forces(gradients, *ends), folds.fold_forces(gradients, *ends)),
        (ops.fold_virial(gradients, vectors), folds.fold_virial(gradients, vectors)),
        (
            ops.fold_atomic_virials(gradients, vectors, *ends),
            folds.fold_atomic_virials(gradients, vectors, *ends),
        ),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("bad", [-1, 3])
def test_atoms_outside_the_arrays_are_an_error(bad):
    gradient = torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(
        RuntimeError, match=f"`neighbors` of edge 0 is {bad} but there are 3"
    ):
        ops.fold_forces(gradient, torch.tensor([0]), torch.tensor([bad]), 3)


@pytest.mark.parametrize("name", ["gradients", "vectors", "centers", "neighbors"])
def test_folds_want_one_row_per_edge(name):
    rows = torch.zeros(2, 3, dtype=torch.float64)
    values = {"gradients": rows, "vectors": rows}
    values |= {"centers": torch.tensor([0, 1]), "neighbors": torch.tensor([1, 0])}
    names = {
        ops.fold_forces: ("gradients", "centers", "neighbors"),
        ops.fold_virial: ("gradients", "vectors"),
        ops.fold_atomic_virials: ("gradients", "vectors", "centers", "neighbors"),
    }
    for fold, wanted in names.items():
        n_atoms = (2,) if "centers" in wanted else ()
        fold(*[values[key] for key in wanted], *n_atoms)
        if name in wanted:
            short = {**values, name: values[name][:1]}
            with pytest.raises(RuntimeError, match=r"must have shape .*, got"):
                fold(*[short[key] for key in wanted], *n_atoms)


@pytest.mark.parametrize("neighbors", [[1, -1], [1], [[1, 0]]])
def test_reverse_index_wants_an_atom_per_edge(neighbors):
    centers, shifts = torch.tensor([0, 1]), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=r"atoms from 0 on|must have shapes"):
        ops.reverse_index(centers, torch.tensor(neighbors), shifts)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("positions", (2, 2)),
        ("cell", (3,)),
        ("neighbors", (1,)),
        ("cell_shifts", (2, 2)),
    ],
)
def test_wrong_shapes_are_an_error(name, shape):
    values = {
        "positions": torch.zeros(2, 3, dtype=torch.float64),
        "cell": torch.eye(3, dtype=torch.float64),
        "centers": torch.tensor([0, 1]),
        "neighbors": torch.tensor([1, 0]),
        "cell_shifts": torch.zeros(2, 3, dtype=torch.int64),
    }
    torch.ops.petmad.edge_vectors(*values.values())
    values[name] = torch.zeros(shape, dtype=values[name].dtype)
    with pytest.raises(RuntimeError, match=rf"`{name}` must have shape .*, got"):
        torch.ops.petmad.edge_vectors(*values.values())
