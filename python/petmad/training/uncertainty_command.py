"""What ``petmad uncertainty fit`` does: read, fit, write, and tell."""

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from petmad.data import Sample, read_structures
from petmad.data.files import file_sha256
from petmad.data.lazy import join, make_samples, of_level
from petmad.data.structures import LabelKeys, check_species
from petmad.model import Potential
from petmad.output_files import check_output, export_hint

from . import checkpoint
from .device import choose_device
from .label_names import keys_for, tell
from .options import Options, parse_options
from .splits import all_files, load_splits
from .trained import trained_energies
from .uncertainty import Fit, check_target, fit_uncertainty


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """Fit, write the checkpoint, and yield lines to print.

    Raises:
        ValueError: model, files or labels are wrong.
    """
    output = Path(arguments.output or Path(arguments.model).with_suffix(".llpr.ckpt"))
    files = [*(arguments.train or ()), *(arguments.valid or ())]
    check_output(output, arguments.model, *files)
    potential, provenance = checkpoint.load_any(arguments.model)
    check_target(potential, arguments.target)
    device = choose_device(arguments.device)
    train, valid = read_samples(arguments, potential, provenance)
    fit = fit_uncertainty(
        potential.to(device),
        train,
        valid,
        arguments.target,
        arguments.members,
        arguments.regularizer,
        arguments.calibration,
    )
    record = {
        "model": str(arguments.model),
        "n_train": len(train),
        "n_valid": len(valid),
        "regularizer": fit.regularizer,
        "multiplier": fit.multiplier,
        "slope": fit.calibration.slope,
    }
    checkpoint.save(output, fit.potential, {**provenance, "uncertainty": record})
    yield from describe(fit, len(train), len(valid))
    yield f"wrote {output}\n{export_hint(output)}"


def read_samples(
    arguments: argparse.Namespace, potential: Potential, provenance: dict[str, Any]
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """Training and validation samples: of the files named, or of the training.

    Raises:
        ValueError: no files are named and the model does not know its own, or they
            have changed.
    """
    if arguments.train and arguments.valid:
        keys = keys_for(arguments, provenance)
        keys = dataclasses.replace(keys, forces=None, stress=None, virial=None)
        tell(keys)
        return (
            _read(arguments.train, keys, potential),
            _read(arguments.valid, keys, potential),
        )
    if "options" not in provenance or arguments.train or arguments.valid:
        raise ValueError(
            f"{arguments.model} does not tell what it was trained on, or half of it "
            "was given; name both with --train and --valid"
        )
    if arguments.energy_key is not None or arguments.energy_unit is not None:
        raise ValueError(
            "`--energy-key` and `--energy-unit` tell the label of files, but none are "
            "named; name them with --train and --valid, or leave the label to the "
            "training's options"
        )
    options = parse_options(provenance["options"], "the training's options")
    check_unchanged(options, provenance)
    names = trained_energies(options)
    if arguments.target not in names:
        raise ValueError(
            f"{arguments.target!r} of {arguments.model} was not trained on its files, "
            f"but {names}; name files with --train and --valid"
        )
    splits, level = load_splits(options), names.index(arguments.target)
    train, valid = (of_level(part, level) for part in (splits.train, splits.valid))
    return train, valid


def check_unchanged(options: Options, provenance: dict[str, Any]) -> None:
    """Refuse files that are not those of the training any more.

    Raises:
        ValueError: names the first whose SHA-256 is another.
    """
    known = provenance.get("data_sha256", {})
    files = [f for f in all_files(options) if f != options.training.start_from]
    for file in files:
        if file in known and Path(file).is_file() and file_sha256(file) != known[file]:
            raise ValueError(
                f"{file} is not the file that the model was trained on (its SHA-256 "
                "differs); restore it, or name files with --train and --valid"
            )


def _read(files: list[str], keys: LabelKeys, potential: Potential) -> Sequence[Sample]:
    structures = join([read_structures(file, keys, False) for file in files])
    check_species(structures, potential.atomic_numbers)
    return make_samples(structures, potential.atomic_numbers, potential.config.cutoff)


def describe(fit: Fit, n_train: int, n_valid: int) -> Iterator[str]:
    """The fit in a few lines, and its calibration as a table."""
    yield (
        f"fitted to {n_train} training structures, calibrated on {n_valid}: "
        f"multiplier {fit.multiplier:.4g}, regularizer {fit.regularizer:.4g}"
    )
    quality = fit.calibration
    yield f"{'predicted':>12} {'found':>12}  meV/atom, RMS of each bin"
    for deviation, error in zip(quality.deviations, quality.errors, strict=True):
        yield f"{1000 * deviation:12.3f} {1000 * error:12.3f}"
    yield f"errors over deviations: {quality.ratio:.2f}; slope {quality.slope:.2f}"
