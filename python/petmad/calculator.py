"""ASE calculator over the C++ engine: the same code path as LAMMPS, one rank."""

import contextlib
import copy
import functools
import operator
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from . import threads
from ._engine import Engine
from .ase_results import (
    extra_outputs,
    in_place_of_gradients,
    of_energy,
    of_output,
    of_tensor,
    of_tensors,
)
from .charge_and_spin import charge_and_spin
from .model_file import read_metadata
from .rotations import average, rotation_grid
from .tensor_outputs import has_known_meaning


TENSOR_DICTS = ("tensors", "atomic_tensors")
"""Properties that hold all tensor targets by name."""
RESPONSES = {"born_effective_charges": "dipole", "raman_tensors": "polarizability"}
"""Properties that are derivatives with respect to positions, and of what."""


OF_CELLS = ("stress", "stresses", "non_conservative_stress")
"""Properties that have no meaning without a volume."""
ASE_ARGUMENTS = ("label", "atoms", "directory")
"""Of its base class, which takes any others for parameters without a word."""
ARGUMENTS = (
    "device",
    "n_threads",
    "check",
    "direct",
    "rotations",
    "inversion",
    "precision",
    "memory",
)
"""Its own, beside the model."""


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
            faster, not conserving energy. The mean force is removed. Without a head for
            it, the ``stress`` is the energy's, as ``stresses`` always are.
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

    name = "petmad"
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
                f"PETMADCalculator has no arguments {unknown}; it has "
                f"{', '.join(ARGUMENTS)}, and ASE's {', '.join(ASE_ARGUMENTS)}"
            )
        threads.check_fork(n_threads)
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
        threads.note_use()
        info = self.engine.info
        self.parameters.update(
            model=info.name,
            weights_hash=info.weights_hash,
            precision=precision,
            direct=direct,
            rotations=rotations,
            inversion=inversion,
        )
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
                f"{rotations}; 3 is the usual grid"
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
        return _make, (type(self), self._arguments, self.engine.info.weights_hash)

    def set(self, **changes: Any) -> dict[str, Any]:
        """Nothing can be changed but by a new calculator.

        Raises:
            TypeError: something is to be.
        """
        if changes:
            raise TypeError(
                f"the arguments {sorted(changes)} of a PETMADCalculator are fixed; "
                "make a new one"
            )
        return {}

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Which model it is and how it is evaluated, for ASE's databases."""
        return dict(self.parameters)

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
            PropertyNotImplementedError: the model lacks it, or it is a stress of what
                is not periodic in all directions.
        """
        structure = self.atoms if atoms is None else atoms
        is_asked = allow_calculation and name in self.implemented_properties
        has_volume = structure is None or structure.pbc.all()
        if is_asked and name in OF_CELLS and not has_volume:
            raise PropertyNotImplementedError(
                f"`{name}` is a stress, per volume of a structure periodic in all "
                f"directions; this one has pbc {structure.pbc.tolist()}"
            )
        with self._alone():
            result = super().get_property(name, atoms, allow_calculation)
        # ASE copies arrays alone; what is inside of a dict is the calculator's, too.
        return copy.deepcopy(result) if isinstance(result, dict) else result

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._in_use.acquire(blocking=False):
            raise RuntimeError(
                "this calculator is at work in another thread, and holds one system at "
                "a time; make one calculator for each thread"
            )
        try:
            yield
        finally:
            self._in_use.release()

    def calculate(
        self,
        atoms: Any | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate ``atoms``; called by ASE.

        What was evaluated of the same atoms before stays.
        """
        with self._alone():
            is_same = self.atoms is not None and atoms is not None
            is_same = is_same and not self.check_state(atoms)
            earlier = self.results if is_same else {}
            self.results = {}  # of the structure before, if this one is refused
            if atoms is not None:
                _state(atoms)  # refused before it is stored, to be compared with others
            super().calculate(atoms, properties, system_changes)
            self._check_process()
            self._check_state_has_effect(self.atoms)
            self.results = earlier | self._results_of(self.atoms, properties or [])

    def _results_of(self, atoms: Any, properties: list[str]) -> dict[str, Any]:
        species = self._species_of(atoms.numbers)
        has_gradients = (
            not self.direct
            or "stresses" in properties
            or (
                "stress" in properties
                and "non_conservative_stress" not in self.extra_outputs
            )
        )
        results = self._evaluate(atoms, species, properties, has_gradients)
        if self.grid is not None:
            mean, self.rotational_spread = self._average(atoms, species, properties)
            results = {**results, **mean}
        found: dict[str, Any] = {}
        if self.engine.info.has_energy:
            volume = atoms.get_volume() if atoms.pbc.all() and has_gradients else None
            found |= of_energy(results, volume, "stresses" in properties)
        for name in self._extras_of(properties):
            if name not in OF_CELLS or atoms.pbc.all():
                found[name] = self._extra(name, results, atoms)
        if any(name in properties for name in TENSOR_DICTS):
            found |= of_tensors(self._tensors, results, _state(atoms)[0])
        for name in properties:
            if name in self._responses:
                target = self._responses[name]
                found[name] = self._response.derivatives(atoms, target)
        if self.direct:
            found |= in_place_of_gradients(found)
        return found

    def _check_process(self) -> None:
        """Threads of a parent are not there in a forked child, which waits for them."""
        if os.getpid() != self._process and torch.get_num_threads() > 1:
            raise RuntimeError(f"this calculator {threads.LOST}")

    def _check_state_has_effect(self, atoms: Any) -> None:
        """Say once that charge and spin are read by nobody."""
        info = self.engine.info
        if info.is_conditioned or not info.has_energy or self._is_told_of_state:
            return
        charge, spin_multiplicity = _state(atoms)
        if (charge, spin_multiplicity) != (0, 1):
            self._is_told_of_state = True
            warnings.warn(
                f"the structure has charge {charge:+d} and spin multiplicity "
                f"{spin_multiplicity}, which have no effect on energies and forces: "
                f"the model {info.name} is not conditioned on them",
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
            np.where(atoms.pbc[:, None], atoms.cell.array, 0.0),
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
            turned.set_constraint()  # which may adjust cells that are set
            turned.set_cell(atoms.cell.array @ rotation.T)
            turned.positions = atoms.positions @ rotation.T
            wanted = [name for name in properties if name == "stresses"]
            return self._evaluate(turned, species, wanted, True)

        return average(evaluate, self.grid)

    def _extra(self, name: str, results: dict[str, Any], atoms: Any) -> Any:
        """A further output as ASE would have it: see the class."""
        output = self.extra_outputs[name]
        if output in self._tensors:
            return of_tensor(self._tensors[output], results, _state(atoms)[0])
        if name == "non_conservative_stress":
            total = results["sums"][output].reshape(3, 3)
            return full_3x3_to_voigt_6_stress(total / atoms.get_volume())
        return of_output(name, output, results, self.engine.info)

    @functools.cached_property
    def _response(self) -> Any:
        """The plain network, which alone has derivatives of tensors."""
        from .response import Response

        path = self._arguments["model"]
        found = read_metadata(path)["weights_hash"]
        _check_weights(path, found, self.engine.info.weights_hash)
        return Response(path)


def _make(kind: type, arguments: dict[str, Any], weights_hash: str) -> Any:
    """A calculator from the arguments of its constructor; for copies and pickles.

    Raises:
        ValueError: the file has other weights by now.
    """
    made = kind(**arguments)
    _check_weights(arguments["model"], made.engine.info.weights_hash, weights_hash)
    return made


def _check_weights(path: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise ValueError(
            f"{path} is not the model that it was when this calculator was made: the "
            f"SHA-256 of its weights was {wanted[:12]}, now it is {found[:12]}; "
            "restore it, or make a new calculator"
        )


def _state(atoms: Any) -> tuple[int, int]:
    """Total charge and 2S + 1 of ``atoms``."""
    return charge_and_spin(atoms.info, "the atoms")
