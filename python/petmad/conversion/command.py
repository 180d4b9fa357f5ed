"""What ``petmad convert`` does, step by step; yields the lines that it prints."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from petmad.export import export_model
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
    if arguments.to == "metatrain":
        yield to_metatrain(arguments)
        return
    if arguments.check and arguments.output.endswith(".ckpt"):
        raise ValueError(
            f"`--check` evaluates a model file, but {arguments.output} is a "
            "checkpoint; write a `.pt` file"
        )
    provenance = {}
    path = arguments.checkpoint
    if hub.is_name(path) and not Path(path).exists():
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
        export_model(potential, arguments.output, dtype, arguments.name, provenance)
    yield f"wrote {arguments.output} in {dtype}"
    if arguments.check:
        differences = check.compare(arguments.output, *arguments.check)
        yield check.format_differences(differences)
        tolerance = arguments.tolerance or check.TOLERANCES[dtype]
        check.require(differences, tolerance)
        yield f"all within {tolerance:g} of the largest number"


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
