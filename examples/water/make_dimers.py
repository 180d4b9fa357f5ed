"""Writes the water dimers that `add_dimers.yaml` mixes with the liquid.

python examples/water/make_dimers.py DATA_FOLDER OUTPUT.xyz

The frames of the liquid hold no O-H distance above 1.14 Å. A model trained on them
alone is free to let protons hop between molecules, and the first bundled model did. The
dimers, with O-H up to 1.35 Å, tell it what stretching costs. They are coupled-cluster
energies without forces, so only differences between dimers are meant: a constant puts
the lowest of them 0.20 eV above two average molecules of the liquid, where a model
trained on the liquid alone sees unstretched dimers on average. Taken is every second
one with O-O below 3 Å.
"""

import io
import lzma
import pathlib
import sys

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator


LOWEST_DIMER = 0.20  # eV above two average molecules of the liquid
LONGEST_O_O = 3.0  # Å


def frames(path: pathlib.Path) -> list[ase.Atoms]:
    """All frames of an xz-compressed extended XYZ file, read through memory."""
    with lzma.open(path, "rt") as text:
        return ase.io.read(io.StringIO(text.read()), ":", format="extxyz")


def molecule_energy(liquid: list[ase.Atoms]) -> float:
    """Mean energy per H2O [eV]."""
    return float(np.mean([3 * a.get_potential_energy() / len(a) for a in liquid]))


def o_o(dimer: ase.Atoms) -> float:
    """Distance of the oxygens [Å]."""
    return dimer.get_distance(*np.flatnonzero(dimer.numbers == 8))


def shifted(dimers: list[ase.Atoms], lowest: float) -> list[ase.Atoms]:
    """Dimers with energies alone, moved so that the lowest one is ``lowest`` [eV]."""
    energies = np.array([atoms.get_potential_energy() for atoms in dimers])
    result = []
    for atoms, energy in zip(dimers, energies - energies.min() + lowest, strict=True):
        bare = ase.Atoms(atoms.symbols, atoms.positions)
        bare.calc = SinglePointCalculator(bare, energy=float(energy))
        result.append(bare)
    return result


def main() -> None:
    """Read both sets, shift, write every second close dimer."""
    data, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    liquid = frames(data / "water_pbe0ts/train.extxyz.xz")
    dimers = frames(data / "water_dimer_tensors/train.extxyz.xz")
    lowest = 2 * molecule_energy(liquid) + LOWEST_DIMER
    output.parent.mkdir(parents=True, exist_ok=True)
    close = [atoms for atoms in shifted(dimers, lowest) if o_o(atoms) < LONGEST_O_O]
    ase.io.write(output, close[::2], format="extxyz")


if __name__ == "__main__":
    main()
