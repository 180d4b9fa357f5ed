"""Our neighbor list beside vesin's: same edges, and how long each takes.

    python benchmarks/neighbor_list.py [--atoms 1000 10000 100000] [--rounds 7]

Needs vesin (`pip install vesin`). Random atoms at the density of water, one thread,
full lists with shifts; rounds interleaved, medians compared. Ours comes sorted, and
with the index of every edge's reversed one, whose time is told apart. Writes
results/neighbor_list.json.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from report import save
from vesin import NeighborList

from petmad._ops import load_ops


DENSITY = 0.1  # atoms/Å³
CUTOFFS = (4.5, 7.5)  # Å: of the classic models, and of XS


def sorted_rows(i: np.ndarray, j: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Edges [n_edges, 5] in ascending order."""
    rows = np.column_stack([i, j, s]).astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def compare(n_atoms: int, cutoff: float, n_rounds: int) -> dict[str, float]:
    """Medians [ms] and their ratio.

    Raises:
        RuntimeError: the edges differ.
    """
    side = (n_atoms / DENSITY) ** (1 / 3)
    points = np.random.default_rng(n_atoms).uniform(0, side, (n_atoms, 3))
    cell = side * np.eye(3)
    positions, box = torch.tensor(points), torch.tensor(cell)
    pbc = torch.tensor([True] * 3)
    build = torch.ops.petmad.build_neighbor_list
    vesin = NeighborList(cutoff=cutoff, full_list=True)

    ours = build(positions, box, pbc, cutoff)
    theirs = vesin.compute(points=points, box=cell, periodic=True, quantities="ijS")
    found = np.column_stack([part.numpy() for part in ours])
    if not np.array_equal(found, sorted_rows(*theirs)):
        raise RuntimeError(
            f"{n_atoms} atoms at {cutoff} Å: the edges differ from vesin's"
        )
    del found, theirs

    times: dict[str, list[float]] = {"vesin": [], "petmad": [], "reverse": []}
    for _ in range(n_rounds):
        start = time.perf_counter()
        vesin.compute(points=points, box=cell, periodic=True, quantities="ijS")
        times["vesin"].append(time.perf_counter() - start)
        start = time.perf_counter()
        ours = build(positions, box, pbc, cutoff)
        times["petmad"].append(time.perf_counter() - start)
        start = time.perf_counter()
        torch.ops.petmad.reverse_index(*ours)
        times["reverse"].append(time.perf_counter() - start)
    result = {f"{k}_ms": 1e3 * statistics.median(v) for k, v in times.items()}
    result["ratio"] = result["vesin_ms"] / result["petmad_ms"]
    result["n_edges"] = len(ours[0])
    return result


def main() -> None:
    """Compare all sizes and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--atoms", nargs="+", type=int, default=[1000, 10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--cutoffs", nargs="+", type=float, default=CUTOFFS)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    load_ops()
    torch.set_num_threads(1)
    results = {}
    for n_atoms in arguments.atoms:
        for cutoff in arguments.cutoffs:
            result = compare(n_atoms, cutoff, arguments.rounds)
            results[f"{n_atoms} atoms, {cutoff} Å"] = result
            print(
                f"{n_atoms} atoms, {cutoff} Å, {result['n_edges']} edges: vesin "
                f"{result['vesin_ms']:.1f}, petmad {result['petmad_ms']:.1f} ms "
                f"(x{result['ratio']:.2f}), reversed edges "
                f"{result['reverse_ms']:.1f} ms",
                flush=True,
            )
    print(f"written to {save('neighbor_list', results)}")


if __name__ == "__main__":
    main()
