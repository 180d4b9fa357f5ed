"""Labelled structures of a file: read at once, or lazily where the file is mapped."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from .files import read_frames, stream_frames
from .mapped import MappedFrames
from .option_names import tensor_option
from .structures import (
    LabelKeys,
    Structure,
    labels_of_frame,
    missing_label,
    to_structure,
)


class MappedStructures(Sequence[Structure]):
    """Structures of a memory-mapped file, each checked as it is read.

    Args:
        frames: of the file.
        wanted: indices of those to be structures.
        keys: names of the labels.
        needs_forces: whether a frame without forces is an error.
        needs_energy: whether one without energy is.
    """

    def __init__(
        self,
        frames: MappedFrames,
        wanted: Sequence[int],
        keys: LabelKeys,
        needs_forces: bool,
        needs_energy: bool = True,
    ) -> None:
        self._frames = frames
        self._wanted = wanted
        self._keys = keys
        self._needs = (needs_forces, needs_energy)

    def __len__(self) -> int:
        return len(self._wanted)

    def __getitem__(self, index: int) -> Structure:
        row = self._wanted[index]
        source = f"{self._frames.path}, frame {row}"
        return to_structure(self._frames[row], source, self._keys, *self._needs)


def read_structures(
    path: str | Path,
    keys: LabelKeys | None = None,
    needs_forces: bool = True,
    skips_unlabelled: bool = False,
    admits_unlabelled: bool = False,
) -> Sequence[Structure]:
    """Read and check the labelled structures of a file.

    Args:
        path: extended XYZ file, plain, ``.xz`` or ``.gz``, an ASE database, or a
            memory-mapped one, whose structures are read and checked when asked for.
        keys: names of the labels.
        needs_forces: whether a frame without forces is an error.
        skips_unlabelled: whether frames without energy are left out, rather than an
            error, as long as one has it.
        admits_unlabelled: whether frames may lack any label, even all of them; without
            energy they have neither forces nor stress.

    Raises:
        ValueError: a label is missing, misshapen or not finite; names file and frame.
    """
    keys = keys or LabelKeys()
    frames = read_frames(path)
    for label in keys.tensors:
        if admits_unlabelled:
            break
        if not any(label.key in labels_of_frame(atoms) for atoms in frames):
            known = sorted(set(labels_of_frame(frames[0])) - {"numbers", "positions"})
            raise ValueError(
                f"no frame of {path} has `{label.key}`, needed as {label.spec.name}; "
                f"the first has {known}; name the right one with "
                f"{tensor_option(keys.section, label.spec.name)}"
            )
    wanted = range(len(frames))
    if skips_unlabelled:
        wanted = [i for i in wanted if keys.energy in labels_of_frame(frames[i])]
    if not wanted:
        raise ValueError(
            missing_label(str(path), "energy", keys, labels_of_frame(frames[0]))
        )
    if isinstance(frames, MappedFrames):
        return MappedStructures(
            frames, wanted, keys, needs_forces, not admits_unlabelled
        )
    return [
        to_structure(
            frames[i], f"{path}, frame {i}", keys, needs_forces, not admits_unlabelled
        )
        for i in wanted
    ]


def find_labels(path: str | Path, wanted: Iterable[str]) -> set[str]:
    """Names of what the frames of a file have, read until all wanted ones are found."""
    found, wanted = set(), set(wanted)
    for atoms in stream_frames(path):
        found.update(labels_of_frame(atoms))
        if wanted <= found:
            break
    return found
