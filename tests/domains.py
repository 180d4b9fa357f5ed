"""Domains made by hand in one process, joined by threads instead of MPI.

Atoms are dealt to ranks; every image within reach becomes a ghost that names its owner
and knows its distance from the domain, which is that from the nearest owned atom.
"""

import threading
from typing import NamedTuple

import numpy as np


class Ranks:
    """The meeting point of the ranks; a rank that fails lets the others fail too."""

    def __init__(self, n_ranks):
        self.n_ranks = n_ranks
        self.barrier = threading.Barrier(n_ranks, timeout=60)
        self.board = {}

    def post(self, rank, messages):
        """Everybody's messages, once everybody has posted."""
        self.board[rank] = messages
        self.barrier.wait()
        board = dict(self.board)
        self.barrier.wait()
        return board


class ThreadTransport:
    """Transport of one rank; counts its messages."""

    def __init__(self, ranks, rank):
        self.ranks = ranks
        self.rank = rank
        self.n_ranks = ranks.n_ranks
        self.n_exchanges = 0

    def all_to_all(self, outgoing):
        """What each rank sent here."""
        board = self.ranks.post(self.rank, outgoing)
        return [board[peer][self.rank] for peer in range(self.n_ranks)]

    def exchange(self, outgoing, expected):
        """Messages from the expected peers."""
        self.n_exchanges += 1
        board = self.ranks.post(self.rank, outgoing)
        incoming = {peer: board[peer][self.rank] for peer in expected}
        assert {p: len(m) for p, m in incoming.items()} == expected
        return incoming


class Domain(NamedTuple):
    """What one rank holds."""

    owned: np.ndarray
    positions: np.ndarray
    species: np.ndarray
    ghost_ranks: np.ndarray
    ghost_owners: np.ndarray
    ghost_atoms: np.ndarray
    ghost_distances: np.ndarray


class Structure(NamedTuple):
    """A periodic system."""

    positions: np.ndarray
    species: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray


def images(structure, reach):
    """All lattice translations [n, 3] that could bring an atom within reach."""
    reciprocal = np.linalg.inv(structure.cell).T
    counts = np.ceil(reach * np.linalg.norm(reciprocal, axis=1)).astype(int) + 1
    counts = np.where(structure.pbc, counts, 0)
    ranges = [np.arange(-n, n + 1) for n in counts]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    return shifts @ structure.cell


def decompose(structure, rank_of_atom, n_ranks, reach):
    """Domains with every image within reach of an owned atom as a ghost."""
    index_on_rank = np.zeros(len(rank_of_atom), dtype=np.int32)
    for rank in range(n_ranks):
        mine = rank_of_atom == rank
        index_on_rank[mine] = np.arange(mine.sum())
    domains = []
    for rank in range(n_ranks):
        owned = np.flatnonzero(rank_of_atom == rank)
        here = structure.positions[owned]
        atoms, places, depths = [], [], []
        for translation in images(structure, reach):
            moved = structure.positions + translation
            if len(owned) == 0:
                continue
            distances = np.linalg.norm(moved[:, None] - here[None], axis=2).min(axis=1)
            is_ghost = distances <= reach
            if not translation.any():
                is_ghost &= rank_of_atom != rank
            atoms.append(np.flatnonzero(is_ghost))
            places.append(moved[is_ghost])
            depths.append(distances[is_ghost])
        ghosts = np.concatenate([np.zeros(0, dtype=int), *atoms])
        places = np.concatenate([np.zeros((0, 3)), *places])
        domains.append(
            Domain(
                owned,
                np.concatenate([here, places]),
                structure.species[np.concatenate([owned, ghosts])],
                rank_of_atom[ghosts].astype(np.int32),
                index_on_rank[ghosts],
                ghosts,
                np.concatenate([np.zeros(0), *depths]),
            )
        )
    return domains


def run_ranks(n_ranks, work):
    """``work(rank, transport)`` in a thread per rank; raises the first exception."""
    ranks = Ranks(n_ranks)
    results, errors = [None] * n_ranks, []

    def run(rank):
        try:
            results[rank] = work(rank, ThreadTransport(ranks, rank))
        except Exception as error:
            errors.append(error)
            ranks.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(n_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    causes = [e for e in errors if "BrokenBarrierError" not in str(e)]
    if errors:
        raise (causes or errors)[0]
    return results


def assemble(domains, results, n_atoms):
    """Sums of the ranks' results, ghosts' shares sent home."""
    total = {
        "energy": sum(r["energy"] for r in results),
        "virial": sum(r["virial"] for r in results),
        "atomic_energies": np.full(n_atoms, np.nan),
        "kept_edges": np.full(n_atoms, np.nan),
        "forces": np.zeros((n_atoms, 3)),
        "atomic_virials": np.zeros((n_atoms, 3, 3)),
    }
    for domain, result in zip(domains, results, strict=True):
        atoms = np.concatenate([domain.owned, domain.ghost_atoms])
        for name in ("atomic_energies", "kept_edges"):
            total[name][domain.owned] = result[name]
        np.add.at(total["forces"], atoms, result["forces"])
        np.add.at(total["atomic_virials"], atoms, result["atomic_virials"])
    return total


def evaluate_domains(engines, domains, recompute=None, **options):
    """Results of all ranks; ``recompute`` is the depth of ghosts to evaluate again."""

    def work(rank, transport):
        d = domains[rank]
        mode = {"transport": transport}
        if recompute is not None:
            mode = {"ghost_distances": d.ghost_distances, "ghost_depth": recompute}
        return engines[rank].evaluate_domain(
            d.positions,
            d.species,
            len(d.owned),
            d.ghost_ranks,
            d.ghost_owners,
            atomic_virials=True,
            **mode,
            **options,
        )

    return run_ranks(len(domains), work)
