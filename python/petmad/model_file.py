"""What an exported file says about itself, read without loading the model or torch."""

import json
import os
import pathlib
import zipfile
from typing import Any

from . import __version__
from .archive import kind_of_archive
from .output_files import convert_hint, export_hint


FORMAT_VERSION = 3
"""Newest format this version reads, and the one it writes."""


def read_metadata(path: str | os.PathLike) -> dict[str, Any]:
    """The description inside an exported file, read without loading the model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, not ours, or of a newer format.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of a model file in it")
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path.resolve()}")
    remedy = "give a file written by `petmad export`"
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith("extra/metadata.json")]
            text = archive.read(names[0]) if names else b""
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is not a readable model file ({error}); it may be damaged or "
            f"truncated: {remedy}"
        ) from None
    if not text:
        _refuse_checkpoint(path)
        raise ValueError(f"{path} is an archive but not a petmad model; {remedy}")
    try:
        metadata = json.loads(text)
        version = int(metadata["format_version"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{path} is a petmad model whose description is damaged; export it again"
        ) from None
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this petmad "
            f"({__version__}) reads up to {FORMAT_VERSION}; install a newer petmad"
        )
    return metadata


def _refuse_checkpoint(path: pathlib.Path) -> None:
    """Say how a checkpoint becomes a model file, if the file is one."""
    kind = kind_of_archive(path)
    if kind == "upstream":
        raise ValueError(
            f"{path} is a checkpoint of metatrain, not a model file; "
            f"{convert_hint(path)}"
        )
    if kind == "checkpoint":
        raise ValueError(
            f"{path} is a checkpoint, not a model file; {export_hint(path)}"
        )


def format_metadata(metadata: dict[str, Any]) -> str:
    """The description for people: one line per item, nested items indented."""
    return "\n".join(_lines(metadata, ""))


def _lines(value: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for name, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{name}:", *_lines(item, indent + "  ")]
        else:
            shown = item if isinstance(item, str) else json.dumps(item)
            lines.append(f"{indent}{name + ':':<26} {shown}")
    return lines
