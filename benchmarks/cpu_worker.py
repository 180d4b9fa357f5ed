"""A process that evaluates one package on request; see ``cpu.py``.

    python cpu_worker.py PACKAGE MODEL SYSTEMS

Runs in the environment of its package, and needs nothing but it, ASE and numpy. Reads
a JSON request per line, ``{"system": name, "seed": k, "keep": path or null}``, and
answers with one: seconds, processor seconds, peak memory, energy.
"""

import contextlib
import json
import os
import pathlib
import sys
import time

import ase
import numpy as np
from ase.calculators.calculator import all_changes


N_THREADS = int(os.environ["OMP_NUM_THREADS"])


def make_petmad(model):
    """Of our own calculator."""
    import torch

    from petmad.calculator import PETMADCalculator

    torch.set_num_threads(N_THREADS)
    return with_calculator(PETMADCalculator(model, n_threads=N_THREADS))


def make_metatomic(model):
    """Of upstream's calculator."""
    import torch
    from metatomic_ase import MetatomicCalculator

    torch.set_num_threads(N_THREADS)
    return with_calculator(MetatomicCalculator(model, check_consistency=False))


def with_calculator(calculator):
    """An evaluation by an ASE calculator: energy, forces, stress."""

    def evaluate(atoms):
        calculator.calculate(atoms, ["energy", "forces", "stress"], all_changes)
        results = calculator.results
        return results["energy"], results["forces"], results["stress"]

    return evaluate


def make_kokkos(model):
    """Of pet-kokkos's own interface, which is faster than its ASE calculator."""
    import pet_kokkos

    calculator = pet_kokkos.Calculator(model)

    def evaluate(atoms):
        found = calculator.compute(
            atoms.numbers, atoms.positions, atoms.cell.array, True, forces=True
        )
        voigt = np.asarray(found["virial"])[[0, 1, 2, 5, 4, 3]]
        return found["energy"], found["forces"], voigt / atoms.get_volume()

    return evaluate


MAKERS = {
    "petmad": make_petmad,
    "metatomic": make_metatomic,
    "pet-kokkos": make_kokkos,
    "pet-kokkos tuned": make_kokkos,
}


def read_systems(path):
    """Systems by name."""
    arrays = np.load(path)
    return {
        str(name): ase.Atoms(
            arrays[f"{name} numbers"],
            arrays[f"{name} positions"],
            cell=arrays[f"{name} cell"],
            pbc=True,
        )
        for name in arrays["names"]
    }


def peak_memory():
    """Largest resident memory [GB] since the last reset."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    return float("nan")


def reset_peak_memory():
    """Start counting again; where the kernel forbids it, the peak is the process's."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def answer(evaluate, systems, request):
    """Evaluate a system, displaced a little so that nothing is remembered."""
    atoms = systems[request["system"]].copy()
    rng = np.random.default_rng(request["seed"])
    atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
    reset_peak_memory()
    start, cpu_start = time.perf_counter(), time.process_time()
    energy, forces, stress = evaluate(atoms)
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu_start
    if request["keep"]:
        found = {"energy": energy, "forces": forces, "stress": stress}
        np.savez(request["keep"], positions=atoms.positions, **found)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_gb": peak_memory(),
        "energy": float(energy),
    }


def main():
    """Answer until there are no more requests."""
    package, model, systems_path = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    systems = read_systems(systems_path)
    start = time.perf_counter()
    evaluate = MAKERS[package](model)
    print(json.dumps({"load_seconds": time.perf_counter() - start}), file=answers)
    answers.flush()
    for line in sys.stdin:
        print(json.dumps(answer(evaluate, systems, json.loads(line))), file=answers)
        answers.flush()


if __name__ == "__main__":
    main()
