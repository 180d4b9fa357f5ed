"""Files to be written: looked at before hours of work, not after."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path


def check_output(path: str | os.PathLike, *others: str | os.PathLike) -> Path:
    """The path of a file that is going to be written.

    Args:
        path: of the file.
        others: files that are read before, or written beside it.

    Raises:
        ValueError: it is one of the others, or a folder, or its folder does not exist
            or admits no file.
    """
    path = Path(path)
    check_distinct(path, *others)
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


def output_or_default(path: str | None, default: str) -> str:
    """The path that was named, or the default, which must not take a file's place.

    Raises:
        ValueError: none was named, and there is such a file.
    """
    if path is None and os.path.lexists(default):
        raise ValueError(
            f"{default} is there already; name the file to write with `-o`: "
            f"`-o {default}` replaces it"
        )
    return default if path is None else path


def check_distinct(
    path: str | os.PathLike, *others: str | os.PathLike, mend: str = "another file"
) -> None:
    """Refuse to write a file over another one.

    Args:
        path: of the file.
        others: files that are read before, or written beside it.
        mend: what to name instead.

    Raises:
        ValueError: it is one of the others, by whatever link.
    """
    for other in others:
        if _is_same(Path(path), Path(other)):
            raise ValueError(
                f"{path} would be written over {other}, which this command reads or "
                f"writes, too; name {mend}"
            )


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


def _is_same(path: Path, other: Path) -> bool:
    """Whether both are one file, by links, too; or will be."""
    if path.exists() and other.exists():
        return path.is_file() and path.samefile(other)
    return path.resolve() == other.resolve()


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """A hidden path beside ``path``, to write; it takes its place in the end.

    So an interruption leaves what was there before. A link stays, and what it points to
    is replaced; devices and pipes are written to.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".part-{path.name}")  # the suffix tells how it is packed
    partial.unlink(missing_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def export_hint(checkpoint: str | os.PathLike) -> str:
    """The command that exports a checkpoint, as a shell takes it."""
    return f"export it with: petmad export {shlex.quote(str(checkpoint))} -o model.pt"


def convert_hint(checkpoint: str | os.PathLike) -> str:
    """The command that converts a checkpoint of metatrain, as a shell takes it."""
    path = shlex.quote(str(checkpoint))
    return f"convert it with: petmad convert {path} -o model.pt"
