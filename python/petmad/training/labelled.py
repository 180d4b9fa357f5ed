"""Structures to judge a model on: of several files, with the labels that they have."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from petmad.data import Structure, read_structures
from petmad.data.files import stream_frames
from petmad.data.reading import find_labels
from petmad.data.structures import LabelKeys, labels_of_frame, missing_label


class Labelled(NamedTuple):
    """Structures that have a label to compare with.

    Attributes:
        structures: in the order of files and frames; an energy is NaN, forces and
            stress None, and a tensor NaN, where there is none. Their group is empty
            unless it was asked for.
        n_frames: in the files, those without any label included.
        n_without: frames without a label, by what it is of: ``energy``, or a tensor;
            those that no frame lacks are not there.
    """

    structures: list[Structure]
    n_frames: int
    n_without: dict[str, int]

    def left_out(self, keys: LabelKeys) -> list[str]:
        """A line for each label that some frames lack."""
        names = {"energy": keys.energy}
        names |= {label.spec.name: label.key for label in keys.tensors}
        return [
            f"{what}: not compared in {count} of {self.n_frames} frames, which have no "
            f"`{names[what]}`"
            for what, count in self.n_without.items()
        ]


def as_files(files: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """One file or several as a list."""
    return [files] if isinstance(files, str | Path) else list(files)


def read_labelled(files: Sequence[str | Path], keys: LabelKeys) -> Labelled:
    """Read the structures of files that have any of the labels.

    Forces and stress are those of the energy: without it, a frame has none.

    Args:
        files: extended XYZ or ASE databases.
        keys: names of the labels; ``keys.group`` names the subsets.

    Raises:
        ValueError: no frame has the energy, or any tensor; or a label is wrong.
    """
    structures = [
        structure
        for file in files
        for structure in read_structures(file, keys, False, admits_unlabelled=True)
    ]
    if keys.group is None:
        structures = [dataclasses.replace(s, group="") for s in structures]
    known = {label.spec.name: label.key for label in keys.tensors}
    have = {name: [has_tensor(s, name) for s in structures] for name in known}
    if keys.energy is not None:
        have = {"energy": [has_energy(s) for s in structures], **have}
        if not any(have["energy"]):
            frame = labels_of_frame(next(iter(stream_frames(files[0]))))
            raise ValueError(
                missing_label(", ".join(map(str, files)), "energy", keys, frame)
            )
    chosen = np.any(list(have.values()), axis=0)
    return Labelled(
        [s for s, is_chosen in zip(structures, chosen, strict=True) if is_chosen],
        len(structures),
        {name: n for name, each in have.items() if (n := len(each) - sum(each)) > 0},
    )


def has_energy(structure: Structure) -> bool:
    """Whether the energy of a structure is known."""
    return not np.isnan(structure.energy)


def has_tensor(structure: Structure, name: str) -> bool:
    """Whether a tensor of a structure is known."""
    return not np.isnan(structure.tensors[name]).any()


def labels_in(files: Sequence[str | Path], wanted: set[str]) -> set[str]:
    """Names of what frames of the files have, read until all wanted ones are found."""
    found: set[str] = set()
    for file in files:
        found |= find_labels(file, wanted - found)
    return found
