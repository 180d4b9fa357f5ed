"""The zip archives of torch, looked at before it reads them.

A checkpoint is a pickle, which could run code: what kind it is of is told by the names
of the entries and by text in the pickle, of which nothing is run.
"""

import os
import zipfile


def check_archive(path: str | os.PathLike, remedy: str) -> None:
    """Compare the checksums of all entries, which torch does not.

    Raises:
        ValueError: an entry is not as it was written, or the file is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"{path} is damaged, cut short or of another kind ({error}): {remedy}"
        ) from None
    if entry is not None:
        raise ValueError(
            f"{path} is damaged: its entry '{entry}' is not as it was written; {remedy}"
        )


def kind_of_archive(path: str | os.PathLike) -> str:
    """What a file is, by its entries.

    Returns:
        ``exported`` (TorchScript, of petmad or others), ``upstream`` (a checkpoint of
        metatrain), ``checkpoint`` (any other of ``torch.save``), or ``other``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/")[-1]: name for name in archive.namelist()}
            if "constants.pkl" in names:
                return "exported"
            if "data.pkl" not in names:
                return "other"
            content = archive.read(names["data.pkl"])
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError):
        return "other"
    marks = (b"architecture_name", b"model_ckpt_version")
    return "upstream" if all(mark in content for mark in marks) else "checkpoint"
