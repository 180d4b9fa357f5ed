"""The zip archives of torch, looked at before it reads them."""

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
