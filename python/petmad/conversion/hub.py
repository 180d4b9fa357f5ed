"""Published checkpoints by name, from their official repository on Hugging Face.

A name like ``pet-mad-s@1.5.0`` is a file ``models/pet-mad-s-v1.5.0.ckpt`` there. The
revision is resolved to a commit before anything is fetched, so that what was fetched
can be told and fetched again.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple


REPOSITORY = "lab-cosmo/upet"
NAME = re.compile(r"(pet-[a-z0-9]+)(?:-(xs|s|m|l|xl))?@v?(\d+\.\d+\.\d+)")
"""Family, size and version; the size s may be left out."""


class Published(NamedTuple):
    """A checkpoint on this machine, and where it came from."""

    path: Path
    source: dict[str, str]
    """repository, file and revision (a commit); a local file has no revision"""


def is_name(text: str) -> bool:
    """Whether ``text`` names a published model rather than a file."""
    return NAME.fullmatch(text) is not None


def fetch(name: str, revision: str | None = None) -> Published:
    """The checkpoint of a published model.

    A file of that name in the working directory is taken before the hub is asked.

    Args:
        name: e.g. ``pet-mad-s@1.5.0``.
        revision: commit, tag or branch of the repository; default: its newest commit.

    Raises:
        ValueError: it cannot be fetched; the message says what to put where.
        ModuleNotFoundError: ``huggingface_hub`` is not installed.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r} is no name of a published model; write it like pet-mad-s@1.5.0"
        )
    family, size, version = found.groups(default="s")
    file = f"{family}-{size}-v{version}.ckpt"
    source = {"repository": REPOSITORY, "file": f"models/{file}"}
    if Path(file).is_file() and revision is None:
        return Published(Path(file), source)
    hub = _import_hub(file)
    try:
        commit = hub.HfApi().model_info(REPOSITORY, revision=revision).sha
        path = hub.hf_hub_download(REPOSITORY, f"models/{file}", revision=commit)
    except Exception as error:  # offline, a proxy, no such file: the hub's own classes
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"cannot fetch models/{file} of huggingface.co/{REPOSITORY} "
            f"({type(error).__name__}: {reason}); {_by_hand(file)}"
        ) from error
    return Published(Path(path), {**source, "revision": commit})


def _import_hub(file: str) -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise ValueError(
            "a published model is fetched by huggingface_hub, which is not installed; "
            f"`pip install 'petmad[hub]'` brings it, or {_by_hand(file)}"
        ) from None
    return huggingface_hub


def _by_hand(file: str) -> str:
    return (
        f"download https://huggingface.co/{REPOSITORY}/resolve/main/models/{file} on "
        f"another machine, put it at {Path.cwd() / file}, and run this command again"
    )
