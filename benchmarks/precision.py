"""float32 networks against float64: energies and forces of every variant of the tests.

    python benchmarks/precision.py [--precision auto|bf16] [--variants NAME ...]

The models and structures are those of the tests' goldens (every switch of the
architecture, random weights). Prints the table of docs/conversion.md, or of
docs/performance.md for bf16, and writes results/precision.json or precision_bf16.json.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from ase.io.lammpsdata import read_lammps_data
from report import save


sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))

from goldens import golden_model, golden_structures
from variants import VARIANTS

from petmad._engine import Engine
from petmad.demo.run import FOLDER
from petmad.export import export_model


ATOM_ENERGY = -1036.0
"""eV, the size of compositions in models of total energies (pet-mols-s)."""


def answers(
    variant: str, dtype: str, folder: str, precision: str = "auto"
) -> list[dict[str, Any]]:
    """The engine's answer for every structure of a variant."""
    path = pathlib.Path(folder) / f"{dtype}.pt"
    export_model(golden_model(variant), path, dtype)
    engine = Engine(str(path), precision=precision)
    return [
        engine.evaluate(
            structure.positions,
            np.searchsorted(engine.info.atomic_numbers, structure.numbers).astype("i4"),
            structure.cell,
            structure.pbc,
            structure.charge,
            structure.spin_multiplicity,
        )
        for structure, _ in golden_structures(variant).values()
    ]


def compare(variant: str, precision: str) -> dict[str, float]:
    """Largest differences: energy per atom [meV], forces [meV/Å], and of what size."""
    with tempfile.TemporaryDirectory() as folder:
        single = answers(variant, "float32", folder, precision)
        double = answers(variant, "float64", folder)
    energies = [
        abs(a["energy"] - b["energy"]) / len(b["atomic_energies"])
        for a, b in zip(single, double, strict=True)
    ]
    forces = [
        np.abs(a["forces"] - b["forces"]).max()
        for a, b in zip(single, double, strict=True)
    ]
    return {
        "energy_meV_per_atom": 1e3 * max(energies),
        "forces_meV_per_A": 1e3 * max(forces),
        "largest_force_eV_per_A": max(np.abs(b["forces"]).max() for b in double),
    }


def bundled(precisions: tuple[str, ...], n_rounds: int = 7) -> dict[str, Any]:
    """The bundled model on water: deviations from float64, and interleaved times."""
    atoms = read_lammps_data(FOLDER / "water64.data", atom_style="atomic")
    engines = {p: Engine(str(FOLDER / "water.pt"), precision=p) for p in precisions}
    found: dict[str, Any] = {}
    times: dict[str, list[float]] = {p: [] for p in precisions}
    for _ in range(n_rounds + 1):
        for name, engine in engines.items():
            known = np.asarray(engine.info.atomic_numbers)
            species = np.searchsorted(known, atoms.numbers).astype("i4")
            start = time.process_time()
            found[name] = engine.evaluate(
                atoms.positions, species, atoms.cell.array, [True] * 3
            )
            times[name].append(1e3 * (time.process_time() - start))
    exact = found["fp64"]
    return {
        name: {
            "energy_meV_per_atom": 1e3
            * abs(answer["energy"] - exact["energy"])
            / len(atoms),
            "forces_rms_meV_per_A": 1e3
            * float(np.sqrt(np.mean((answer["forces"] - exact["forces"]) ** 2))),
            "forces_max_meV_per_A": 1e3
            * float(np.abs(answer["forces"] - exact["forces"]).max()),
            "cpu_ms": statistics.median(times[name][1:]),
        }
        for name, answer in found.items()
    }


def composition_error(n_atoms: int) -> float:
    """Error per atom [meV] of compositions summed in float32, as metatrain does."""
    energies = ATOM_ENERGY + np.random.default_rng(0).normal(size=n_atoms)
    summed = torch.tensor(energies, dtype=torch.float32).sum().item()
    return 1e3 * abs(summed - energies.sum()) / n_atoms


def main() -> None:
    """Print the table and save it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    arguments = parser.parse_args()
    results = {v: compare(v, arguments.precision) for v in arguments.variants}
    print("| model | energy, meV/atom | forces, meV/Å | largest force, eV/Å |")
    print("|---|---|---|---|")
    for variant, row in results.items():
        cells = [f"{value:.2g}" for value in row.values()]
        print(f"| `{variant}` | {' | '.join(cells)} |")
    is_narrow = arguments.precision != "auto"
    water = bundled(("fp64", "fp32", *([arguments.precision] if is_narrow else [])))
    for name, row in water.items():
        print("bundled model, 64 water,", name, {k: f"{v:.2g}" for k, v in row.items()})
    name = "precision_bf16" if is_narrow else "precision"
    sums = {str(n): composition_error(n) for n in (10, 100, 1000, 10000)}
    print("float32 sum of compositions, meV/atom, by number of atoms:", sums)
    found = {"variants": results, "sums": sums, "bundled": water}
    print("written to", save(name, found))


if __name__ == "__main__":
    main()
