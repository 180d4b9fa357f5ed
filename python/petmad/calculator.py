"""ASE calculator over the C++ engine: the same code path as LAMMPS, one rank."""

import functools
import json
import operator
import os
import threading
import warnings
from typing import Any, ClassVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from ._engine import Engine
from .charge_and_spin import charge_and_spin
from .rotations import average, rotation_grid
from .tensor_outputs import check_charge, has_known_meaning, shaped, unit_factor


TENSOR_DICTS = ("tensors", "atomic_tensors")
"""Properties that hold all tensor targets by name."""
RESPONSES = {"born_effective_charges": "dipole", "raman_tensors": "polarizability"}
"""Properties that are derivatives with respect to positions, and of what."""


ASE_ARGUMENTS = ("restart", "ignore_bad_restart_file", "label", "atoms", "directory")
"""Of its base class, which takes any others for parameters without a word."""


class PETMADCalculator(Calculator):
    """Energies, forces and stresses of an exported model for ASE.

    Results: ``energy`` and ``free_energy`` [eV], ``energies`` [n_atoms] eV, ``forces``
    [n_atoms, 3] eV/Å, ``stress`` [6] eV/Å³ (Voigt xx yy zz yz xz xy, positive in
    tension) and ``stresses`` [n_atoms, 6], whose sum is the stress; both for fully
    periodic cells only.

    On request (``calc.get_property(name, atoms)``), where the model has them:

    - ``energy_uncertainty`` [eV], ``energies_uncertainty`` [n_atoms] eV, the standard
      deviations of the energy and of each atom's, and ``energy_ensemble`` [n_members];
    - ``non_conservative_forces`` [n_atoms, 3] and ``non_conservative_stress`` [6], of
      the direct heads as they come, without removal of the mean force;
    - tensor targets under their names, vectors [3] and matrices [3, 3], with a leading
      [n_atoms] where they belong to atoms. A ``dipole`` comes in e·Å, as ASE has it, a
      ``polarizability`` in Å³, converted from the unit in the file; all others as the
      file has them;
    - ``tensors``, a dict of all tensors of structures, and ``atomic_tensors``, one of
      the [n_atoms, ...] of all tensors, whose sums they are; units as in the file;
    - ``born_effective_charges`` [n_atoms, 3, 3] e and ``raman_tensors`` [n_atoms, 3, 3,
      3] Å², derivatives of the dipole and the polarizability, the displaced coordinate
      last; in Python, see :class:`petmad.response.Response`;
    - every other output of the model under its own name, see ``self.extra_outputs``:
      further energies (``energy/pbe0``: a number), ``features``, ``cutoff_stats``, ...

    A model of tensors alone has none of the energies, forces and stresses.

    Models conditioned on total charge and spin multiplicity read them from
    ``atoms.info["charge"]`` and ``atoms.info["spin_multiplicity"]`` (or ``"spin"``,
    both 2S + 1).

    Args:
        model: path of a file written by ``petmad export``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        n_threads: CPU threads of torch; 0 leaves torch's setting.
        check: evaluate the file's golden structures once after loading.
        direct: take ``forces`` and ``stress`` from the direct heads, two to three times
            faster, not conserving energy. The mean force is removed.
        rotations: order of a grid of rotations over which energy, forces and stress are
            averaged, which makes them invariant to that order; 0: as it stands. The
            cost is that of so many evaluations, see
            :func:`petmad.rotations.rotation_grid`: 24 for order 3. After each, the
            spread over the grid is in ``self.rotational_spread`` (eV and eV/Å). Other
            outputs are those of the structure as it stands.
        inversion: average over inversion, too; doubles the cost.
        precision: of the network's matrix products: ``auto`` (the file's), ``fp64``,
            ``fp32``, on GPUs ``tf32`` and ``fp16``, on CPUs with avx512_bf16 ``bf16``.
        memory: what is kept for the backward pass on a CPU: ``keep`` (everything),
            ``wide`` (not the MLPs' inner rows), ``layers`` (what enters and leaves a
            layer; the same numbers from a third of the memory, in about four thirds of
            the time), ``auto``, the first that fits into what the machine has free, or
            the MB that may be used. What an evaluation needed and did:
            ``calc.engine.memory_plan``.

    Raises:
        ValueError: not a model file, no direct heads, or (on evaluation) an element the
            model lacks, a dipole in a unit that is not known, or that of a charged
            structure by a model that records no origin.
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
        direct: bool = False,
        rotations: int = 0,
        inversion: bool = False,
        precision: str = "auto",
        memory: str | int = "auto",
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - set(ASE_ARGUMENTS))
        if unknown:
            raise TypeError(
                f"PETMADCalculator has no arguments {unknown}; it has device, "
                "n_threads, check, direct, rotations, inversion, precision, memory "
                f"and ASE's {', '.join(ASE_ARGUMENTS)}"
            )
        super().__init__(**kwargs)
        rotations = operator.index(rotations)
        self._process = os.getpid()
        self._in_use = threading.RLock()
        self._arguments = {
            "model": os.path.abspath(model),
            "device": device,
            "n_threads": n_threads,
            "check": check,
            "direct": direct,
            "rotations": rotations,
            "inversion": inversion,
            "precision": precision,
            "memory": memory,
            **{name: value for name, value in kwargs.items() if name != "atoms"},
        }
        self.engine = Engine(
            os.fspath(model), device, n_threads, check, precision, str(memory)
        )
        info = self.engine.info
        self.extra_outputs = extra_outputs(info)
        self._tensors = {tensor.name: tensor for tensor in info.tensors}
        self._responses = {
            name: target
            for name, target in RESPONSES.items()
            if target in self._tensors and has_known_meaning(self._tensors[target])
        }
        self.implemented_properties = [
            *(type(self).implemented_properties if info.has_energy else []),
            *self.extra_outputs,
            *(TENSOR_DICTS if self._tensors else ()),
            *self._responses,
        ]
        if direct and "non_conservative_forces" not in self.extra_outputs:
            raise ValueError(
                f"`direct` needs a model with direct forces, but "
                f"{self.engine.info.name} predicts {list(self.engine.info.targets)}; "
                "convert it with them (`petmad convert --keep`), or leave `direct` out"
            )
        if rotations > 0 and not info.has_energy:
            raise ValueError(
                f"`rotations` average energies and forces, which {info.name} does not "
                "have; leave them out"
            )
        if rotations < 0 or (inversion and rotations == 0):
            raise ValueError(
                f"`rotations` must be 0 or more, and more than 0 with `inversion`, got "
                f"{rotations}; 3 is the smallest grid"
            )
        if direct and rotations > 0:
            raise ValueError(
                "`rotations` average conservative forces; leave out `direct` or them"
            )
        self.direct = direct
        self.grid = rotation_grid(rotations, inversion) if rotations > 0 else None
        self.rotational_spread: dict[str, float] = {}
        self._is_told_of_state = False
        self._species = np.full(120, -1, dtype=np.int32)
        for index, number in enumerate(self.engine.info.atomic_numbers):
            self._species[number] = index

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles load the file again and have no results."""
        return _make, (type(self), self._arguments)

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, charge and spin included."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and _state(self.atoms) != _state(atoms):
            changes.append("info")
        return changes

    def get_property(
        self, name: str, atoms: Any | None = None, allow_calculation: bool = True
    ) -> Any:
        """What ASE asks for; the system and its results are those of one thread.

        Raises:
            RuntimeError: another thread is at it.
        """
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError(
                "this calculator is at work in another thread, and holds one system at "
                "a time; make one calculator for each thread"
            )
        try:
            return super().get_property(name, atoms, allow_calculation)
        finally:
            self._in_use.release()

    def calculate(
        self,
        atoms: Any | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        self._check_process()
        atoms = self.atoms
        self._check_state_has_effect(atoms)
        species = self._species_of(atoms.numbers)
        properties = properties or []
        has_gradients = not self.direct or (
            "stress" in properties
            and "non_conservative_stress" not in self.extra_outputs
        )
        results = self._evaluate(atoms, species, properties, has_gradients)
        if self.grid is not None:
            mean, self.rotational_spread = self._average(atoms, species, properties)
            results = {**results, **mean}
        self.results = {}
        if self.engine.info.has_energy:
            self._take_energy(results, atoms, properties, has_gradients)
        for name in self._extras_of(properties):
            self.results[name] = self._extra(name, results, atoms)
        if any(name in properties for name in TENSOR_DICTS):
            self._take_tensors(results)
        for name in properties:
            if name in self._responses:
                target = self._responses[name]
                self.results[name] = self._response.derivatives(atoms, target)
        if self.direct:
            self._take_direct(results, atoms)

    def _check_process(self) -> None:
        """Threads of a parent are not there in a forked child, which waits for them."""
        if os.getpid() != self._process and torch.get_num_threads() > 1:
            raise RuntimeError(
                "this calculator was made in another process, whose threads a fork "
                "lacks; start processes with the method `spawn` (or `forkserver`) "
                "and make the calculator there, or give each one thread: `n_threads=1`"
            )

    def _check_state_has_effect(self, atoms: Any) -> None:
        """Say once that charge and spin are read by nobody."""
        info = self.engine.info
        if info.is_conditioned or self._tensors or self._is_told_of_state:
            return
        charge, spin_multiplicity = _state(atoms)
        if (charge, spin_multiplicity) != (0, 1):
            self._is_told_of_state = True
            warnings.warn(
                f"the structure has charge {charge:+d} and spin multiplicity "
                f"{spin_multiplicity}, which have no effect: the model {info.name} is "
                "not conditioned on them",
                stacklevel=2,
            )

    def _species_of(self, numbers: np.ndarray) -> np.ndarray:
        """Indices of the model's elements, [n_atoms]."""
        is_number = (numbers >= 0) & (numbers < len(self._species))
        species = np.where(
            is_number, self._species[np.where(is_number, numbers, 0)], -1
        )
        if (species < 0).any():
            unknown = sorted(set(numbers[species < 0].tolist()))
            missing = [
                dict(enumerate(chemical_symbols)).get(z, str(z)) for z in unknown
            ]
            raise ValueError(
                f"the model {self.engine.info.name} lacks the elements {missing}; it "
                f"knows atomic numbers {list(self.engine.info.atomic_numbers)}"
            )
        return species.astype(np.int32)

    def _take_energy(
        self,
        results: dict[str, Any],
        atoms: Any,
        properties: list[str],
        has_gradients: bool,
    ) -> None:
        """Energies, forces and stresses under ASE's names."""
        self.results |= {
            "energy": results["energy"],
            "free_energy": results["energy"],
            "energies": results["atomic_energies"],
            "forces": results["forces"],
        }
        if atoms.pbc.all() and has_gradients:
            volume = atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(
                -results["virial"] / volume
            )
            if "stresses" in properties:
                virials = results["atomic_virials"]
                virials = 0.5 * (virials + virials.transpose(0, 2, 1))
                self.results["stresses"] = np.array(
                    [full_3x3_to_voigt_6_stress(-v / volume) for v in virials]
                )

    def _take_tensors(self, results: dict[str, Any]) -> None:
        """All tensors by name, as the file has them."""
        sums, rows = results["sums"], results["outputs"]
        self.results["tensors"] = {
            name: shaped(tensor, sums[name])
            for name, tensor in self._tensors.items()
            if not tensor.per_atom
        }
        self.results["atomic_tensors"] = {
            name: shaped(tensor, rows[name]) for name, tensor in self._tensors.items()
        }

    def _extras_of(self, properties: list[str]) -> list[str]:
        """Those of the wanted properties that are further outputs of the model."""
        wanted = [name for name in properties if name in self.extra_outputs]
        if self.direct:
            direct = ("non_conservative_forces", "non_conservative_stress")
            wanted += [name for name in direct if name in self.extra_outputs]
        return list(dict.fromkeys(wanted))

    def _evaluate(
        self, atoms: Any, species: np.ndarray, properties: list[str], gradients: bool
    ) -> dict[str, Any]:
        charge, spin_multiplicity = _state(atoms)
        extras = [self.extra_outputs[name] for name in self._extras_of(properties)]
        if any(name in properties for name in TENSOR_DICTS):
            extras += self._tensors
        return self.engine.evaluate(
            np.ascontiguousarray(atoms.positions),
            species,
            np.ascontiguousarray(atoms.cell.array),
            np.ascontiguousarray(atoms.pbc),
            charge=charge,
            spin_multiplicity=spin_multiplicity,
            atomic_virials="stresses" in properties,
            outputs=list(dict.fromkeys(extras)),
            gradients=gradients,
        )

    def _average(
        self, atoms: Any, species: np.ndarray, properties: list[str]
    ) -> tuple[dict[str, Any], dict[str, float]]:
        """Means over the grid of rotations, and their spread."""

        def evaluate(rotation: np.ndarray) -> dict[str, Any]:
            turned = atoms.copy()
            turned.set_cell(atoms.cell.array @ rotation.T)
            turned.positions = atoms.positions @ rotation.T
            wanted = [name for name in properties if name == "stresses"]
            return self._evaluate(turned, species, wanted, True)

        return average(evaluate, self.grid)

    def _extra(self, name: str, results: dict[str, Any], atoms: Any) -> Any:
        """A further output as ASE would have it: see the class."""
        output = self.extra_outputs[name]
        per_atom, total = results["outputs"][output], results["sums"][output]
        if name == "energies_uncertainty":
            return per_atom[:, 0]
        if output in self._tensors:
            tensor = self._tensors[output]
            check_charge(tensor, _state(atoms)[0])
            values = per_atom if tensor.per_atom else total
            return unit_factor(tensor) * shaped(tensor, values)
        if output in self.engine.info.norm_outputs:
            return float(np.linalg.norm(total))
        if name == "non_conservative_stress":
            volume = atoms.get_volume() if atoms.pbc.all() else np.inf
            return full_3x3_to_voigt_6_stress(total.reshape(3, 3) / volume)
        if output in self._per_atom_outputs:
            return per_atom
        return float(total[0]) if len(total) == 1 else total

    @functools.cached_property
    def _response(self) -> Any:
        """The plain network, which alone has derivatives of tensors."""
        from .response import Response

        return Response(self.engine.info.path)

    @functools.cached_property
    def _per_atom_outputs(self) -> set[str]:
        """Outputs that belong to atoms and are not summed."""
        info = self.engine.info
        targets = json.loads(info.metadata_json)["targets"]
        named = {target["name"] for target in targets if target["per_atom"]}
        auxiliary = ("features", "cutoff_stats", "last_layer_features/")
        return named | {o for o in info.outputs if o.startswith(auxiliary)}

    def _take_direct(self, results: dict[str, Any], atoms: Any) -> None:
        """Put the direct heads in the place of gradients."""
        forces = self.results["non_conservative_forces"]
        self.results["forces"] = forces - forces.mean(axis=0, keepdims=True)
        if atoms.pbc.all() and "non_conservative_stress" in self.results:
            self.results["stress"] = self.results["non_conservative_stress"]


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


def _make(kind: type, arguments: dict[str, Any]) -> Any:
    """A calculator from the arguments of its constructor; for pickles."""
    return kind(**arguments)


def _state(atoms: Any) -> tuple[int, int]:
    """Total charge and 2S + 1 of ``atoms``."""
    return charge_and_spin(atoms.info, "the atoms")
