"""Files to be written: looked at before hours of work, not after."""

import os
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
