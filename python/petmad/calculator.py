"""ASE calculator over the C++ engine: the same code path as LAMMPS, one rank."""

import os
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ._engine import Engine


class PETMADCalculator(Calculator):
    """Energies, forces and stresses of an exported model for ASE.

    Results: ``energy`` and ``free_energy`` [eV], ``energies`` [n_atoms] eV, ``forces``
    [n_atoms, 3] eV/Å, ``stress`` [6] eV/Å³ (Voigt xx yy zz yz xz xy, positive in
    tension) and ``stresses`` [n_atoms, 6], whose sum is the stress; both for fully
    periodic cells only.

    Models conditioned on total charge and spin multiplicity read them from
    ``atoms.info["charge"]`` and ``atoms.info["spin_multiplicity"]`` (or ``"spin"``,
    both 2S + 1).

    Args:
        model: path of a file written by ``petmad export``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        n_threads: CPU threads of torch; 0 leaves torch's setting.
        check: evaluate the file's golden structures once after loading.

    Raises:
        ValueError: not a model file, or (on evaluation) an element the model lacks.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "stresses",
    ]

    def __init__(
        self,
        model: str | os.PathLike,
        device: str = "cpu",
        n_threads: int = 0,
        check: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.engine = Engine(os.fspath(model), device, n_threads, check)
        self._species = np.full(120, -1, dtype=np.int32)
        for index, number in enumerate(self.engine.info.atomic_numbers):
            self._species[number] = index

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, charge and spin included."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and _state(self.atoms) != _state(atoms):
            changes.append("info")
        return changes

    def calculate(
        self,
        atoms: Any | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        species = self._species[atoms.numbers]
        if (species < 0).any():
            missing = sorted({atoms.symbols[i] for i in np.flatnonzero(species < 0)})
            raise ValueError(
                f"the model {self.engine.info.name} lacks the elements {missing}; it "
                f"knows atomic numbers {list(self.engine.info.atomic_numbers)}"
            )
        charge, spin_multiplicity = _state(atoms)
        results = self.engine.evaluate(
            np.ascontiguousarray(atoms.positions),
            species,
            np.ascontiguousarray(atoms.cell.array),
            np.ascontiguousarray(atoms.pbc),
            charge=charge,
            spin_multiplicity=spin_multiplicity,
            atomic_virials="stresses" in (properties or []),
        )
        self.results = {
            "energy": results["energy"],
            "free_energy": results["energy"],
            "energies": results["atomic_energies"],
            "forces": results["forces"],
        }
        if atoms.pbc.all():
            volume = atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(
                -results["virial"] / volume
            )
            if "stresses" in (properties or []):
                virials = results["atomic_virials"]
                virials = 0.5 * (virials + virials.transpose(0, 2, 1))
                self.results["stresses"] = np.array(
                    [full_3x3_to_voigt_6_stress(-v / volume) for v in virials]
                )


def _state(atoms: Any) -> tuple[int, int]:
    """Total charge and 2S + 1 of ``atoms``."""
    info = atoms.info
    spin = info.get("spin_multiplicity", info.get("spin", 1))
    return int(info.get("charge", 0)), int(spin)
