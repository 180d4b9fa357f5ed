"""Time and memory per atom of one evaluation, by size of the system and by memory tier.

    python benchmarks/memory.py [--sizes 648 3000] [--large] [--memory keep layers]

Energy, forces and virial of water at random orientations by the XS size with random
weights, float32, each in a process of its own: peak resident memory is that process's,
loading included, and per atom what it grew by. Cost is the processor's time, the least
of the repeats. ``--large`` adds 98,304 atoms, once, which must stay below 16 GB. Ratios
are to the first size with the same tier. Writes results/memory.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from published import random_potential, water
from report import save


N_ATOMS = (648, 3000, 10125, 20577)
LARGE = 98304
LIMIT_GB = 16.0


def peak_gb() -> float:
    """Largest resident memory of this process so far [GB]."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise RuntimeError("this system does not tell the peak memory of a process")


def evaluate(model: str, n_atoms: int, memory: str, n_repeats: int) -> None:
    """Print what one system takes; run in a process of its own."""
    import numpy as np
    import torch

    from petmad._engine import Engine

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    engine = Engine(model, "cpu", 0, True, memory=memory)
    atoms = water(round((n_atoms / 3) ** (1 / 3)))
    species = np.asarray(atoms.numbers, dtype=np.int32) - 1
    arguments = (atoms.positions, species, atoms.cell.array, atoms.pbc)
    loaded = peak_gb()
    seconds = []
    for _ in range(n_repeats):
        start = time.process_time()
        results = engine.evaluate(*arguments)
        seconds.append(time.process_time() - start)
    statistics, plan = engine.statistics, engine.memory_plan
    found = {
        "n_atoms": len(atoms),
        "memory": memory,
        "tier": plan.tier,
        "cpu_seconds": min(seconds),
        "peak_gb": peak_gb(),
        "loaded_gb": loaded,
        "predicted_gb": dict(
            zip(("keep", "wide", "layers"), (b / 1e9 for b in plan.bytes), strict=True)
        )[plan.tier],
        "raw_edges_per_atom": statistics.n_raw_edges / len(atoms),
        "kept_edges_per_atom": statistics.n_kept_edges / len(atoms),
        "largest_force": float(np.abs(results["forces"]).max()),
    }
    print(json.dumps(found))


def measure(model: str, n_atoms: int, memory: str, n_repeats: int) -> dict[str, float]:
    """The same, asked of a new process."""
    command = [sys.executable, __file__, "--child", model, str(n_atoms), memory]
    answer = subprocess.run(
        [*command, str(n_repeats)], check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    grown = found["peak_gb"] - found["loaded_gb"]
    found["ms_per_atom"] = 1e3 * found["cpu_seconds"] / found["n_atoms"]
    found["kb_per_atom"] = 1e6 * grown / found["n_atoms"]
    found["predicted_kb_per_atom"] = 1e6 * found["predicted_gb"] / found["n_atoms"]
    return found


def show(row: dict[str, float], first: dict[str, float]) -> None:
    """One line, with ratios to the first size of the tier."""
    cost = row["ms_per_atom"] / first["ms_per_atom"]
    memory = row["kb_per_atom"] / first["kb_per_atom"]
    print(
        f"{row['n_atoms']:7d} atoms  {row['tier']:6s} {row['cpu_seconds']:8.2f} s  "
        f"{row['peak_gb']:6.2f} GB  {row['ms_per_atom']:.3f} ms/atom x{cost:.2f}  "
        f"{row['kb_per_atom']:.0f} kB/atom x{memory:.2f} "
        f"(planned {row['predicted_kb_per_atom']:.0f})",
        flush=True,
    )


def main() -> None:
    """All sizes and tiers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=list(N_ATOMS))
    parser.add_argument("--memory", nargs="+", default=["keep", "layers"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        model, n_atoms, memory, n_repeats = arguments.child
        evaluate(model, int(n_atoms), memory, int(n_repeats))
        return
    from petmad.export import export_model

    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model = str(pathlib.Path(folder) / "XS.pt")
        export_model(random_potential("XS"), model)
        for memory in arguments.memory:
            first = None
            for n_atoms in arguments.sizes:
                row = measure(model, n_atoms, memory, arguments.repeats)
                first = first or row
                rows.append(row)
                show(row, first)
        if arguments.large:
            row = measure(model, LARGE, "layers", 1)
            rows.append(row)
            show(row, first or row)
            if row["peak_gb"] > LIMIT_GB:
                raise SystemExit(f"{row['peak_gb']:.1f} GB are more than {LIMIT_GB}")
    save("memory", {"size": "XS", "threads": arguments.threads, "rows": rows})


if __name__ == "__main__":
    main()
