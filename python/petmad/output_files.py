"""Files to be written: looked at before hours of work, not after."""

import os
import shlex
from pathlib import Path


def check_output(path: str | os.PathLike) -> Path:
    """The path of a file that is going to be written.

    Raises:
        ValueError: it is a folder, or its folder does not exist or admits no file.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder; name the file to write, as {path / 'NAME'}"
        )
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: make the folder {folder} first")
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: the folder {folder} does not admit it; write "
            "elsewhere"
        )
    return path


def check_output_folder(path: str | os.PathLike) -> Path:
    """The path of a folder that is going to be made, if need be, and written to.

    Raises:
        ValueError: it is no folder, or cannot become one.
    """
    path = Path(path)
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ValueError(
            f"{path} cannot be a folder: {existing} is a file; name another folder"
        )
    if not os.access(existing, os.W_OK):
        raise ValueError(
            f"{path} cannot be written: the folder {existing} does not admit it; write "
            "elsewhere"
        )
    return path


def export_hint(checkpoint: str | os.PathLike) -> str:
    """The command that exports a checkpoint, as a shell takes it."""
    return f"export it with: petmad export {shlex.quote(str(checkpoint))} -o model.pt"
