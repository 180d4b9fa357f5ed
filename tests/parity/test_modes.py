"""Every way to deal with ghosts, on every kind of structure: N ranks are one rank.

Domains are made by hand, see ``domains``. The variants are upstream's, with cutoffs
shortened to 0.6 of theirs where a dense periodic cell would have thousands of ghosts.
"""

import numpy as np
import pytest
from domains import Structure, assemble, decompose, evaluate_domains
from resources import need_gpu
from structures import uniform
from variants import ATOMIC_NUMBERS, ON_RANKS, VARIANTS, hypers, make_potential

from petmad._engine import Engine
from petmad.export import export_model


# Relative to the largest value. float64 sums in another order; measured 3e-14.
TOLERANCE = 1e-10
H, C, O, SI = range(len(ATOMIC_NUMBERS))  # noqa: E741
OPEN, BULK = np.zeros(3, dtype=bool), np.ones(3, dtype=bool)
DENSE_CUTOFF = 0.6
"""Of the variant's own."""


def random(name, *shape):
    """Numbers between -1 and 1."""
    return uniform(name, int(np.prod(shape))).reshape(shape)


def molecules(centers, name):
    """A bent water at each center, in random directions."""
    arms = random(name, 2, len(centers), 3)
    arms *= 0.97 / np.linalg.norm(arms, axis=-1, keepdims=True)
    positions = np.concatenate([centers, centers + arms[0], centers + arms[1]])
    return positions, np.repeat(np.array([O, H, H], dtype=np.int32), len(centers))


def water(cutoff):
    """Eight molecules in a skewed cell."""
    cell = np.array([[6.4, 0.0, 0.0], [0.7, 6.2, 0.0], [-0.4, 0.5, 6.6]])
    grid = 0.25 + 0.5 * np.array(list(np.ndindex(2, 2, 2)))
    positions, species = molecules(
        grid @ cell + 0.3 * random("water", 8, 3), "arms of water"
    )
    return Structure(positions, species, cell, BULK)


def crystal(cutoff):
    """Five atoms in a cell smaller than two cutoffs."""
    cell = np.array([[3.4, 0.0, 0.2], [0.3, 3.7, 0.0], [0.0, -0.4, 4.1]])
    fractions = np.array(
        [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0.6]]
    )
    positions = fractions @ cell + 0.1 * random("crystal", 5, 3)
    return Structure(positions, np.array([C, SI, O, C, SI], np.int32), cell, BULK)


def slab(cutoff):
    """Two layers of atoms, periodic in the plane."""
    cell = np.diag([7.2, 7.0, 30.0])
    spots = np.array(list(np.ndindex(3, 3, 2))) * [2.4, 2.33, 2.2]
    positions = spots + 0.2 * random("slab", 18, 3)
    species = np.tile(np.array([SI, O, C], np.int32), 6)
    return Structure(positions, species, cell, np.array([True, True, False]))


def gas(cutoff):
    """Molecules 5 to 9 Å apart."""
    spots = 7.0 * np.array(list(np.ndindex(2, 2, 2)))
    positions, species = molecules(spots + 0.9 * random("gas", 8, 3), "arms of gas")
    return Structure(positions, species, 14.0 * np.eye(3), BULK)


def chain(cutoff):
    """Atoms at 0.9 cutoffs: a halo one hop too shallow is wrong here."""
    positions = np.zeros((14, 3))
    positions[:, 0] = 0.9 * cutoff * np.arange(14)
    positions[:, 1] = 0.2 * random("chain", 14)
    species = np.array(([C, O, SI, H] * 4)[:14], dtype=np.int32)
    return Structure(positions, species, np.eye(3), OPEN)


def cluster(cutoff):
    """Few atoms together; most ranks are empty."""
    spots = 1.9 * np.array(list(np.ndindex(2, 2, 3)))
    positions = spots + 0.2 * random("cluster", 12, 3)
    return Structure(positions, np.tile([H, O, C], 4).astype(np.int32), np.eye(3), OPEN)


STRUCTURES = {
    "water": water,
    "crystal": crystal,
    "slab": slab,
    "gas": gas,
    "chain": chain,
    "cluster": cluster,
}
DENSE = ("water", "crystal", "slab")


def deal(structure, name, n_ranks):
    """Slices along x; a cluster leaves all ranks but two empty."""
    if name == "cluster":
        return np.where(structure.positions[:, 0] > 1.0, n_ranks - 1, 0)
    order = np.argsort(structure.positions[:, 0], kind="stable")
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = np.arange(len(order)) * n_ranks // len(order)
    return ranks


ON_DEVICES = [
    *(pytest.param((name, "cpu"), id=name) for name in ON_RANKS),
    *(pytest.param((n, "emulated"), id=f"{n} emulated") for n in ("modern", "deep")),
    *(
        pytest.param((name, "cuda"), id=f"{name} cuda", marks=pytest.mark.cuda)
        for name in ON_RANKS
    ),
]
"""Variants and devices; ``emulated``: a GPU's lists and folds on the CPU."""


@pytest.fixture(scope="module", params=ON_DEVICES)
def engines(request, tmp_path_factory):
    """Eight engines of one variant: with its cutoff, and with a shorter one."""
    variant, device = request.param
    if device == "cuda":
        need_gpu()
    folder = tmp_path_factory.mktemp(variant)
    found = {}
    for name, factor in (("own", 1.0), ("dense", DENSE_CUTOFF)):
        cutoff = factor * hypers(variant)["cutoff"]
        potential = make_potential(variant, cutoff=cutoff)
        path = str(folder / f"{name}.pt")
        export_model(potential, path, dtype="float64")
        found[name] = [Engine(path, device, check_golden=False) for _ in range(8)]
    found["options"] = {}
    if VARIANTS[variant].get("system_conditioning"):
        found["options"] = {"charge": 1, "spin_multiplicity": 2}
    return found


def assert_same(found, wanted):
    for key, value in found.items():
        scale = np.abs(wanted[key]).max()
        np.testing.assert_allclose(
            value, wanted[key], rtol=0, atol=TOLERANCE * scale, err_msg=key
        )


def n_rows(engines):
    """Rows of edges that all ranks evaluated."""
    return sum(engine.statistics.n_evaluated_edges for engine in engines)


@pytest.mark.parametrize("name", STRUCTURES)
def test_ranks_are_one_rank(engines, name):
    some = engines["dense" if name in DENSE else "own"]
    info = some[0].info
    structure = STRUCTURES[name](info.cutoff)
    options = engines["options"]
    wanted = some[0].evaluate(*structure, atomic_virials=True, **options)
    rows = some[0].statistics.n_evaluated_edges
    assert rows > 0
    for n_ranks in (1, 2, 3, 4, 8):
        ranks = deal(structure, name, n_ranks)
        domains = decompose(structure, ranks, n_ranks, info.cutoff)
        results = evaluate_domains(some[:n_ranks], domains, **options)
        assert_same(assemble(domains, results, len(ranks)), wanted)
        assert n_rows(some[:n_ranks]) == rows, "work of the exchange"
    for n_ranks in (1, 2, 3, 4, 8):
        ranks = deal(structure, name, n_ranks)
        domains = decompose(structure, ranks, n_ranks, info.reach)
        results = evaluate_domains(
            some[:n_ranks], domains, recompute=info.reach, **options
        )
        assert_same(assemble(domains, results, len(ranks)), wanted)
        assert n_rows(some[:n_ranks]) >= rows
        used = max(engine.statistics.reach_used for engine in some[:n_ranks])
        assert used <= info.reach + 1e-9


def test_recomputing_evaluates_what_matters_and_no_more(engines):
    """Rows of a chain's first half, counted by hand: rings of one atom per layer."""
    some = engines["own"]
    info = some[0].info
    structure = chain(0.85 * info.cutoff)
    domains = decompose(structure, deal(structure, "chain", 2), 2, info.reach)
    evaluate_domains(some[:2], domains, recompute=info.reach, **engines["options"])
    n_layers = some[0].statistics.n_owned_edge_rows // some[0].statistics.n_kept_edges
    # the atoms of rank 0 have 13 edges; each ring adds an atom with two
    first_ring = info.reach_hops - 1
    rows = [13 + 2 * (first_ring - layer) for layer in range(n_layers)]
    assert some[0].statistics.n_evaluated_edges == sum(rows)


def test_shallow_ghosts_are_noticed(engines):
    """Half an ångström less than the chain needs: an error, not another energy."""
    some = engines["own"]
    info = some[0].info
    structure = chain(info.cutoff)
    ranks = deal(structure, "chain", 2)
    domains = decompose(structure, ranks, 2, info.reach)
    options = engines["options"]
    evaluate_domains(some[:2], domains, recompute=info.reach, **options)
    needed = max(engine.statistics.reach_used for engine in some[:2])
    domains = decompose(structure, ranks, 2, needed - 0.5)
    with pytest.raises(
        ValueError, match=r"at least 0\.(49|5)\d* Å are missing; ask for deeper"
    ):
        evaluate_domains(some[:2], domains, recompute=needed - 0.5, **options)
    domains = decompose(structure, ranks, 2, needed)
    results = evaluate_domains(some[:2], domains, recompute=needed, **options)
    wanted = some[2].evaluate(*structure, atomic_virials=True, **options)
    assert_same(assemble(domains, results, len(ranks)), wanted)


def test_bytes_are_those_of_live_edges(engines):
    """Crossing kept edges times the width, there and back in every exchange."""
    some = engines["own"]
    structure = gas(some[0].info.cutoff)
    structure = structure._replace(
        positions=0.7 * structure.positions, cell=0.7 * structure.cell
    )
    domains = decompose(structure, deal(structure, "gas", 2), 2, some[0].info.cutoff)
    evaluate_domains(some[:2], domains, **engines["options"])
    n_exchanges = some[0].info.reach_hops - 1
    n_values = 0
    for rank, (engine, domain) in enumerate(zip(some[:2], domains, strict=True)):
        statistics = engine.statistics
        assert statistics.n_crossing_edges > 0
        row_bytes = 16 * 8  # d_pet of float64
        expected = statistics.n_crossing_edges * row_bytes * 2 * n_exchanges
        assert statistics.bytes_messages == expected
        n_values += len(set(domain.ghost_atoms[domain.ghost_ranks != rank]))
    n_values *= some[0].info.is_adaptive
    assert sum(e.statistics.bytes_values for e in some[:2]) == 2 * 8 * n_values
