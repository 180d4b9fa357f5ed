"""Our part of a checkpoint: what rebuilds the model, and where it came from.

``best.ckpt`` holds only this. ``last.ckpt`` is Lightning's, to resume from, with this
inside it under :data:`KEY`.
"""

from pathlib import Path
from typing import Any

import torch
from ase.data import covalent_radii

from petmad.archive import check_archive, kind_of_archive
from petmad.export import load_exported
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.output_files import convert_hint, replaced

from .lora import merged_state


KEY = "petmad"
FORMAT_VERSION = 1


def make_potential(
    config: PETConfig, atomic_numbers: list[int], targets: list[TargetSpec], dtype: str
) -> Potential:
    """A model with random weights, from torch's global random stream."""
    radii = [float(covalent_radii[z]) for z in atomic_numbers] if config.zbl else None
    potential = Potential(config, atomic_numbers, targets, radii)
    return potential.to_dtype(getattr(torch, dtype))


def describe(
    potential: Potential, provenance: dict[str, Any], resumable: bool = False
) -> dict[str, Any]:
    """Plain values and tensors from which :func:`load_potential` rebuilds the model.

    Low-rank updates are merged.

    Args:
        potential: the model.
        provenance: plain values that tell where it comes from.
        resumable: whether the file also holds the state of the training.
    """
    return {
        "format_version": FORMAT_VERSION,
        "model": potential.config.to_dict(),
        "atomic_numbers": potential.atomic_numbers,
        "targets": [spec.to_dict() for spec in potential.targets],
        "dtype": str(next(potential.network.parameters()).dtype).removeprefix("torch."),
        "state_dict": {k: v.detach().cpu() for k, v in merged_state(potential).items()},
        "provenance": provenance,
        "resumable": resumable,
    }


def save(path: str | Path, potential: Potential, provenance: dict[str, Any]) -> None:
    """Write a checkpoint; the file is complete or absent, never half written."""
    write_atomically(path, {KEY: describe(potential, provenance)})


def write_atomically(path: str | Path, content: dict[str, Any]) -> None:
    """Save beside ``path``, then take its place."""
    with replaced(path) as whole:
        torch.save(content, whole)


def read(path: str | Path) -> dict[str, Any]:
    """Our part of a checkpoint file, as written by :func:`describe`.

    Raises:
        ValueError: the file is missing, damaged, not ours, or of a newer format.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such checkpoint: {path} (looked in {Path.cwd()})")
    if path.suffix == ".pt2":
        raise ValueError(
            f"{path} is called as a file of `petmad export --aoti`, which holds no "
            "weights to read; give best.ckpt or last.ckpt of `petmad train`"
        )
    check_archive(path, "give best.ckpt or last.ckpt of `petmad train`")
    kind = kind_of_archive(path)
    if kind == "exported":
        raise ValueError(
            f"{path} is an exported model file already, not a checkpoint; use it as it "
            "is, under a name that ends in `.pt`"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if kind == "upstream":
            raise ValueError(_of_upstream(path)) from None
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}); it is "
            "damaged or of another kind: give best.ckpt or last.ckpt of `petmad train`"
        ) from error
    if not isinstance(content, dict) or KEY not in content:
        if kind == "upstream":
            raise ValueError(_of_upstream(path))
        raise ValueError(
            f"{path} is not a checkpoint of petmad; give best.ckpt or last.ckpt of "
            "`petmad train`"
        )
    ours = content[KEY]
    if ours["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has checkpoint format {ours['format_version']}, newer than "
            f"{FORMAT_VERSION}, the newest this petmad reads; upgrade petmad"
        )
    return ours


def _of_upstream(path: Path) -> str:
    return (
        f"{path} is a checkpoint of metatrain, not of petmad; {convert_hint(path)} (or "
        "to a petmad checkpoint with -o ours.ckpt)"
    )


def load_potential(path: str | Path) -> tuple[Potential, dict[str, Any]]:
    """Rebuild the model of a checkpoint, in its own dtype, and tell its provenance.

    Raises:
        ValueError: see :func:`read`.
    """
    ours = read(path)
    config = PETConfig.from_dict(ours["model"])
    targets = [TargetSpec(**target) for target in ours["targets"]]
    potential = make_potential(config, ours["atomic_numbers"], targets, ours["dtype"])
    potential.load_state_dict(ours["state_dict"])
    return potential.eval(), ours["provenance"]


def load_any(path: str | Path) -> tuple[Potential, dict[str, Any]]:
    """The model of a checkpoint (``.ckpt``) or of an exported file (any other name).

    Returns:
        The model in its own dtype, and its provenance.

    Raises:
        ValueError: the file is neither.
        FileNotFoundError: there is no such file.
    """
    if Path(path).suffix == ".ckpt":
        return load_potential(path)
    return load_exported(path)
