"""The exported network's operators against the plain network: ratios in one run.

    python benchmarks/fast_network.py [--sizes demo XS S] [--threads 1 2] [--rounds 7]

Random weights of the published sizes, 192 atoms of water on a grid and 64 of diamond,
float32, energy and the gradient of all edge vectors, lists not included. Rounds are
interleaved; medians are compared. Writes results/fast_network.json.
"""

import argparse
import copy
import statistics
import time

import ase
import ase.build
import numpy as np
import torch
from report import save

from petmad._ops import load_ops
from petmad.fast_network import make_fast
from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec
from petmad.neighbors import neighbor_list


SIZES = {
    "demo": {"cutoff": 5.0, "d_pet": 64, "d_head": 64, "d_node": 128},
    "XS": {"cutoff": 7.5, "d_pet": 128, "d_head": 128, "d_node": 512},
    "S": {"cutoff": 8.0, "d_pet": 256, "d_head": 256, "d_node": 1024},
}
HEADS = {"demo": 4, "XS": 8, "S": 8}
LAYERS = {"demo": 2, "XS": 2, "S": 3}


def water() -> ase.Atoms:
    """64 molecules at random orientations on a grid, 0.993 g/cm³."""
    rng = np.random.default_rng(64)
    molecule = ase.build.molecule("H2O")
    spots = np.stack(np.meshgrid(*3 * [np.arange(4)]), axis=-1).reshape(-1, 3)
    system = ase.Atoms(cell=[12.445] * 3, pbc=True)
    for spot in spots:
        turned = molecule.copy()
        turned.euler_rotate(*rng.uniform(0, 360, 3))
        turned.translate(spot * 12.445 / 4)
        system += turned
    return system


def make_models(size: str) -> tuple[Potential, Potential]:
    """The plain network with random weights, and the same on fast operators."""
    torch.manual_seed(0)
    config = PETConfig(
        num_neighbors_adaptive=16,
        num_heads=HEADS[size],
        num_gnn_layers=LAYERS[size],
        num_attention_layers=1,
        d_feedforward=2 * SIZES[size]["d_pet"],
        **SIZES[size],
    )
    plain = Potential(config, [1, 6, 8], [TargetSpec()]).to_dtype(torch.float32).eval()
    plain.requires_grad_(False)
    fast = copy.deepcopy(plain)
    make_fast(fast)
    return plain, fast


def make_graph(atoms: ase.Atoms, cutoff: float) -> EdgeGraph:
    """All raw edges of one structure."""
    positions = torch.tensor(atoms.positions)
    cell = torch.tensor(np.asarray(atoms.cell))
    edges = neighbor_list(positions, cell, torch.tensor(atoms.pbc), cutoff)
    vectors = positions[edges.neighbors] - positions[edges.centers]
    vectors = vectors + edges.cell_shifts.to(torch.float64) @ cell
    species = torch.tensor([[1, 6, 8].index(z) for z in atoms.numbers])
    return EdgeGraph(
        vectors,
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        species,
        torch.zeros(len(atoms), dtype=torch.int64),
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, dtype=torch.int64),
        0,
    )


def evaluate(potential: Potential, graph: EdgeGraph) -> tuple[torch.Tensor, float]:
    """Gradient of the energy [n_edges, 3] and kept edges per atom."""
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    outputs = potential(
        graph._replace(edge_vectors=vectors), ["energy", "cutoff_stats"]
    )
    (gradient,) = torch.autograd.grad(outputs["energy"].sum(), vectors)
    return gradient, float(outputs["cutoff_stats"][:, 1].detach().mean())


def compare(size: str, atoms: ase.Atoms, n_rounds: int) -> dict[str, float]:
    """Medians over interleaved rounds [ms], their ratio, and the largest deviation."""
    models = make_models(size)
    graph = make_graph(atoms, models[0].config.cutoff)
    gradients = [evaluate(model, graph)[0] for model in models]
    scale = gradients[0].abs().max()
    times: list[list[float]] = [[], []]
    for _ in range(n_rounds):
        for model, found in zip(models, times, strict=True):
            start = time.perf_counter()
            evaluate(model, graph)
            found.append(1e3 * (time.perf_counter() - start))
    plain, fast = (statistics.median(found) for found in times)
    return {
        "plain_ms": plain,
        "fast_ms": fast,
        "ratio": plain / fast,
        "kept_edges_per_atom": evaluate(models[0], graph)[1],
        "relative_deviation": float((gradients[1] - gradients[0]).abs().max() / scale),
    }


def main() -> None:
    """Run all cases and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    load_ops()
    systems = {
        "192 water": water(),
        "64 diamond": ase.build.bulk("C", cubic=True).repeat(2),
    }
    results = {
        "instruction_set": torch.ops.petmad.instruction_set(),
        "product_library": torch.ops.petmad.product_library(),
    }
    for n_threads in arguments.threads:
        torch.set_num_threads(n_threads)
        for size in arguments.sizes:
            for name, atoms in systems.items():
                result = compare(size, atoms, arguments.rounds)
                label = f"{size}, {name}, {n_threads} thread(s)"
                results[label] = result
                print(
                    f"{label}: {result['plain_ms']:.0f} -> {result['fast_ms']:.0f} ms, "
                    f"x{result['ratio']:.2f}, deviation "
                    f"{result['relative_deviation']:.1e}",
                    flush=True,
                )
    print(f"written to {save('fast_network', results)}")


if __name__ == "__main__":
    main()
