"""The neighbor list: hand-computed cases, the brute-force judge, and its errors."""

import numpy as np
import pytest
import torch

from petmad.neighbors import neighbor_list


ALL, NONE, PLANE = [True] * 3, [False] * 3, [True, True, False]


def tensor(values):
    return torch.tensor(np.asarray(values, dtype=float), dtype=torch.float64)


def listed(positions, cell, pbc, cutoff, brute_force=False, n_centers=-1):
    """(centers, neighbors, shifts) of either search."""
    return torch.ops.petmad.build_neighbor_list(
        tensor(positions).reshape(-1, 3),
        tensor(cell),
        torch.tensor(pbc),
        cutoff,
        n_centers,
        brute_force,
    )


def edges_of(positions, cell, pbc, cutoff):
    """Edges as a list of (center, neighbor, shift)."""
    centers, neighbors, shifts = listed(positions, cell, pbc, cutoff)
    return [
        (i, j, tuple(s))
        for i, j, s in zip(
            centers.tolist(), neighbors.tolist(), shifts.tolist(), strict=True
        )
    ]


def test_two_atoms_see_each_other():
    pair = [[0, 0, 0], [0, 0, 2]]
    here = (0, 0, 0)
    assert edges_of(pair, np.zeros((3, 3)), NONE, 2.0) == [(0, 1, here), (1, 0, here)]
    assert edges_of(pair, np.zeros((3, 3)), NONE, 1.99) == []


def test_one_atom_sees_its_images_in_a_small_cell():
    found = edges_of([[0.3, 0.4, 0.5]], 2.0 * np.eye(3), ALL, 2.0)
    units = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    six = [(0, 0, u) for u in units if sum(abs(k) for k in u) == 1]
    assert found == six
    assert len(edges_of([[0.3, 0.4, 0.5]], 2.0 * np.eye(3), ALL, 2.9)) == 18
    assert len(edges_of([[0.3, 0.4, 0.5]], 2.0 * np.eye(3), ALL, 3.5)) == 26


def test_shift_is_added_to_the_neighbor():
    pair = [[0.5, 0, 0], [9.5, 0, 0]]
    found = edges_of(pair, 10.0 * np.eye(3), ALL, 1.5)
    assert found == [(0, 1, (-1, 0, 0)), (1, 0, (1, 0, 0))]


def test_shifts_refer_to_positions_as_given():
    pair = [[0.5 + 30, 0, 0], [9.5 - 20, 0, 0]]
    found = edges_of(pair, 10.0 * np.eye(3), ALL, 1.5)
    assert found == [(0, 1, (4, 0, 0)), (1, 0, (-4, 0, 0))]


def test_open_direction_has_no_images():
    atom = [[0.0, 0.0, 0.0]]
    found = edges_of(atom, 2.0 * np.eye(3), PLANE, 2.0)
    assert {shift for _, _, shift in found} == {
        (1, 0, 0),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
    }


def test_rows_of_open_directions_are_ignored():
    atoms = np.random.default_rng(0).uniform(0, 5, (20, 3))
    plain = np.diag([5.0, 5.0, 0.0])
    odd = plain.copy()
    odd[2] = [np.nan, 5.0, 1e9]
    assert edges_of(atoms, odd, PLANE, 3.0) == edges_of(atoms, plain, PLANE, 3.0)


@pytest.mark.parametrize("n_atoms", [0, 1])
def test_nothing_to_see(n_atoms):
    edges = neighbor_list(
        torch.zeros(n_atoms, 3, dtype=torch.float64),
        torch.zeros(3, 3, dtype=torch.float64),
        torch.tensor(NONE),
        5.0,
    )
    assert [tuple(t.shape) for t in edges] == [(0,), (0,), (0, 3), (0,)]
    assert all(t.dtype == torch.int64 for t in edges)


def random_cell(rng, size):
    """A skewed cell with faces at least a third of ``size`` apart."""
    while True:
        cell = size * (np.eye(3) + 0.45 * rng.standard_normal((3, 3)))
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        if heights.min() > size / 3:
            return cell


@pytest.mark.parametrize(
    "pbc", [ALL, NONE, PLANE, [False, True, True], [True, False, False]]
)
@pytest.mark.parametrize("size", [1.5, 4.0, 9.0, 25.0])
def test_cell_list_is_brute_force(pbc, size):
    rng = np.random.default_rng(int(10 * size))
    n_edges = 0
    for n_atoms in (2, 7, 80):
        cell = random_cell(rng, size)
        atoms = rng.uniform(-1.5, 2.5, (n_atoms, 3)) @ cell  # also outside the cell
        atoms[-1] = atoms[0] + [0.9, 0.0, 1.1]
        fast = listed(atoms, cell, pbc, 3.7)
        slow = listed(atoms, cell, pbc, 3.7, brute_force=True)
        for found, wanted in zip(fast, slow, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        n_edges += len(fast[0])
    assert n_edges > 0


def test_many_bins_are_brute_force():
    rng = np.random.default_rng(5)
    atoms = rng.uniform(0, 30, (600, 3))
    for cell, pbc in ((30 * np.eye(3), ALL), (np.zeros((3, 3)), NONE)):
        fast = listed(atoms, cell, pbc, 4.0)
        slow = listed(atoms, cell, pbc, 4.0, brute_force=True)
        assert len(fast[0]) > 2000
        for found, wanted in zip(fast, slow, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.fixture(params=[1, 3])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=torch.ops.petmad.instruction_sets())
def instruction_set(request):
    torch.ops.petmad.choose_instruction_set(request.param)
    yield request.param
    torch.ops.petmad.choose_instruction_set(torch.ops.petmad.instruction_sets()[0])


@pytest.mark.parametrize("cells_away", [0, 3])
@pytest.mark.usefixtures("n_threads", "instruction_set")
def test_every_kernel_and_number_of_threads_lists_the_same(cells_away):
    rng = np.random.default_rng(7)
    cell = random_cell(rng, 18.0)
    atoms = rng.uniform(0, 1, (700, 3))
    atoms += rng.integers(-cells_away, cells_away + 1, (700, 3))
    fast = listed(atoms @ cell, cell, ALL, 4.0)
    slow = listed(atoms @ cell, cell, ALL, 4.0, brute_force=True)
    assert len(fast[0]) > 10_000
    for found, wanted in zip(fast, slow, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("here", [0.0, 1e3])
def test_float64_decides_at_the_cutoff(here):
    """Distances tell apart what float32 cannot, in bins of any extent."""
    steps = np.array([1.0 - 1e-10, 1.0, 1.0 + 1e-10])
    for step in steps:
        line = here + step * np.arange(40.0)
        atoms = np.stack([line, 0 * line, 0 * line], axis=1)
        fast = listed(atoms, np.zeros((3, 3)), NONE, 3.0)
        slow = listed(atoms, np.zeros((3, 3)), NONE, 3.0, brute_force=True)
        assert len(fast[0]) == len(slow[0])
        assert torch.equal(fast[1], slow[1])
    within = listed([[0, 0, 0], [3 - 1e-10, 0, 0]], np.zeros((3, 3)), NONE, 3.0)
    beyond = listed([[0, 0, 0], [3 + 1e-10, 0, 0]], np.zeros((3, 3)), NONE, 3.0)
    assert (len(within[0]), len(beyond[0])) == (2, 0)


@pytest.mark.parametrize(
    ("n_atoms", "size", "cutoff"), [(10, 2.0, 5.0), (300, 14.0, 4.0)]
)
@pytest.mark.usefixtures("n_threads")
def test_reversed_edges_are_counted_as_they_are_searched(n_atoms, size, cutoff):
    rng = np.random.default_rng(9)
    cell = random_cell(rng, size)
    atoms = tensor(rng.uniform(-1, 2, (n_atoms, 3)) @ cell)
    edges = neighbor_list(atoms, tensor(cell), torch.tensor(ALL), cutoff)
    searched = torch.ops.petmad.reverse_index(*edges[:3])
    assert len(searched) > 1000
    assert torch.equal(edges.reverse_edges, searched)


def test_atoms_on_faces_and_bin_borders():
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij"), -1).reshape(
        -1, 3
    )
    found = listed(2.0 * grid, 12.0 * np.eye(3), ALL, 4.0)
    slow = listed(2.0 * grid, 12.0 * np.eye(3), ALL, 4.0, brute_force=True)
    assert len(found[0]) == 216 * 32  # shells of 6, 12, 8 and 6 neighbors
    for a, b in zip(found, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_far_atoms_in_a_huge_open_space_are_cheap():
    atoms = [[0, 0, 0], [1, 0, 0], [1e8, 1e8, 1e8], [1e8 + 1, 1e8, 1e8]]
    found = edges_of(atoms, np.zeros((3, 3)), NONE, 2.0)
    assert [(i, j) for i, j, _ in found] == [(0, 1), (1, 0), (2, 3), (3, 2)]


def test_first_centers_only():
    atoms = np.random.default_rng(6).uniform(0, 6, (30, 3))
    centers, neighbors, shifts = listed(atoms, np.zeros((3, 3)), NONE, 3.0)
    some = listed(atoms, np.zeros((3, 3)), NONE, 3.0, n_centers=9)
    mine = centers < 9
    assert 0 < mine.sum() < len(centers)
    for found, wanted in zip(some, (centers, neighbors, shifts), strict=True):
        torch.testing.assert_close(found, wanted[mine], rtol=0, atol=0)


def test_reverse_edges_are_the_edges_back():
    rng = np.random.default_rng(8)
    cell = random_cell(rng, 3.0)
    edges = neighbor_list(
        tensor(rng.uniform(-1, 2, (9, 3)) @ cell), tensor(cell), torch.tensor(ALL), 4.0
    )
    back = edges.reverse_edges
    assert len(back) > 100
    assert torch.equal(edges.centers[back], edges.neighbors)
    assert torch.equal(edges.neighbors[back], edges.centers)
    assert torch.equal(edges.cell_shifts[back], -edges.cell_shifts)


BAD = {
    "shape of positions": (
        (np.zeros((4, 2)), np.eye(3), ALL, 2.0),
        r"`positions` must have shape \[n_atoms, 3\], got \[4, 2\]",
    ),
    "shape of cell": (
        (np.zeros((4, 3)), np.ones(9), ALL, 2.0),
        r"`cell` must have shape \[3, 3\], got \[9\]; pass lattice vectors as rows",
    ),
    "shape of pbc": (
        (np.zeros((4, 3)), np.eye(3), [True], 2.0),
        r"`pbc` must have shape \[3\], got \[1\]",
    ),
    "nan": (
        ([[0, 0, 0], [np.nan, 0, 0]], np.eye(3), ALL, 2.0),
        r"position of atom 1 is \(nan, 0, 0\); it must be finite",
    ),
    "infinity": (
        ([[0, 0, np.inf]], np.eye(3), NONE, 2.0),
        r"position of atom 0 is \(0, 0, inf\)",
    ),
    "flat cell": (
        (np.zeros((1, 3)), [[1, 0, 0], [0, 1, 0], [1, 1, 0]], ALL, 2.0),
        "`cell` is singular: its periodic rows span a volume of 0",
    ),
    "parallel rows": (
        (np.zeros((1, 3)), [[1, 0, 0], [2, 0, 0], [0, 0, 0]], PLANE, 2.0),
        "`cell` is singular: rows 0 and 1 are parallel",
    ),
    "cell in another unit": (
        (np.zeros((1, 3)), np.diag([0.5, 0.02, 0.5]), ALL, 2.0),
        r"`cell` repeats itself after 0.02 Å along row 1, less than 0.05 Å; check its",
    ),
    "thin cell": (
        (np.zeros((1, 3)), np.diag([300.0, 300.0, 0.2]), ALL, 250.0),
        r"`cell` is 0.2 Å thick along row 2, .* cutoff of 250 Å; repeat the cell",
    ),
    "missing row": (
        (np.zeros((1, 3)), np.diag([1.0, 0.0, 1.0]), ALL, 2.0),
        r"`cell` row 1 is periodic but has length 0; .* set pbc\[1\] to false",
    ),
    "zero cutoff": (
        (np.zeros((1, 3)), np.eye(3), ALL, 0.0),
        "`cutoff` must be positive, got 0",
    ),
    "endless cutoff": (
        (np.zeros((1, 3)), np.eye(3), ALL, 1e25),
        "`cutoff` must be positive, got 1e\\+25; pass a radius in Å, at most 10000",
    ),
    "far away": (
        (np.array([[0.0, 0.0, -1e30]]), np.eye(3), ALL, 1.0),
        r"position of atom 0 is \(0, 0, -1e\+30\); it must be .*, and at most 1e\+09",
    ),
    "nan cutoff": (
        (np.zeros((1, 3)), np.eye(3), ALL, float("nan")),
        "`cutoff` must be positive, got nan",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    (positions, cell, pbc, cutoff), message = BAD[case]
    with pytest.raises(RuntimeError, match=message):
        neighbor_list(tensor(positions), tensor(cell), torch.tensor(pbc), cutoff)


def test_too_many_centers():
    with pytest.raises(
        RuntimeError, match="`n_centers` is 5 but there are only 2 atoms"
    ):
        listed(np.zeros((2, 3)), np.eye(3), NONE, 1.0, n_centers=5)
