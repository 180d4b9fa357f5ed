"""Options of the data: files, splits, and what labels are called and measured in."""

from typing import Annotated, Any

import pydantic
from pydantic_core import PydanticCustomError

from petmad.data.structures import LabelKeys

from .section import Section


AtomicNumber = Annotated[int, pydantic.Field(ge=1, le=118)]
NO_FILES = "no_files"
"""Type of error of an option that should name files and does not."""


class LabelOptions(Section):
    """Files of one level of theory, and what its labels are called there.

    ``energy: {key: dft_energy, unit: Ha}`` is another way to write ``energy_key`` and
    ``energy_unit``, likewise for the other labels.
    """

    train: str | list[str] | None = None
    """Training file or files; null takes the frames of ``data.train`` that have this
    energy."""
    valid: str | list[str] | None = None
    """Validation file or files; by default a part of the training structures, of a
    level without files of its own the frames of ``data.valid`` that have its energy."""
    energy_key: str | None = "energy"
    """Name of the energy in the files; null trains tensor targets alone."""
    energy_unit: str = "eV"
    """Its unit: eV, meV, Ha, Ry, kcal/mol, kJ/mol."""
    forces_key: str | None = "forces"
    """Name of the forces; null reads none. So does a level without files of its own
    that gives no name: ``forces`` are those of the main energy."""
    forces_unit: str = "eV/Å"
    """Their unit, an energy per length: eV/Å, Ha/Bohr."""
    stress_key: str | None = "stress"
    """Name of the stress, positive in tension; null reads none, likewise."""
    stress_unit: str = "eV/Å^3"
    """Its unit: eV/Å^3, GPa, kbar, Ha/Bohr^3."""
    virial_key: str | None = None
    """Name of the virial, -volume times stress, used where there is no stress."""
    virial_unit: str = "eV"
    """Its unit, an energy."""
    require_forces: bool = True
    """Whether a frame without forces is an error. With ``false``, frames with an energy
    alone may be mixed in: they enter the energy term of the loss only."""

    @pydantic.field_validator("train", "valid", mode="before")
    @classmethod
    def _names_files(cls, files: Any, info: pydantic.ValidationInfo) -> Any:
        """Refuse what names none, in words of its own."""
        if files is None and not cls.model_fields[info.field_name].is_required():
            return files
        names = files if isinstance(files, list) else [files]
        advice = "name a file or a list of files"
        if not names or None in names or "" in names:
            raise PydanticCustomError(NO_FILES, f"is empty; {advice}")
        if not all(isinstance(name, str) for name in names):
            raise PydanticCustomError(NO_FILES, f"names no file; {advice}")
        return files

    @pydantic.model_validator(mode="before")
    @classmethod
    def _flatten_labels(cls, values: Any) -> Any:
        """``energy: {key, unit}`` as ``energy_key`` and ``energy_unit``."""
        if not isinstance(values, dict):
            return values
        flat = {}
        for name, value in values.items():
            is_label = name in ("energy", "forces", "stress", "virial")
            if is_label and isinstance(value, dict):
                parts = {f"{name}_{part}": v for part, v in value.items()}
                twice = sorted(set(parts) & set(values))
                if twice:
                    part = twice[0].removeprefix(f"{name}_")
                    raise ValueError(
                        f"`{twice[0]}` and `{name}: {{{part}: ...}}` are two spellings "
                        "of one option; keep one"
                    )
                flat.update(parts)
            else:
                flat[name] = value
        return flat

    def label_keys(self, level: int = 0, **other: Any) -> LabelKeys:
        """For reading; see :class:`petmad.data.structures.LabelKeys`."""
        return LabelKeys(
            self.energy_key,
            self.forces_key,
            self.stress_key,
            virial=self.virial_key,
            energy_unit=self.energy_unit,
            forces_unit=self.forces_unit,
            stress_unit=self.stress_unit,
            virial_unit=self.virial_unit,
            level=level,
            **other,
        )

    @pydantic.model_validator(mode="after")
    def _has_known_units(self) -> "LabelOptions":
        self.label_keys()
        return self


class DataOptions(LabelOptions):
    """Where the structures are: extended XYZ or ASE databases.

    Extended XYZ may be packed, ``.xz`` or ``.gz``; databases are ``.db``, or
    ``.aselmdb``, memory-mapped, for sets larger than memory. Files are relative to the
    working directory.
    """

    train: str | list[str]
    """Training file or files."""
    valid_fraction: float = pydantic.Field(0.1, gt=0, lt=1)
    """Part kept aside for validation where training files have no validation file."""
    split_seed: int = pydantic.Field(0, ge=0)
    """Seed of that split."""
    group_key: str | None = None
    """Name of what frames have in common, such as the structure they were made from;
    frames of one group are kept on one side of that split."""
    max_force: pydantic.PositiveFloat | None = None
    """Training structures with a stronger force [eV/Å] are left out, and counted."""
    check_gradients: bool = True
    """Compare energies with the work of forces and stress between close frames, and the
    energies of files with each other; stop where they tell a wrong sign or unit."""
    levels: dict[str, LabelOptions] = pydantic.Field({})
    """Further levels of theory by name, each with an energy of its own in the model,
    called ``energy/NAME``, and options as shown below as comments."""
    atomic_numbers: list[AtomicNumber] | None = None
    """Elements of the model; by default those of the training structures."""

    @property
    def sections(self) -> dict[str, LabelOptions]:
        """Each level of theory by its place in the options, the main one first."""
        levels = {f"data.levels.{name}": level for name, level in self.levels.items()}
        return {"data": self, **levels}

    @pydantic.model_validator(mode="after")
    def _reads_gradients_of_one_energy(self) -> "DataOptions":
        """No level takes the main one's labels because their names are the usual."""
        for level in self.levels.values():
            if level.train is None:
                for name in {"forces_key", "stress_key"} - level.model_fields_set:
                    setattr(level, name, None)
        return self
