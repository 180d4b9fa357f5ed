"""How far AOTInductor comes with the plain network, and how fast it is there.

    python benchmarks/aoti.py [--rounds 7]

Tries, in turn, to export the plain network for any number of atoms and edges, with
energies alone and with the gradient of the edges inside, and to compile what could be
exported; then times it beside the exported file's operators on one thread, in
interleaved rounds. Prints the reason where a step fails. XS in 192 atoms of water.
Writes results/aoti.json.
"""

import argparse
import copy
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from published import make_system, random_potential
from report import save
from torch import nn
from torch.export import Dim

from petmad._ops import load_ops
from petmad.fast_network import make_fast
from petmad.model import EdgeGraph, Potential
from petmad.neighbors import edge_vectors, neighbor_list


class Energy(nn.Module):
    """Energies of atoms from plain tensors."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        reverse: torch.Tensor,
        species: torch.Tensor,
    ) -> torch.Tensor:
        """One structure; see ``EdgeGraph``."""
        one = torch.ones(1, dtype=torch.int64)
        graph = EdgeGraph(
            vectors,
            centers,
            neighbors,
            reverse,
            species,
            torch.zeros_like(species),
            0 * one,
            one,
            0,
        )
        return self.potential(graph, ["energy"])["energy"]


class EnergyAndGradient(Energy):
    """The same, and the gradient of the sum in the edge vectors."""

    def forward(
        self,
        vectors: torch.Tensor,
        centers: torch.Tensor,
        neighbors: torch.Tensor,
        reverse: torch.Tensor,
        species: torch.Tensor,
    ) -> torch.Tensor:
        """[n_edges, 3]."""
        vectors = vectors.detach().requires_grad_(True)
        energy = super().forward(vectors, centers, neighbors, reverse, species).sum()
        return torch.autograd.grad(energy, vectors)[0]


def example() -> tuple[torch.Tensor, ...]:
    """Arguments of 192 atoms of water."""
    atoms = make_system("192 water")
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    edges = neighbor_list(positions, cell, torch.tensor([True] * 3), 7.5)
    vectors = edge_vectors(positions, cell, edges)
    species = torch.tensor(atoms.numbers) - 1
    return vectors, edges.centers, edges.neighbors, edges.reverse_edges, species


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
    arguments = parser.parse_args()
    load_ops()
    torch.set_num_threads(1)
    inputs = example()
    plain = random_potential("XS").requires_grad_(False)
    n_edges, n_atoms = Dim("n_edges", min=2), Dim("n_atoms", min=2)
    shapes = (*4 * [{0: n_edges}], {0: n_atoms})
    told: dict = {}

    def export(module: nn.Module) -> torch.export.ExportedProgram:
        return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)

    fast = copy.deepcopy(plain)
    make_fast(fast)
    fast = torch.jit.script(fast)
    energy, gradient = Energy(plain).eval(), EnergyAndGradient(plain).eval()
    tasks: dict[str, Callable[[], object]] = {
        "petmad, energy": lambda: Energy(fast)(*inputs),
        "petmad, with gradient": lambda: EnergyAndGradient(fast)(*inputs),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, module in (("energy", energy), ("with gradient", gradient)):
            program = attempt(f"export, {name}", lambda m=module: export(m), told)
            if program is None:
                continue
            path = str(pathlib.Path(folder) / f"{name.replace(' ', '_')}.pt2")
            package = attempt(
                f"compile, {name}",
                lambda p=program, to=path: torch._inductor.aoti_compile_and_package(
                    p, package_path=to
                ),
                told,
            )
            if package is not None:
                loaded = torch._inductor.aoti_load_package(package)
                tasks[f"AOTInductor, {name}"] = lambda run=loaded: run(*inputs)
        milliseconds = timed(tasks, arguments.rounds)
    for name, value in milliseconds.items():
        print(f"{name}: {value:.0f} ms of processor time")
    print("written to", save("aoti", {"steps": told, "ms": milliseconds}))


if __name__ == "__main__":
    main()
