"""Writes the water dimers that `train.yaml` mixes with the liquid.

python examples/water/make_dimers.py DATA_FOLDER OUTPUT.xyz

The liquid's frames hold no O-H distance above 1.14 Å. Trained on them alone a model is free
to let protons hop between molecules; 250 dimers with O-H up to 1.35 Å and O-O from 2.0 to
6.5 Å tell it what stretching costs. They are coupled-cluster energies without forces, so
only differences between dimers are meant: a constant per molecule puts them on the zero
of the liquid, the lowest dimer 0.55 eV above two molecules of the average liquid (heat of
vaporisation 0.45 eV per molecule less thermal vibration, binding 0.22 eV per dimer).
"""

import io
import lzma
import pathlib
import sys

import ase
import ase.io
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator


LOWEST_DIMER = 0.55  # eV above two average molecules of the liquid


def frames(path: pathlib.Path) -> list[ase.Atoms]:
    """All frames of an xz-compressed extended XYZ file, read through memory."""
    with lzma.open(path, "rt") as text:
        return ase.io.read(io.StringIO(text.read()), ":", format="extxyz")


def molecule_energy(liquid: list[ase.Atoms]) -> float:
    """Mean energy per H2O [eV]."""
    return float(np.mean([3 * a.get_potential_energy() / len(a) for a in liquid]))


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
    """Read both sets, shift, write every second dimer."""
    data, output = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    liquid = frames(data / "water_pbe0ts/train.extxyz.xz")
    dimers = frames(data / "water_dimer_tensors/train.extxyz.xz")
    lowest = 2 * molecule_energy(liquid) + LOWEST_DIMER
    output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(output, shifted(dimers, lowest)[::2], format="extxyz")


if __name__ == "__main__":
    main()
