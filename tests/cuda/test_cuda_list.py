"""Neighbor list, geometry and folds by the kernels = those of the CPU, bit by bit."""

import numpy as np
import pytest
import torch
from cuda_tools import assert_alike, assert_same_in_reverse, kernels


ops = torch.ops.petmad
ALL, NONE, PLANE, WIRE = [True] * 3, [False] * 3, [True, True, False], [0, 1, 0]


def tensor(values):
    return torch.tensor(np.asarray(values, dtype=float), dtype=torch.float64)


def arguments(atoms, cell, pbc, cutoff, n_centers=-1):
    flags = torch.tensor([bool(p) for p in pbc])
    return tensor(atoms).reshape(-1, 3), tensor(cell), flags, cutoff, n_centers, False


def listed(device, *system):
    positions, *rest = arguments(*system)
    return kernels.build_neighbor_list(positions.to(device), *rest)


def random_cell(rng, size):
    """A skewed cell with faces at least a third of ``size`` apart."""
    while True:
        cell = size * (np.eye(3) + 0.45 * rng.standard_normal((3, 3)))
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        if heights.min() > size / 3:
            return cell


def random_system(size, n_atoms, pbc, cutoff=3.7, seed=0):
    rng = np.random.default_rng([int(10 * size), n_atoms, seed])
    cell = random_cell(rng, size)
    atoms = rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell  # also outside the cell
    atoms[-1] = atoms[0] + [0.9, 0.0, 1.1] if n_atoms > 1 else atoms[0]
    return atoms, cell, pbc, cutoff


def assert_same_list(device, *system):
    found = listed(device, *system)
    wanted = ops.build_neighbor_list(*arguments(*system))
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.cpu(), theirs)
    return wanted


@pytest.mark.parametrize("pbc", [ALL, NONE, PLANE, WIRE], ids=str)
@pytest.mark.parametrize("size", [1.5, 4.0, 12.0, 25.0])
def test_list_is_the_cpu_list(device, size, pbc):
    n_edges = 0
    for n_atoms in (1, 2, 7, 60):
        n_edges += len(assert_same_list(device, *random_system(size, n_atoms, pbc))[0])
    assert n_edges > 0


def test_atoms_on_faces_and_bin_borders(device):
    axes = np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij")
    grid = 2.0 * np.stack(axes, -1).reshape(-1, 3)
    edges = assert_same_list(device, grid, 12.0 * np.eye(3), ALL, 4.0)
    assert len(edges[0]) == 216 * 32


def test_far_atoms_in_a_huge_open_space(device):
    atoms = [[0, 0, 0], [1, 0, 0], [1e8, 1e8, 1e8], [1e8 + 1, 1e8, 1e8]]
    edges = assert_same_list(device, atoms, np.zeros((3, 3)), NONE, 2.0)
    assert len(edges[0]) == 4


@pytest.mark.parametrize("n_centers", [0, 9])
def test_first_centers_only(device, n_centers):
    system = random_system(4.0, 30, NONE)
    found = assert_same_list(device, *system, n_centers)
    assert (len(found[0]) > 0) == (n_centers > 0)


def test_no_atoms(device):
    found = listed(device, np.zeros((0, 3)), np.eye(3), ALL, 2.0)
    assert [tuple(t.shape) for t in found] == [(0,), (0,), (0, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"atoms": [[0, 0, 0], [np.nan, 0, 0]]},
            r"position of atom 1 is \(nan, 0, 0\)",
        ),
        ({"atoms": np.zeros((4, 2))}, r"must have shape \[n_atoms, 3\], got \[4, 2\]"),
        ({"cell": np.zeros((3, 3))}, r"`cell` row 0 is periodic but has length 0"),
        ({"cutoff": 0.0}, "`cutoff` must be positive, got 0"),
        ({"n_centers": 5}, "`n_centers` is 5 but there are only 2 atoms"),
    ],
)
def test_bad_input_is_named(device, change, message):
    given = {"atoms": np.zeros((2, 3)), "cell": np.eye(3), "pbc": ALL, "cutoff": 1.0}
    given = {**given, "n_centers": -1, **change}
    atoms = tensor(given["atoms"]).to(device)
    rest = (tensor(given["cell"]), torch.tensor(ALL), given["cutoff"])
    with pytest.raises(RuntimeError, match=message):
        kernels.build_neighbor_list(atoms, *rest, given["n_centers"], False)


def test_edge_vectors_and_reverse_edges(device):
    atoms, cell, pbc, cutoff = random_system(4.0, 20, ALL)
    edges = listed(device, atoms, cell, pbc, cutoff)
    on_host = [t.cpu() for t in edges]
    assert len(edges[0]) > 500
    x, box = tensor(atoms), tensor(cell)
    vectors = kernels.edge_vectors(x.to(device), box.to(device), *edges)
    assert torch.equal(vectors.cpu(), ops.edge_vectors(x, box, *on_host))
    reverse = kernels.reverse_index(*edges).cpu()
    assert torch.equal(reverse, ops.reverse_index(*on_host))
    some = [t[edges[0] < 11] for t in edges]  # others are centers elsewhere
    reverse = kernels.reverse_index(*some).cpu()
    assert torch.equal(reverse, ops.reverse_index(*[t.cpu() for t in some]))
    assert (reverse < 0).any()


def test_unsorted_centers_are_named(device):
    centers = torch.tensor([1, 0], device=device)
    shifts = torch.zeros(2, 3, dtype=torch.int64, device=device)
    with pytest.raises(RuntimeError, match=r"must ascend from 0; sort the list"):
        kernels.reverse_index(centers, centers, shifts)


def test_edge_starts(device):
    centers = torch.tensor([0, 0, 2], device=device)
    assert kernels.edge_starts(centers, 4).tolist() == [0, 2, 2, 3, 3]
    assert kernels.edge_starts(centers[:0], 2).tolist() == [0, 0, 0]


@pytest.mark.parametrize("n_centers", [-1, 13])
def test_folds(device, n_centers):
    atoms, cell, pbc, cutoff = random_system(4.0, 20, PLANE)
    centers, neighbors, _ = listed(device, atoms, cell, pbc, cutoff, n_centers)
    rng = torch.Generator().manual_seed(2)
    n_edges = len(centers)
    g, r = torch.randn(2, n_edges, 3, generator=rng, dtype=torch.float64).to(device)
    on_host = [t.cpu() for t in (centers, neighbors)]
    forces = kernels.fold_forces(g, centers, neighbors, 20)
    assert_alike(forces, ops.fold_forces(g.cpu(), *on_host, 20), "forces")
    assert_alike(kernels.fold_virial(g, r), ops.fold_virial(g.cpu(), r.cpu()), "virial")
    each = kernels.fold_atomic_virials(g, r, centers, neighbors, 20)
    wanted = ops.fold_atomic_virials(g.cpu(), r.cpu(), *on_host, 20)
    assert_alike(each, wanted, "atomic virials")
    kept = kernels.incidence(centers, neighbors, 20)
    assert torch.equal(kernels.fold(g, *kept), forces)


def test_virial_of_many_edges(device):
    g, r = torch.randn(2, 5000, 3, dtype=torch.float64, device=device)
    assert_alike(kernels.fold_virial(g, r), ops.fold_virial(g.cpu(), r.cpu()))
    nothing = kernels.fold_virial(g[:0], r[:0])
    assert torch.equal(nothing.cpu(), torch.zeros(3, 3, dtype=torch.float64))


def test_order_of_the_lanes_does_not_matter():
    atoms, cell, pbc, cutoff = random_system(4.0, 20, ALL)
    x, box = tensor(atoms), tensor(cell)

    def all_of_it():
        edges = listed("cpu", atoms, cell, pbc, cutoff)
        vectors = kernels.edge_vectors(x, box, *edges)
        forces = kernels.fold_forces(vectors**3, edges[0], edges[1], len(x))
        virial = kernels.fold_virial(vectors**3, vectors)
        return *edges, vectors, kernels.reverse_index(*edges), forces, virial

    assert_same_in_reverse(all_of_it)


@pytest.mark.cuda
def test_a_million_atoms_on_the_gpu():
    rng = torch.Generator().manual_seed(3)
    n_atoms, side = 1_000_000, 216.0
    x = side * torch.rand(n_atoms, 3, generator=rng, dtype=torch.float64)
    cell = side * torch.eye(3, dtype=torch.float64)
    everywhere = torch.tensor(ALL)
    found = kernels.build_neighbor_list(x.cuda(), cell, everywhere, 4.0, -1, False)
    wanted = ops.build_neighbor_list(x, cell, everywhere, 4.0, -1, False)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine.cpu(), theirs)
