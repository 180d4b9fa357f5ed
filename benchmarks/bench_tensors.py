"""What a dipole and a polarizability add to one forward pass of about 1000 atoms.

    python benchmarks/bench_tensors.py [--rounds 7] [--width 128]

A shaken cubic crystal of random elements; one thread, CPU time, so that other programs
count little; interleaved rounds, medians. Beside it the operations of all matrix
products, which no other program changes. Writes results/bench_tensors.json.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from report import save
from torch.utils.flop_counter import FlopCounterMode

from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec
from petmad.neighbors import edge_vectors, neighbor_list


NUMBERS = [1, 6, 7, 8]


def make_graph(config: PETConfig, n: int = 10, spacing: float = 2.0) -> EdgeGraph:
    """A shaken cubic crystal of n³ atoms."""
    random = np.random.default_rng(0)
    spots = np.array(list(np.ndindex(n, n, n))) * spacing
    positions = torch.from_numpy(spots + 0.2 * random.standard_normal(spots.shape))
    cell = spacing * n * torch.eye(3, dtype=torch.float64)
    edges = neighbor_list(positions, cell, torch.ones(3, dtype=bool), config.cutoff)
    return EdgeGraph(
        edge_vectors(positions, cell, edges),
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        torch.from_numpy(random.integers(0, len(NUMBERS), len(spots))),
        torch.zeros(len(spots), dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, dtype=torch.int64),
        0,
    )


def seconds(model: Potential, graph: EdgeGraph, outputs: list[str]) -> float:
    """CPU time of one evaluation."""
    started = time.thread_time()
    with torch.inference_mode():
        model(graph, outputs)
    return time.thread_time() - started


def operations(model: Potential, graph: EdgeGraph, outputs: list[str]) -> int:
    """Floating point operations of the matrix products of one evaluation."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(graph, outputs)
    return counter.get_total_flops()


def main() -> None:
    """Time each readout beside the energy alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=128, help="d_pet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    width = arguments.width
    config = PETConfig(
        cutoff=5.0,
        num_neighbors_adaptive=16,
        d_pet=width,
        d_head=width,
        d_node=2 * width,
        d_feedforward=2 * width,
    )
    graph = make_graph(config)
    tensors = [("dipole", "vector"), ("polarizability", "symmetric")]
    medians = {}
    for readout in ("edge", "node", "exact", "direct"):
        specs = [TargetSpec(name, kind, readout=readout) for name, kind in tensors]
        model = Potential(config, NUMBERS, [TargetSpec(), *specs])
        cases = {"energy": ["energy"], readout: model.target_names}
        times = {name: [] for name in cases}
        for i in range(arguments.rounds + 1):
            for name, outputs in cases.items():
                elapsed = seconds(model, graph, outputs)
                if i > 0:  # the first warms up
                    times[name].append(elapsed)
        energy, both = (statistics.median(t) for t in times.values())
        few, many = (operations(model, graph, outputs) for outputs in cases.values())
        medians[readout] = {
            "energy_seconds": energy,
            "with_tensors_seconds": both,
            "added_percent": 100 * (both / energy - 1),
            "added_operations_percent": 100 * (many / few - 1),
        }
        added = medians[readout]["added_percent"]
        print(
            f"{readout:8} energy {energy:.3f} s, added {added:.1f} %; "
            f"operations {100 * (many / few - 1):.1f} %"
        )
    result = {"n_atoms": len(graph.species), "hypers": config.to_dict()}
    print(save("bench_tensors", {**result, "rounds": arguments.rounds, **medians}))


if __name__ == "__main__":
    main()
