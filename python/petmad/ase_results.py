"""What an evaluation of the engine gives, under ASE's names and in its units."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress

from .tensor_outputs import check_charge, shaped, unit_factor


def extra_outputs(info: Any) -> dict[str, str]:
    """ASE's names of a model's further outputs, and the model's names of them.

    Args:
        info: :class:`petmad._core.ModelInfo`.
    """
    names = {name: name for name in info.outputs if name != "energy"}
    if "non_conservative_force" in names:
        del names["non_conservative_force"]
        names["non_conservative_forces"] = "non_conservative_force"
    if "energy_uncertainty" in names:
        names["energies_uncertainty"] = "energy_uncertainty"
    return names


def of_energy(
    results: Mapping[str, Any], volume: float | None, with_stresses: bool
) -> dict[str, Any]:
    """Energies, forces and stresses.

    Args:
        results: of the engine.
        volume: Å³; None where there is no stress, of open directions or without
            gradients.
        with_stresses: of each atom, too, for which there are virials.
    """
    found = {
        "energy": results["energy"],
        "free_energy": results["energy"],
        "energies": results["atomic_energies"],
        "forces": results["forces"],
    }
    if volume is None:
        return found
    found["stress"] = full_3x3_to_voigt_6_stress(-results["virial"] / volume)
    if with_stresses:
        virials = results["atomic_virials"]
        virials = 0.5 * (virials + virials.transpose(0, 2, 1))
        found["stresses"] = np.array(
            [full_3x3_to_voigt_6_stress(-v / volume) for v in virials]
        )
    return found


def in_place_of_gradients(found: Mapping[str, Any]) -> dict[str, Any]:
    """Forces and stress of direct heads; the mean force is removed."""
    forces = found["non_conservative_forces"]
    direct = {"forces": forces - forces.mean(axis=0, keepdims=True)}
    if "non_conservative_stress" in found:
        direct["stress"] = found["non_conservative_stress"]
    return direct


def of_tensor(tensor: Any, results: Mapping[str, Any], charge: int) -> Any:
    """A tensor target, in the unit that ASE has for it.

    Raises:
        ValueError: its unit is not known, or its origin for a charged structure.
    """
    check_charge(tensor, charge)
    place = results["outputs" if tensor.per_atom else "sums"]
    return unit_factor(tensor) * shaped(tensor, place[tensor.name])


def of_tensors(
    tensors: Mapping[str, Any], results: Mapping[str, Any], charge: int
) -> dict[str, dict[str, Any]]:
    """All tensors of structures, and those of all of atoms, as the file has them.

    Raises:
        ValueError: the origin of one is not known, and the structure is charged.
    """
    for tensor in tensors.values():
        check_charge(tensor, charge)
    sums, rows = results["sums"], results["outputs"]
    return {
        "tensors": {
            name: shaped(tensor, sums[name])
            for name, tensor in tensors.items()
            if not tensor.per_atom
        },
        "atomic_tensors": {
            name: shaped(tensor, rows[name]) for name, tensor in tensors.items()
        },
    }


def of_output(name: str, output: str, results: Mapping[str, Any], info: Any) -> Any:
    """Any other output: rows of atoms, a sum, or the norm of one."""
    per_atom, total = results["outputs"][output], results["sums"][output]
    if name == "energies_uncertainty":
        return per_atom[:, 0]
    if output in info.norm_outputs:
        return float(np.linalg.norm(total))
    if is_of_atoms(output, info):
        return per_atom
    return float(total[0]) if len(total) == 1 else total


def is_of_atoms(output: str, info: Any) -> bool:
    """Whether an output belongs to atoms and is not summed."""
    if output.startswith(("features", "cutoff_stats", "last_layer_features/")):
        return True
    targets = json.loads(info.metadata_json)["targets"]
    return any(t["name"] == output and t["per_atom"] for t in targets)
