"""Time, work, memory and errors of a step on a GPU, per size, system and precision.

    python benchmarks/gpu.py [--sizes XS S M] [--precisions fp32 tf32] [--rounds 20]
    python benchmarks/gpu.py --sizes S --memory layers --systems "222264 water"
    python benchmarks/gpu.py --device cpu --quick     (kernels emulated: its own logic)

Random weights of the published sizes. A step is what molecular dynamics needs between
two rebuilt lists: positions up, edge vectors, network, edge gradients, forces and
virial down; building the list is timed beside it. The same step goes through the
engine, as LAMMPS calls it, with a list of a skin of 2 Å. Every answer is checked in
the same run: forces of the first cell, of which the larger systems are copies, against
the plain network in float64 on the CPU. The ceilings are those of the matrix library
and of a copy on this card. Memory is the most that torch had allocated, beside what the
plan of the tier expects. Writes results/gpu.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gpu_engine import measure_engine, new_engine
from gpu_systems import (
    SIZES,
    EmulatedOperators,
    System,
    make_models,
    make_systems,
    operations,
)
from report import RESULTS, Keep, forget, save

from petmad._ops import load_ops
from petmad.fast_network import network_sizes
from petmad.model import EdgeGraph, Potential


TIERS = ("keep", "wide", "layers")
MOST_ATOMS = 100_000  # of systems that run unless others are named
PRECISIONS = ("fp32", "tf32", "fp16")
# eV/Å of forces of order 1 eV/Å: float32 rounds at 1e-5; tf32 and fp16 products at 1e-3
LARGEST_ERROR = {"fp32": 1e-3, "tf32": 5e-2, "fp16": 5e-2}


class Lists(NamedTuple):
    """A neighbor list on the device, and what is kept beside it."""

    centers: torch.Tensor
    neighbors: torch.Tensor
    shifts: torch.Tensor
    reverse: torch.Tensor
    incidence: tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Step(NamedTuple):
    """Results of one evaluation."""

    energy: float
    forces: torch.Tensor
    virial: torch.Tensor
    n_kept: int


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def build_lists(system: System, cutoff: float, device: torch.device) -> Lists:
    """From positions on the host."""
    ops = torch.ops.petmad_cuda
    positions = torch.tensor(system.positions).to(device)
    cell = torch.tensor(system.cell)
    everywhere = torch.tensor([True] * 3)
    edges = ops.build_neighbor_list(positions, cell, everywhere, cutoff, -1, False)
    reverse = ops.reverse_index(*edges)
    incidence = ops.incidence(edges[0], edges[1], len(system.positions))
    return Lists(*edges, reverse, incidence)


def graph_of(system: System, lists: Lists, vectors: torch.Tensor) -> EdgeGraph:
    """What the network takes."""
    device = vectors.device
    return EdgeGraph(
        vectors,
        lists.centers,
        lists.neighbors,
        lists.reverse,
        torch.tensor(system.species).to(device),
        torch.zeros(len(system.species), dtype=torch.int64, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
        torch.ones(1, dtype=torch.int64, device=device),
        0,
    )


def network_step(
    model: Potential, graph: EdgeGraph
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energy, its gradient in the edge vectors, and numbers of kept edges."""
    vectors = graph.edge_vectors.detach().requires_grad_(True)
    outputs = model(graph._replace(edge_vectors=vectors), ["energy", "cutoff_stats"])
    energy = outputs["energy"].sum()
    (gradient,) = torch.autograd.grad(energy, vectors)
    return energy.detach(), gradient, outputs["cutoff_stats"][:, 1].detach()


def step(model: Potential, system: System, lists: Lists, device: torch.device) -> Step:
    """One step from positions on the host to forces on the host."""
    ops = torch.ops.petmad_cuda
    positions = torch.tensor(system.positions).to(device)
    cell = torch.tensor(system.cell).to(device)
    vectors = ops.edge_vectors(positions, cell, *lists[:3])
    energy, gradient, kept = network_step(model, graph_of(system, lists, vectors))
    forces = ops.fold(gradient, *lists.incidence)
    virial = ops.fold_virial(gradient, vectors)
    return Step(float(energy), forces.cpu(), virial.cpu(), int(kept.sum()))


def timed(function: Any, n_rounds: int, device: torch.device) -> list[float]:
    """Milliseconds of each round, after one to warm up."""
    function()
    times = []
    for _ in range(n_rounds):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def reference(plain: Potential, system: System, cutoff: float) -> np.ndarray:
    """Forces [n_cell, 3] eV/Å by the plain network in float64 on the CPU."""
    host = torch.device("cpu")
    lists = build_lists(system, cutoff, host)
    positions, cell = torch.tensor(system.positions), torch.tensor(system.cell)
    vectors = torch.ops.petmad.edge_vectors(positions, cell, *lists[:3])
    _, gradient, _ = network_step(plain, graph_of(system, lists, vectors))
    n_atoms = len(system.positions)
    forces = torch.ops.petmad.fold_forces(gradient, *lists[:2], n_atoms)
    return forces.numpy()


def check_forces(forces: np.ndarray, wanted: np.ndarray, precision: str) -> float:
    """Largest error [eV/Å] of the first cell's forces; ends the run if too large."""
    error = float(np.abs(forces[: len(wanted)] - wanted).max())
    if not error <= LARGEST_ERROR[precision] * max(1.0, np.abs(wanted).max()):
        raise SystemExit(f"forces are off by {error} eV/Å: the kernels compute wrongly")
    return error


def measure(
    model: Potential,
    system: System,
    precision: str,
    arguments: argparse.Namespace,
    wanted: np.ndarray,
) -> dict[str, Any]:
    """Medians and spread [ms], shares, memory and errors of one row of the table."""
    device = torch.device(arguments.device)
    cutoff = model.config.cutoff
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    lists = build_lists(system, cutoff, device)
    found = step(model, system, lists, device)
    error = check_forces(found.forces.numpy(), wanted, precision)
    again = step(model, system, lists, device)
    rounds = arguments.rounds
    whole = timed(lambda: step(model, system, lists, device), rounds, device)
    vectors = torch.ops.petmad_cuda.edge_vectors(
        torch.tensor(system.positions).to(device),
        torch.tensor(system.cell).to(device),
        *lists[:3],
    )
    graph = graph_of(system, lists, vectors)
    inner = timed(lambda: network_step(model, graph), rounds, device)
    build = timed(lambda: build_lists(system, cutoff, device), 3, device)
    milliseconds = statistics.median(whole)
    n_atoms = len(system.positions)
    work = operations(arguments.size, n_atoms, found.n_kept)
    counts = [n_atoms, len(lists.centers), found.n_kept]
    sizes = network_sizes(model.config, torch.float32)
    planned, _, _ = torch.ops.petmad_cuda.plan_memory(sizes, counts, 0)
    return {
        "step_ms": milliseconds,
        "step_ms_spread": max(whole) - min(whole),
        "network_ms": statistics.median(inner),
        "outside_share": 1.0 - statistics.median(inner) / milliseconds,
        "list_ms": statistics.median(build),
        "us_per_atom": 1e3 * milliseconds / n_atoms,
        "tflops": work / (1e9 * milliseconds),
        "kept_edges_per_atom": found.n_kept / n_atoms,
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None,
        "measured_tier": torch.ops.petmad.memory_tier(),
        "planned_gib": planned[TIERS.index(arguments.memory)] / 2**30,
        "force_error_ev_per_a": error,
        "same_forces_again": bool(torch.equal(found.forces, again.forces)),
        "same_energy_again": found.energy == again.energy,
    }


def through_engine(
    plain: Potential,
    system: System,
    precision: str,
    arguments: argparse.Namespace,
    wanted: np.ndarray,
) -> dict[str, Any]:
    """The same through the engine, as LAMMPS calls it, beside the row of its parts."""
    precision_here = host_precision(precision, arguments)
    engine = new_engine(plain, arguments.device, precision_here, arguments.memory)
    row = measure_engine(engine, system, arguments.rounds)
    row["engine_force_error"] = check_forces(row.pop("forces"), wanted, precision)
    return row


def where_memory_allows(
    name: str, function: Callable[..., dict[str, Any]], *given: Any
) -> dict[str, Any]:
    """A part of a row; of what ran out of memory, the message by that name."""
    try:
        return function(*given)
    except (RuntimeError, ValueError) as error:
        if "out of memory" not in str(error):
            raise
        return {name: str(error).splitlines()[0]}
    finally:
        torch.cuda.empty_cache()


def host_precision(precision: str, arguments: argparse.Namespace) -> str:
    """A CPU's engine has but one of them."""
    return "fp32" if arguments.device == "cpu" else precision


def ceilings(device: torch.device, quick: bool) -> dict[str, float]:
    """TFLOP/s of square products and of one of this network's, TB/s of a copy."""
    side = 256 if quick else 8192
    found = {}
    a = torch.randn(side, side, device=device)
    for precision in PRECISIONS:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        x = a.half() if precision == "fp16" and device.type == "cuda" else a
        milliseconds = statistics.median(timed(lambda x=x: x @ x, 5, device))
        found[f"{precision} {side}³ TFLOP/s"] = 2.0 * side**3 / (1e9 * milliseconds)
        rows = torch.randn(512 if quick else 131072, 256, device=device).to(x.dtype)
        weight = torch.randn(256, 1024, device=device).to(x.dtype)
        milliseconds = statistics.median(
            timed(lambda x=rows, w=weight: x @ w, 5, device)
        )
        work = 2.0 * rows.numel() * 1024
        found[f"{precision} rows x 256 x 1024 TFLOP/s"] = work / (1e9 * milliseconds)
    torch.backends.cuda.matmul.allow_tf32 = False
    block = torch.empty(2**20 if quick else 2**30, dtype=torch.float32, device=device)
    copy = torch.empty_like(block)
    milliseconds = statistics.median(timed(lambda: copy.copy_(block), 5, device))
    found["copy TB/s"] = 2.0 * block.nbytes / (1e9 * milliseconds)
    return found


def describe(label: str, row: dict[str, Any]) -> str:
    """One line of the table."""
    engine = row.get("engine_error")
    if engine is None:
        share = 100 * row["engine_outside_share"]
        engine = f"{row['engine_ms']:.2f} ms, outside {share:.1f} %"
    if "error" in row:
        return f"{label:32} {row['error']}; engine {engine}"
    memory = "-" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}"
    return (
        f"{label:32} {row['step_ms']:9.2f} ±{row['step_ms_spread']:.2f} ms, list "
        f"{row['list_ms']:.2f}, outside {100 * row['outside_share']:.1f} %, "
        f"{row['tflops']:.2f} TFLOP/s, {memory} of "
        f"{row['planned_gib']:.2f} GiB planned, engine {engine}, "
        f"{row['force_error_ev_per_a']:.1e} eV/Å"
    )


def run(arguments: argparse.Namespace, keep: Keep = forget) -> dict[str, Any]:
    """All rows, printed and kept as they come."""
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else "cpu",
        "cuda": torch.version.cuda,
        "is_emulated": not on_gpu,
        "memory_tier": arguments.memory,
        "ceilings": ceilings(device, arguments.quick),
    }
    print(results["ceilings"], flush=True)
    torch.ops.petmad.choose_memory(arguments.memory)
    systems = make_systems(arguments.quick)
    usual = [k for k, v in systems.items() if len(v.positions) <= MOST_ATOMS]
    systems = {k: v for k, v in systems.items() if k in (arguments.systems or usual)}
    for size in arguments.sizes:
        plain, fast = make_models(size)
        fast = fast.to(device)
        wanted: dict[int, np.ndarray] = {}
        for name, system in systems.items():
            cell = system.first_cell()
            key = int(cell.positions[0].sum() * 1e6) + len(cell.positions)
            if key not in wanted:
                wanted[key] = reference(plain, cell, plain.config.cutoff)
            for precision in arguments.precisions:
                torch.ops.petmad_cuda.choose_precision(precision)
                torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
                arguments.size = size
                label = f"{size}, {name}, {precision}"
                given = (system, precision, arguments, wanted[key])
                row = where_memory_allows("error", measure, fast, *given)
                row |= where_memory_allows(
                    "engine_error", through_engine, plain, *given
                )
                results[label] = row
                print(describe(label, row), flush=True)
                keep(results)
    torch.ops.petmad.choose_memory("keep")
    torch.ops.petmad_cuda.choose_precision("auto")
    torch.backends.cuda.matmul.allow_tf32 = False
    return results


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny model and systems")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES))
    parser.add_argument(
        "--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS
    )
    parser.add_argument(
        "--systems", nargs="+", help="names in the table; default: up to 100,000 atoms"
    )
    parser.add_argument("--memory", default="keep", choices=TIERS, help="the tier")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", default="gpu", help="name under results/")
    found = parser.parse_args(arguments)
    found.sizes = found.sizes or (["tiny"] if found.quick else ["XS", "S", "M"])
    return found


def main() -> None:
    """Run, print, write."""
    arguments = parse()
    load_ops()
    if arguments.device == "cpu":
        torch.ops.petmad = EmulatedOperators()
    run(arguments, lambda results: save(arguments.output, results))
    print(f"written to {RESULTS / arguments.output}.json")


if __name__ == "__main__":
    main()
