"""Errors of a GPU's precisions, against the plain network in float64.

    python benchmarks/gpu_precision.py [--sizes XS S] [--device cuda]

Random weights of the published sizes. On a CPU the kernels are emulated, with the
factors of each product rounded as tensor cores round them. Writes
results/gpu_precision.json.
"""

import argparse
from typing import Any

import numpy as np
import torch
from gpu import PRECISIONS, build_lists, graph_of, network_step, reference, step
from gpu_systems import SIZES, EmulatedOperators, System, diamond, make_models, water
from report import save

from petmad._ops import load_ops
from petmad.model import Potential


SYSTEMS = {"64 diamond": diamond(), "192 water": water(4)}


def exact_energy(plain: Potential, system: System) -> float:
    """By the plain network [eV]."""
    host = torch.device("cpu")
    lists = build_lists(system, plain.config.cutoff, host)
    vectors = torch.ops.petmad_cuda.edge_vectors(
        torch.tensor(system.positions), torch.tensor(system.cell), *lists[:3]
    )
    return float(network_step(plain, graph_of(system, lists, vectors))[0])


def compare(size: str, device: torch.device) -> dict[str, Any]:
    """Deviations of every precision on every system."""
    plain, fast = make_models(size)
    fast = fast.to(device)
    found = {}
    for name, system in SYSTEMS.items():
        wanted = reference(plain, system, plain.config.cutoff)
        energy = exact_energy(plain, system)
        lists = build_lists(system, plain.config.cutoff, device)
        for precision in PRECISIONS:
            torch.ops.petmad_cuda.choose_precision(precision)
            torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
            result = step(fast, system, lists, device)
            errors = 1e3 * (result.forces.numpy() - wanted)
            found[f"{size}, {name}, {precision}"] = row = {
                "forces_rms_meV_per_A": float(np.sqrt(np.mean(errors**2))),
                "forces_max_meV_per_A": float(np.abs(errors).max()),
                "energy_meV_per_atom": 1e3 * abs(result.energy - energy) / len(wanted),
                "rms_force_eV_per_A": float(np.sqrt(np.mean(wanted**2))),
            }
            cells = {key: f"{value:.2g}" for key, value in row.items()}
            print(f"{size}, {name}, {precision}: {cells}", flush=True)
    torch.ops.petmad_cuda.choose_precision("auto")
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["XS", "S"], choices=list(SIZES))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    load_ops()
    device = torch.device(arguments.device)
    is_emulated = device.type == "cpu"
    if is_emulated:
        torch.ops.petmad = EmulatedOperators()
    results: dict[str, Any] = {"is_emulated": is_emulated}
    for size in arguments.sizes:
        results |= compare(size, device)
    print(f"written to {save('gpu_precision', results)}")


if __name__ == "__main__":
    main()
