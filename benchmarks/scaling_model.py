"""Many GPUs on paper: bytes, latency and compute of a step, as docs/scaling.md has it.

    python benchmarks/scaling_model.py

Prints the tables of docs/scaling.md, and beside the measured bytes of
results/bench_scaling.json, where there are such, those of the model.
"""

import argparse
import json
import math
from typing import NamedTuple

from report import RESULTS


DENSITY = 0.1  # atoms per Å³


class Network(NamedTuple):
    """What the cost of a step depends on."""

    name: str
    width: int
    n_layers: int
    cutoff: float  # Å
    n_kept: float  # neighbors within the adaptive cutoff
    microseconds: float  # per atom and step on one GPU, compute alone


class Machine(NamedTuple):
    """A GPU's share of a cluster."""

    gpus_per_node: int = 8
    bandwidth_inside: float = 50e9  # B/s per GPU to its node, through pinned memory
    bandwidth_outside: float = 20e9  # B/s per GPU to other nodes
    latency: float = 20e-6  # s of one message round: copy, send, copy


# Kept edges: as counted in water (XS, S), or 1.4 times the number aimed at (L).
# Times: the fastest known (S and L in TF32 on an H200; XS a sixth of S, the ratio of
# their operations).
NETWORKS = (
    Network("XS", 128, 2, 7.5, 14.0, 1.0),
    Network("S", 256, 3, 8.0, 24.0, 6.4),
    Network("L", 512, 4, 9.0, 44.0, 45.0),
)
BYTES_PER_NUMBER = 4  # float32


def kept_radius(network: Network) -> float:
    """Å; of a ball that holds the kept neighbors."""
    return (3.0 * network.n_kept / (4.0 * math.pi * DENSITY)) ** (1.0 / 3.0)


def edges_through(area: float, n_kept: float, radius: float) -> float:
    """Kept edges from one side of a plane to the other, each direction counted once.

    A directed edge crosses a plane if its center is less than its normal component z
    away; the mean of max(z, 0) in a ball is 3/16 of its radius.
    """
    return area * DENSITY * n_kept * 3.0 / 16.0 * radius


def message_bytes(network: Network, n_atoms: float) -> float:
    """Sent by one rank in one step: a row there and an adjoint back, per layer."""
    side = (n_atoms / DENSITY) ** (1.0 / 3.0)
    crossing = edges_through(6.0 * side**2, network.n_kept, kept_radius(network))
    crossing = min(crossing, n_atoms * network.n_kept)
    return crossing * network.width * BYTES_PER_NUMBER * 2 * network.n_layers


def other_bytes(network: Network, n_atoms: float) -> float:
    """Adaptive cutoffs of ghosts there and back, and a byte per raw crossing edge."""
    side = (n_atoms / DENSITY) ** (1.0 / 3.0)
    ghosts = DENSITY * ((side + 2.0 * network.cutoff) ** 3 - side**3)
    n_raw = 4.0 / 3.0 * math.pi * DENSITY * network.cutoff**3
    raw = edges_through(6.0 * side**2, n_raw, network.cutoff)
    return 16.0 * ghosts + raw


class Step(NamedTuple):
    """Times of one step, in ms, and bytes sent by one rank."""

    compute: float
    transfer: float
    latency: float
    n_bytes: float

    @property
    def efficiency(self) -> float:
        """Compute alone against all, nothing overlapped."""
        return self.compute / (self.compute + self.transfer + self.latency)


def step(network: Network, n_atoms: float, n_gpus: int, machine: Machine) -> Step:
    """One step of a rank with so many atoms, in the middle of a cubic system."""
    n_bytes = message_bytes(network, n_atoms) + other_bytes(network, n_atoms)
    bandwidth = machine.bandwidth_inside
    if n_gpus > machine.gpus_per_node:
        bandwidth = machine.bandwidth_outside
    # cutoffs there and back, agreement on live edges, each layer there and back; LAMMPS
    # itself forwards positions and reverses forces
    n_rounds = 3 + 2 * network.n_layers + 2
    return Step(
        1e-3 * network.microseconds * n_atoms,
        1e3 * n_bytes / bandwidth,
        1e3 * n_rounds * machine.latency * (2 if n_gpus > machine.gpus_per_node else 1),
        n_bytes,
    )


def print_table(title: str, network: Network, sizes: dict[int, float]) -> None:
    """One line per number of GPUs."""
    print(f"\n{title}, {network.name}")
    print(
        "| GPUs | atoms per GPU | compute ms | transfer | latency | MB | efficiency |"
    )
    print("|---|---|---|---|---|---|---|")
    for n_gpus, n_atoms in sizes.items():
        s = step(network, n_atoms, n_gpus, Machine())
        print(
            f"| {n_gpus} | {n_atoms:,.0f} | {s.compute:.1f} | {s.transfer:.2f} | "
            f"{s.latency:.2f} | {1e-6 * s.n_bytes:.1f} | {100 * s.efficiency:.0f}% |"
        )


def compare_with_measured() -> None:
    """The bundled model, 64 waters cut in two: two faces per rank."""
    path = RESULTS / "bench_scaling.json"
    if not path.exists():
        print(f"\nno {path}: run benchmarks/bench_scaling.py to compare")
        return
    measured = json.loads(path.read_text())["message_bytes_per_step"]
    side, n_kept, width, n_layers = 12.42, 18.2, 64, 2  # counted, in the log
    radius = (3.0 * n_kept / (4.0 * math.pi * DENSITY)) ** (1.0 / 3.0)
    edges = 2 * edges_through(2 * side**2, n_kept, radius)  # of both ranks
    modelled = edges * width * BYTES_PER_NUMBER * 2 * n_layers
    found = measured["2 ranks, 1 thread"]
    print(f"\n64 H2O on 2 ranks: {found} bytes measured, {modelled:.0f} on paper")


def main() -> None:
    """Print all tables."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    counts = [8, 16, 64, 256, 1024]
    for network in NETWORKS:
        print_table("20,000 atoms per GPU", network, dict.fromkeys(counts, 2e4))
    for network in NETWORKS:
        print_table("1,000,000 atoms in all", network, {n: 1e6 / n for n in counts})
    compare_with_measured()


if __name__ == "__main__":
    main()
