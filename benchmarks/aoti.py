"""The layers of the network by AOTInductor, beside the exported file's operators.

    python benchmarks/aoti.py [--rounds 7] [--size XS] [--system "192 water"]

What depends on the data (adaptive cutoffs, which edges are kept, where their tokens
sit) stays outside, as in ``petmad.training.compiled``; the layers, the readout and the
gradient with respect to the kept edges are exported for any number of atoms, edges and
tokens, compiled ahead of time, and timed beside the operators on one thread, in
interleaved rounds of processor time: the layers alone, and energies with the gradient
by all edges. Prints the reason where a step fails. Writes results/aoti.json.
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
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from petmad._ops import load_ops
from petmad.fast_network import make_fast
from petmad.model import EdgeGraph, Potential
from petmad.model.pet import KeptEdges
from petmad.model.rings import one_ring
from petmad.model.transformer import TokenSlots, token_slots, weigh_slots
from petmad.neighbors import edge_vectors, neighbor_list


class Layers(nn.Module):
    """From kept edges to the energy and its gradients, plain tensors in and out."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self,
        geometry: torch.Tensor,
        weights: torch.Tensor,
        centers: torch.Tensor,
        reverse: torch.Tensor,
        neighbor_species: torch.Tensor,
        species: torch.Tensor,
        starts: torch.Tensor,
        rows: torch.Tensor,
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Energy of all atoms, its gradients by geometry and by weights."""
        network = self.potential.network
        graph = atoms_alone(species)
        rings = one_ring(centers, reverse, species.shape[0], network.n_rings)

        geometry = geometry.detach().requires_grad_(True)
        weights = weights.detach().requires_grad_(True)
        edges = KeptEdges(centers, geometry, weights, neighbor_species)
        layout = weigh_slots(TokenSlots(starts, rows, slots), weights)
        features = network.evaluate(graph, edges, rings, weights, layout)
        results = self.potential.read(features, graph, ["energy"], False)
        energy = results["energy"].sum()
        by_geometry, by_weights = torch.autograd.grad(energy, (geometry, weights))
        return energy, by_geometry, by_weights


def atoms_alone(species: torch.Tensor) -> EdgeGraph:
    """One structure without edges."""
    one, nothing = torch.ones(1, dtype=torch.int64), species.new_zeros(0)
    zeros = torch.zeros_like(species)
    vectors = torch.zeros(0, 3, dtype=torch.float64)
    return EdgeGraph(
        vectors, nothing, nothing, nothing, species, zeros, 0 * one, one, 0
    )


def example(system: str, cutoff: float) -> EdgeGraph:
    """A system and its raw edges."""
    atoms = make_system(system)
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    edges = neighbor_list(positions, cell, torch.tensor([True] * 3), cutoff)
    return atoms_alone(torch.tensor(atoms.numbers) - 1)._replace(
        edge_vectors=edge_vectors(positions, cell, edges),
        centers=edges.centers,
        neighbors=edges.neighbors,
        reverse_edges=edges.reverse_edges,
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
    energy, *gradients = layers(*layer_inputs(edges, rings, graph))
    outputs = (edges.geometry, edges.weights)
    return energy, torch.autograd.grad(outputs, vectors, gradients)[0]


def layer_inputs(edges: KeptEdges, rings: tuple, graph: EdgeGraph) -> tuple:
    """Arguments of :class:`Layers`."""
    slots = token_slots(rings.centers, graph.species.shape[0])
    return (
        edges.geometry.detach(),
        edges.weights.detach(),
        rings.centers,
        rings.reverse_edges,
        edges.neighbor_species,
        graph.species,
        slots.starts,
        slots.rows.clone(),
        slots.slots,
    )


def export(layers: Layers, inputs: tuple, shapes: list[dict]) -> object:
    """Any number of atoms, edges and tokens; torch.export alone stops at gradients."""
    traced = make_fx(layers, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    return torch.export.export(
        traced(*inputs), inputs, dynamic_shapes=tuple(shapes), strict=False
    )


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
    shapes = [{0: Dim.AUTO} for _ in inputs]
    shapes[-2] = {0: Dim.AUTO, 1: Dim.AUTO}  # rows of tokens
    told: dict = {}

    tasks: dict[str, Callable[[], object]] = {
        "operators": lambda: by_operators(fast, graph),
        "plain": lambda: by_layers(layers, fast, graph),
    }
    errors = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "layers.pt2")
        program = attempt("export", lambda: export(layers, inputs, shapes), told)
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
