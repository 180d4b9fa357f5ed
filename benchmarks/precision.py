"""float32 networks against float64: energies and forces of every variant of the tests.

    python benchmarks/precision.py

The models and structures are those of the tests' goldens (every switch of the
architecture, random weights). Prints the table of docs/conversion.md and writes
results/precision.json.
"""

import pathlib
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from report import save


sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))

from goldens import golden_model, golden_structures
from variants import VARIANTS

from petmad._engine import Engine
from petmad.export import export_model


ATOM_ENERGY = -1036.0
"""eV, the size of compositions in models of total energies (pet-mols-s)."""


def answers(variant: str, dtype: str, folder: str) -> list[dict[str, Any]]:
    """The engine's answer for every structure of a variant."""
    path = pathlib.Path(folder) / f"{dtype}.pt"
    export_model(golden_model(variant), path, dtype)
    engine = Engine(str(path))
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


def compare(variant: str) -> dict[str, float]:
    """Largest differences: energy per atom [meV], forces [meV/Å], and of what size."""
    with tempfile.TemporaryDirectory() as folder:
        single = answers(variant, "float32", folder)
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


def composition_error(n_atoms: int) -> float:
    """Error per atom [meV] of compositions summed in float32, as metatrain does."""
    energies = ATOM_ENERGY + np.random.default_rng(0).normal(size=n_atoms)
    summed = torch.tensor(energies, dtype=torch.float32).sum().item()
    return 1e3 * abs(summed - energies.sum()) / n_atoms


def main() -> None:
    """Print the table and save it."""
    results = {variant: compare(variant) for variant in VARIANTS}
    print("| model | energy, meV/atom | forces, meV/Å | largest force, eV/Å |")
    print("|---|---|---|---|")
    for variant, row in results.items():
        cells = [f"{value:.2g}" for value in row.values()]
        print(f"| `{variant}` | {' | '.join(cells)} |")
    sums = {str(n): composition_error(n) for n in (10, 100, 1000, 10000)}
    print("float32 sum of compositions, meV/atom, by number of atoms:", sums)
    print("written to", save("precision", {"variants": results, "sums": sums}))


if __name__ == "__main__":
    main()
