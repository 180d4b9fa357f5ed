"""The layers of the network by AOTInductor, beside the exported file's operators.

    python benchmarks/aoti.py [--rounds 7] [--size XS] [--system "192 water"]

The layers of ``petmad.aoti`` are compiled ahead of time and timed beside the operators
on one thread, in interleaved rounds of processor time: the layers alone, and energies
with the gradient by all edges. Prints the reason where a step fails. Writes
results/aoti.json.
"""

import argparse
import copy
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from published import SIZES, SYSTEMS, make_system, published_config, random_potential
from report import save
from torch import nn

from petmad._ops import load_ops
from petmad.aoti import Layers, export_program, layer_inputs
from petmad.fast_network import make_fast
from petmad.model import EdgeGraph
from petmad.neighbors import edge_vectors, neighbor_list


def example(system: str, cutoff: float) -> EdgeGraph:
    """A system and its raw edges."""
    atoms = make_system(system)
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    edges = neighbor_list(positions, cell, torch.tensor([True] * 3), cutoff)
    one, species = torch.ones(1, dtype=torch.int64), torch.tensor(atoms.numbers) - 1
    return EdgeGraph(
        edge_vectors(positions, cell, edges),
        edges.centers,
        edges.neighbors,
        edges.reverse_edges,
        species,
        torch.zeros_like(species),
        0 * one,
        one,
        0,
    )


def by_operators(fast: nn.Module, graph: EdgeGraph) -> tuple:
    """Energy and gradient by all edges, as the engine has them."""
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    results = fast(graph._replace(edge_vectors=vectors), ["energy"])
    energy = results["energy"].sum()
    return energy, torch.autograd.grad(energy, vectors)[0]


def by_layers(layers: Callable, fast: nn.Module, graph: EdgeGraph) -> tuple:
    """The same; the cutoffs by the operators, the rest by the layers given."""
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    edges, rings, _ = fast.network.select(graph._replace(edge_vectors=vectors))
    energies, *gradients = layers(*layer_inputs(edges, rings, graph))
    outputs = (edges.geometry, edges.weights)
    return energies.sum(), torch.autograd.grad(outputs, vectors, gradients)[0]


def attempt(name: str, step: Callable[[], object], told: dict) -> object | None:
    """What a step gives, or nothing and the reason in ``told``."""
    start = time.perf_counter()
    try:
        found = step()
    except Exception as error:  # whatever torch fails with is the finding
        reason = " ".join(str(error).split())[:400]
        told[name] = f"failed: {type(error).__name__}: {reason}"
        found = None
    else:
        told[name] = f"worked in {time.perf_counter() - start:.0f} s"
    print(f"{name}: {told[name]}", flush=True)
    return found


def timed(tasks: dict[str, Callable[[], object]], n_rounds: int) -> dict[str, float]:
    """Medians of interleaved rounds [ms]; the first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for k in range(n_rounds + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if k > 0:
                times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """All steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=SIZES, default="XS")
    parser.add_argument("--system", choices=SYSTEMS, default="192 water")
    arguments = parser.parse_args()
    load_ops()
    torch.set_num_threads(1)
    graph = example(arguments.system, published_config(arguments.size).cutoff)
    plain = random_potential(arguments.size).requires_grad_(False)
    fast = copy.deepcopy(plain)
    make_fast(fast)
    fast = torch.jit.script(fast)
    layers = Layers(plain).eval()
    edges, rings, _ = fast.network.select(graph)
    inputs = layer_inputs(edges, rings, graph)
    told: dict = {}

    tasks: dict[str, Callable[[], object]] = {
        "operators": lambda: by_operators(fast, graph),
        "plain": lambda: by_layers(layers, fast, graph),
    }
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "layers.pt2")
        program = attempt("export", lambda: export_program(plain, graph), told)
        if program is not None:
            package = attempt(
                "compile",
                lambda: torch._inductor.aoti_compile_and_package(
                    program, package_path=path
                ),
                told,
            )
            if package is not None:
                loaded = torch._inductor.aoti_load_package(package)
                tasks["AOTInductor"] = lambda: by_layers(loaded, fast, graph)
                tasks["AOTInductor, layers alone"] = lambda: loaded(*inputs)
        milliseconds = timed(tasks, arguments.rounds)
        expected = tasks["operators"]()[1]
        for name in ("plain", "AOTInductor"):
            if name in tasks:
                found = tasks[name]()[1]
                errors[name] = float((found - expected).abs().max())
    for name, value in milliseconds.items():
        print(f"{name}: {value:.0f} ms of processor time")
    print("largest differences of the gradient from the operators' [eV/Å]:", errors)
    result = {"steps": told, "ms": milliseconds, "differences": errors}
    options = {"size": arguments.size, "system": arguments.system}
    print("written to", save("aoti", {**options, **result}))


if __name__ == "__main__":
    main()
