"""How tensors answer to displaced atoms: Born effective charges and Raman tensors.

Derivatives by automatic differentiation of the plain network, in Python: one backward
pass per entry of the tensor.
"""

import copy
import os
from typing import Any

import numpy as np
import torch

from .charge_and_spin import charge_and_spin
from .golden import system_graph
from .model import EdgeGraph, Potential
from .model.derivatives import position_derivatives
from .tensor_outputs import shaped, unit_factor


LEAST_DISTANCE = 0.01
"""Å, and"""
MOST_NEIGHBORS = 20000
"""on average: limits of the engine, see ``system_edges.cpp``."""


class Response:
    """Derivatives of a model's tensors with respect to positions.

    Args:
        model: an exported file, a checkpoint, or a model at hand.

    Raises:
        ValueError: not a model file.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, model: str | os.PathLike | Potential) -> None:
        is_own = not isinstance(model, Potential)
        # A model at hand stays as it is, in the midst of a training perhaps.
        self.potential = _load(model) if is_own else copy.deepcopy(model)
        self.potential.requires_grad_(False)
        targets = self.potential.targets
        self._targets = {target.name: target for target in targets if target.blocks}

    def derivatives(self, atoms: Any, target: str) -> np.ndarray:
        """∂T/∂r of a tensor, summed over the atoms.

        Args:
            atoms: ``ase.Atoms``; total charge and spin as for the calculator.
            target: name of a tensor target.

        Returns:
            [n_atoms, ..., 3] float64, the shape of the tensor in the middle and the
            displaced coordinate last; per Å, dipoles in e·Å, polarizabilities in Å³,
            other targets in the unit of the model.

        Raises:
            ValueError: the model has no such tensor, or lacks an element; a dipole in
                an unknown unit; atoms that overlap.
        """
        if target not in self._targets:
            raise ValueError(
                f"the model has no tensor target {target!r}; it has "
                f"{list(self._targets) or 'none'}"
            )
        info = self._targets[target]
        rows = position_derivatives(self.potential, self._graph(atoms), target)
        entries = rows.permute(1, 2, 0).numpy()  # [n_atoms, 3, n_entries]
        values = unit_factor(info) * np.asarray(shaped(info, entries))
        return np.moveaxis(values, 1, -1)

    def born_charges(self, atoms: Any, target: str = "dipole") -> np.ndarray:
        """Born effective charges [n_atoms, 3 (dipole), 3 (displacement)], in e.

        Their sum over the atoms is zero: a model does not see where a structure lies.
        Where it is charged, those of the laboratory frame have Q m_i / Σ m on each
        diagonal beside, for a dipole relative to the center of mass.
        """
        self._check_kind(target, "dipole", "vector")
        return self.derivatives(atoms, target)

    def raman_tensors(self, atoms: Any, target: str = "polarizability") -> np.ndarray:
        """Raman tensors [n_atoms, 3, 3, 3 (displacement)], in Å²."""
        self._check_kind(target, "polarizability", "symmetric", "matrix")
        return self.derivatives(atoms, target)

    def _check_kind(self, target: str, meaning: str, *kinds: str) -> None:
        found = self._targets.get(target)
        if found is not None and found.kind not in kinds:
            raise ValueError(
                f"a {meaning} must be of kind {' or '.join(kinds)}, but {target!r} is "
                f"of kind {found.kind}; use `derivatives` for other tensors"
            )

    def _graph(self, atoms: Any) -> EdgeGraph:
        numbers = np.array(self.potential.atomic_numbers)
        missing = sorted(set(atoms.numbers.tolist()) - set(numbers.tolist()))
        if missing:
            raise ValueError(
                f"the model lacks the atomic numbers {missing}; it knows "
                f"{numbers.tolist()}"
            )
        charge, spin_multiplicity = charge_and_spin(atoms.info, "the atoms")
        system = {
            "positions": torch.tensor(atoms.positions, dtype=torch.float64),
            "cell": torch.tensor(atoms.cell.array, dtype=torch.float64),
            "pbc": torch.tensor(atoms.pbc),
            "species": torch.from_numpy(np.searchsorted(numbers, atoms.numbers)),
            "charge": torch.tensor(charge),
            "spin_multiplicity": torch.tensor(spin_multiplicity),
        }
        graph = system_graph(system, self.potential.config.cutoff)
        check_apart(graph)
        return graph


def check_apart(graph: EdgeGraph) -> None:
    """Refuse what the engine refuses, too.

    Raises:
        ValueError: names two atoms on one place, or tells of a collapsed cell.
    """
    n_edges, n_atoms = len(graph.centers), len(graph.species)
    if n_edges > MOST_NEIGHBORS * n_atoms:
        raise ValueError(
            f"atoms have {n_edges // n_atoms} neighbors on average, more than "
            f"{MOST_NEIGHBORS}; the cell has collapsed, or is in another unit"
        )
    lengths = graph.edge_vectors.detach().norm(dim=1)
    if n_edges > 0 and not float(lengths.min()) >= LEAST_DISTANCE:
        i = int(lengths.argmin())
        raise ValueError(
            f"atoms {int(graph.centers[i])} and {int(graph.neighbors[i])} are "
            f"{float(lengths[i]):.3g} Å apart, nearer than {LEAST_DISTANCE:g} Å; "
            "remove overlapping atoms, and check units and cell"
        )


def born_charges(
    model: str | os.PathLike | Potential, atoms: Any, target: str = "dipole"
) -> np.ndarray:
    """Born effective charges; see :meth:`Response.born_charges`."""
    return Response(model).born_charges(atoms, target)


def raman_tensors(
    model: str | os.PathLike | Potential, atoms: Any, target: str = "polarizability"
) -> np.ndarray:
    """Raman tensors; see :meth:`Response.raman_tensors`."""
    return Response(model).raman_tensors(atoms, target)


def _load(path: str | os.PathLike) -> Potential:
    if os.fspath(path).endswith(".ckpt"):
        from .training.checkpoint import load_potential

        return load_potential(path)[0]
    from .export import load_exported

    return load_exported(path)[0]
