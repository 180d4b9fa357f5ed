"""``petmad data convert``: files of any kind into one memory-mapped file, checked."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import ase
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from petmad.output_files import replaced

from .consistency import check_energies, check_gradients
from .files import stream_frames
from .lazy import FEW
from .mapped import check_new, write_mapped
from .progress import progress
from .structures import LabelKeys, Structure, to_structure


class Conversion(NamedTuple):
    """What was done: frames written, and what comparing their labels told."""

    n_frames: int
    findings: list[str]


def convert(
    files: Sequence[str | Path],
    output: str | Path,
    keys: LabelKeys,
    needs_forces: bool = True,
    level: str = "",
    checks: bool = True,
) -> Conversion:
    """Write labelled structures as one mapped file, labels in eV and Å.

    Every frame is checked as in training, and the labels of the first of each file are
    compared with each other. What else a frame has is kept.

    Args:
        files: to read, one after the other, a frame at a time.
        output: to write, ``.aselmdb``.
        keys: names and units of the labels.
        needs_forces: whether a frame without forces is an error.
        level: of theory; its labels are called ``LEVEL_energy`` and so on, beside those
            of another level that a frame has. Empty: they are calculator results.
        checks: whether labels are compared with each other.

    Raises:
        ValueError: a file or label is wrong; nothing is left behind then.
    """
    output, first = Path(output), []
    check_new(output)

    def converted() -> Iterator[ase.Atoms]:
        for file in files:
            for i, atoms in enumerate(stream_frames(file)):
                source = f"{file}, frame {i}"
                structure = to_structure(atoms, source, keys, needs_forces)
                if i < FEW:
                    first.append(structure)
                yield relabelled(atoms, structure, keys, level)

    with replaced(output) as partial:  # a part would pass for the whole
        n_frames = write_mapped(partial, progress(converted(), "converting"))
        if n_frames == 0:
            raise ValueError(f"no frame in {', '.join(map(str, files))} to write")
        if not checks:
            return Conversion(n_frames, [])
        check_energies(first, keys.section)
        return Conversion(n_frames, check_gradients(first, keys.section))


def relabelled(
    atoms: ase.Atoms, structure: Structure, keys: LabelKeys, level: str = ""
) -> ase.Atoms:
    """A frame whose labels are in eV and Å under the names of their kind."""
    result = atoms.copy()
    result.cell, result.pbc = structure.cell, structure.pbc
    old = {keys.energy, keys.forces, keys.stress, keys.virial}
    for place in (result.info, result.arrays):
        for name in old & set(place):
            del place[name]
    results = atoms.calc.results if atoms.calc is not None else {}
    results = {name: value for name, value in results.items() if name not in old}
    labels = {
        name: getattr(structure, name)
        for name in ("energy", "forces", "stress")
        if getattr(structure, name) is not None
    }
    if level:
        for name, value in labels.items():
            place = result.arrays if name == "forces" else result.info
            place[f"{level}_{name}"] = value
    else:
        results |= labels
        if "stress" in labels:
            results["stress"] = full_3x3_to_voigt_6_stress(labels["stress"])
    if results:
        result.calc = SinglePointCalculator(result, **results)
    return result
