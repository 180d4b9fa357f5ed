"""Our neighbor list beside vesin's: same edges, and how long each takes.

    python benchmarks/neighbor_list.py [--atoms 1000 10000 100000] [--rounds 7]
        [--threads 1] [--note TEXT]

Needs vesin (`pip install vesin`). Random atoms in random order at the density of
water; full lists with shifts, on as many threads each. Rounds are interleaved, medians
of time and of processor time are told: on a busy machine the second is the fairer.
Ours comes sorted. Told apart: our list with the index of every edge's reversed one.
Writes results/neighbor_list.json.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from report import save
from vesin import NeighborList

from petmad._ops import load_ops


DENSITY = 0.1  # atoms/Å³
CUTOFFS = (4.5, 7.5)  # Å: of the classic models, and of XS
BYTES_PER_EDGE = 130  # of both lists and vesin's own memory


def fingerprint(i: np.ndarray, j: np.ndarray, s: np.ndarray) -> tuple[int, int]:
    """Number of edges and sum of a hash of each: the same for any order of them."""
    total = 0
    for first in range(0, len(i), 1_000_000):
        part = slice(first, first + 1_000_000)
        values = np.zeros(len(i[part]), dtype=np.uint64)
        for column in (i[part], j[part], *s[part].T):
            values += column.astype(np.int64).view(np.uint64)
            values *= np.uint64(0x9E3779B97F4A7C15)
            values ^= values >> np.uint64(29)
        total += int(values.sum(dtype=np.uint64))
    return len(i), total % 2**64


def median_times(
    tasks: dict[str, Callable[[], object]], n_rounds: int
) -> dict[str, float]:
    """Medians of interleaved rounds [ms] by the clock, and of the processor."""
    found: dict[str, list[float]] = {}
    for _ in range(n_rounds):
        for name, task in tasks.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            result = task()
            cpu, clock = time.process_time() - cpu_start, time.perf_counter() - start
            found.setdefault(f"{name}_ms", []).append(1e3 * clock)
            found.setdefault(f"{name}_cpu_ms", []).append(1e3 * cpu)
            del result
    return {name: statistics.median(values) for name, values in found.items()}


def compare(
    n_atoms: int, cutoff: float, n_rounds: int, n_threads: int
) -> dict[str, float]:
    """Medians [ms] and their ratios.

    Raises:
        RuntimeError: the edges differ.
    """
    side = (n_atoms / DENSITY) ** (1 / 3)
    points = np.random.default_rng(n_atoms).uniform(0, side, (n_atoms, 3))
    cell = side * np.eye(3)
    system = (torch.tensor(points), torch.tensor(cell), torch.tensor([True] * 3))
    vesin = NeighborList(cutoff=cutoff, full_list=True, n_threads=n_threads)

    def theirs() -> list[np.ndarray]:
        return vesin.compute(points=points, box=cell, periodic=True, quantities="ijS")

    def ours() -> tuple[torch.Tensor, ...]:
        return torch.ops.petmad.build_neighbor_list(*system, cutoff)

    def whole() -> tuple[torch.Tensor, ...]:
        return torch.ops.petmad.whole_neighbor_list(*system, cutoff)

    found = fingerprint(*[part.numpy() for part in ours()])
    if found != fingerprint(*theirs()):
        raise RuntimeError(
            f"{n_atoms} atoms at {cutoff} Å: the edges differ from vesin's"
        )
    result = median_times(
        {"vesin": theirs, "petmad": ours, "with_reverse": whole}, n_rounds
    )
    result["ratio"] = result["vesin_ms"] / result["petmad_ms"]
    result["cpu_ratio"] = result["vesin_cpu_ms"] / result["petmad_cpu_ms"]
    result["n_edges"] = found[0]
    return result


def fits(n_atoms: int, cutoff: float) -> bool:
    """Whether the free memory is enough for both."""
    n_edges = n_atoms * DENSITY * 4 / 3 * np.pi * cutoff**3
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return n_edges * BYTES_PER_EDGE < free


def main() -> None:
    """Compare all sizes and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--atoms", nargs="+", type=int, default=[1000, 10_000, 100_000, 1_000_000]
    )
    parser.add_argument("--cutoffs", nargs="+", type=float, default=CUTOFFS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", default="", help="of the machine, kept beside it")
    arguments = parser.parse_args()
    load_ops()
    torch.set_num_threads(arguments.threads)
    results: dict = {"note": arguments.note, "threads": arguments.threads}
    for n_atoms in arguments.atoms:
        for cutoff in arguments.cutoffs:
            label = f"{n_atoms} atoms, {cutoff} Å"
            if not fits(n_atoms, cutoff):
                print(f"{label}: left out, both lists do not fit the free memory")
                continue
            result = compare(n_atoms, cutoff, arguments.rounds, arguments.threads)
            results[label] = result
            print(
                f"{label}, {result['n_edges']} edges: vesin {result['vesin_ms']:.1f}, "
                f"petmad {result['petmad_ms']:.1f} ms (x{result['ratio']:.2f}; "
                f"processor time x{result['cpu_ratio']:.2f}), with reversed edges "
                f"{result['with_reverse_ms']:.1f} ms",
                flush=True,
            )
    print(f"written to {save('neighbor_list', results)}")


if __name__ == "__main__":
    main()
