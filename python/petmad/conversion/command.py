"""What ``petmad convert`` does, step by step; yields the lines that it prints."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from petmad.export import check_suffix, export_model
from petmad.output_files import replaced
from petmad.training.checkpoint import load_any
from petmad.training.checkpoint import save as save_checkpoint

from . import check, hub, pickle_upstream
from .convert import convert
from .to_upstream import make_checkpoint


def run(arguments: argparse.Namespace) -> Iterator[str]:
    """The command.

    Args:
        arguments: as parsed by :mod:`petmad.cli`.

    Raises:
        ValueError: files or options are wrong, or the check fails.
    """
    check_options(arguments)
    if arguments.to == "metatrain":
        yield to_metatrain(arguments)
        return
    reference = check.read(*arguments.check) if arguments.check else None
    provenance = {}
    path = arguments.checkpoint
    if _is_published(path):
        path, provenance["source"] = hub.fetch(path, arguments.revision)
        yield f"source:       {_describe_source(provenance['source'])}"
    potential, report = convert(path, arguments.target, arguments.keep)
    yield report.format()
    dtype = arguments.dtype or report.dtype
    provenance["converted_from"] = report.to_dict()
    if arguments.output.endswith(".ckpt"):
        potential.to_dtype(getattr(torch, dtype))
        save_checkpoint(arguments.output, potential, provenance)
    else:
        name = arguments.name or Path(arguments.output).stem
        with replaced(arguments.output) as partial:
            export_model(potential, partial, dtype, name, provenance)
            if reference is not None:
                differences = check.compare(partial, reference)
                yield check.format_differences(differences)
                tolerance = arguments.tolerance
                if tolerance is None:
                    tolerance = check.TOLERANCES[dtype]
                check.require(differences, tolerance)
                yield f"all within {tolerance:g} of the scale"
    yield f"wrote {arguments.output} in {dtype}"


def check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        ValueError: names them, and says what to do.
    """
    is_checkpoint = arguments.output.endswith(".ckpt")
    given = {
        f"--{name}"
        for name in ("target", "keep", "revision", "check", "tolerance")
        if getattr(arguments, name) is not None
    }
    if arguments.to == "metatrain":
        if given:
            raise ValueError(
                f"{', '.join(sorted(given))}: of no effect with `--to metatrain`, "
                "which writes all that the model has; leave out"
            )
        return
    if "--check" in given and is_checkpoint:
        raise ValueError(
            f"`--check` evaluates a model file, but {arguments.output} is a "
            "checkpoint; write a `.pt` file"
        )
    if "--tolerance" in given and "--check" not in given:
        raise ValueError(
            "`--tolerance` is that of `--check`, which is not given; leave it out, or "
            "give `--check STRUCTURES REFERENCE`"
        )
    if "--revision" in given and not _is_published(arguments.checkpoint):
        raise ValueError(
            f"`--revision` is of a published name, but {arguments.checkpoint} is a "
            "file; leave it out, or give a name like pet-mad-s@1.5.0"
        )
    if arguments.name is not None and is_checkpoint:
        raise ValueError(
            "`--name` is not kept in a checkpoint; leave it out, or write a `.pt` file"
        )
    if not is_checkpoint:
        check_suffix(Path(arguments.output))


def _is_published(path: str) -> bool:
    """Whether it is a name of a published model, and not a file here."""
    return hub.is_name(path) and not Path(path).exists()


def to_metatrain(arguments: argparse.Namespace) -> str:
    """Write a model of petmad in the layout of metatrain; tells what was written."""
    if not arguments.output.endswith(".ckpt"):
        raise ValueError(
            f"metatrain reads checkpoints, but {arguments.output} does not end in "
            "`.ckpt`; name it with `-o theirs.ckpt`"
        )
    potential, _ = load_any(arguments.checkpoint)
    if arguments.dtype:
        potential.to_dtype(getattr(torch, arguments.dtype))
    name = arguments.name or Path(arguments.checkpoint).stem
    checkpoint = make_checkpoint(potential, name)
    pickle_upstream.save(checkpoint, arguments.output)
    return (
        f"wrote {arguments.output} for metatrain: {checkpoint['architecture_name']} "
        f"version {checkpoint['model_ckpt_version']}, targets "
        f"{', '.join(potential.target_names)}"
    )


def _describe_source(source: dict[str, str]) -> str:
    if "revision" not in source:
        return f"{Path(source['file']).name} in the working directory"
    return f"{source['repository']} {source['file']} at {source['revision']}"
