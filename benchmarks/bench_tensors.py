"""What a dipole and a polarizability add to one forward pass of about 1000 atoms.

    python benchmarks/bench_tensors.py [--rounds 7] [--width 128] [--terms]
        [--exported]

A shaken cubic crystal of random elements; one thread, CPU time, so that other programs
count little; interleaved rounds, medians. Beside it the operations of all matrix
products, which no other program changes. With ``--exported`` the C++ engine is timed
on exported files. Writes results/bench_tensors.json, or bench_tensors_exported.json,
``_terms`` with pair and token terms.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from report import save
from torch.utils.flop_counter import FlopCounterMode

from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec
from petmad.model.readout import READOUTS
from petmad.neighbors import edge_vectors, neighbor_list


NUMBERS = [1, 6, 7, 8]


class Crystal(NamedTuple):
    """Positions [n, 3] and cubic cell [3, 3] in Å, species [n]."""

    positions: np.ndarray
    cell: np.ndarray
    species: np.ndarray


def make_crystal(n: int = 10, spacing: float = 2.0) -> Crystal:
    """A shaken cubic crystal of n³ atoms."""
    random = np.random.default_rng(0)
    spots = np.array(list(np.ndindex(n, n, n))) * spacing
    positions = spots + 0.2 * random.standard_normal(spots.shape)
    species = random.integers(0, len(NUMBERS), len(spots))
    return Crystal(positions, spacing * n * np.eye(3), species)


def make_graph(crystal: Crystal, config: PETConfig) -> EdgeGraph:
    """Its edges."""
    positions, cell = (torch.from_numpy(array) for array in crystal[:2])
    edges = neighbor_list(positions, cell, torch.ones(3, dtype=bool), config.cutoff)
    return EdgeGraph(
        edge_vectors(positions, cell, edges),
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        torch.from_numpy(crystal.species),
        torch.zeros(len(crystal.species), dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, dtype=torch.int64),
        0,
    )


def eager(model: Potential, graph: EdgeGraph) -> Callable[[list[str]], None]:
    """Evaluates outputs by the plain network."""

    def run(outputs: list[str]) -> None:
        with torch.inference_mode():
            model(graph, outputs)

    return run


def exported(model: Potential, crystal: Crystal) -> Callable[[list[str]], None]:
    """Evaluates outputs by the engine on an exported file, without gradients."""
    from petmad._engine import Engine
    from petmad.export import export_model

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.pt"
        export_model(model, path)
        engine = Engine(str(path), n_threads=1, check_golden=False)
    species, pbc = crystal.species.astype(np.int32), np.ones(3, dtype=bool)

    def run(outputs: list[str]) -> None:
        further = [name for name in outputs if name != "energy"]
        engine.evaluate(
            crystal.positions,
            species,
            crystal.cell,
            pbc,
            outputs=further,
            gradients=False,
        )

    return run


def seconds(run: Callable[[list[str]], None], outputs: list[str]) -> float:
    """CPU time of one evaluation."""
    started = time.thread_time()
    run(outputs)
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
    parser.add_argument("--readouts", nargs="+", default=READOUTS, choices=READOUTS)
    parser.add_argument("--terms", action="store_true", help="pairs' and tokens', too")
    parser.add_argument("--exported", action="store_true", help="time the C++ engine")
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
    crystal = make_crystal()
    graph = make_graph(crystal, config)
    tensors = [("dipole", "vector"), ("polarizability", "symmetric")]
    medians = {}
    for readout in arguments.readouts:
        specs = [
            TargetSpec(
                name,
                kind,
                readout=readout,
                pair_terms=arguments.terms,
                token_terms=arguments.terms,
            )
            for name, kind in tensors
        ]
        model = Potential(config, NUMBERS, [TargetSpec(), *specs])
        run = exported(model, crystal) if arguments.exported else eager(model, graph)
        cases = {"energy": ["energy"], readout: model.target_names}
        times = {name: [] for name in cases}
        for i in range(arguments.rounds + 1):
            for name, outputs in cases.items():
                elapsed = seconds(run, outputs)
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
    name = "bench_tensors_exported" if arguments.exported else "bench_tensors"
    name += "_terms" if arguments.terms else ""
    print(save(name, {**result, "rounds": arguments.rounds, **medians}))


if __name__ == "__main__":
    main()
