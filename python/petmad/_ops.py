"""Loads the compiled core once, by one path, if torch is the one it was built with.

A second copy of the library would register the same ops again, which aborts the
process.
"""

import functools
import importlib.metadata
import importlib.util
from pathlib import Path

from . import _build_info


def installed_folder() -> Path:
    """Folder of the compiled parts; differs from the sources' in an editable install.

    Raises:
        RuntimeError: petmad has not been built.
    """
    spec = importlib.util.find_spec("petmad._build_info")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "the compiled parts of petmad are missing (no petmad._build_info); "
            "build them with `pip install .`"
        )
    return Path(spec.origin).parent


def check_torch(loaded: str, built: str) -> None:
    """Compare torch versions, without their local part (``+cpu``, ``+cu130``).

    Raises:
        RuntimeError: they differ.
    """
    if loaded.split("+")[0] != built.split("+")[0]:
        raise RuntimeError(
            f"petmad was built against torch {built}, but torch {loaded} is installed; "
            "rebuild it with `pip install --no-build-isolation --force-reinstall "
            f"--no-deps .` in its source tree, or `pip install torch=={built}`"
        )


@functools.cache
def load_ops() -> None:
    """Load the op library into this process: ``torch.ops.petmad`` exists afterwards.

    Raises:
        RuntimeError: another torch than the one built against, or a missing library.
    """
    check_torch(importlib.metadata.version("torch"), _build_info.TORCH_VERSION)
    library = installed_folder() / "lib" / "libpetmad_core.so"
    if not library.exists():
        raise RuntimeError(
            f"the core library is missing: looked for {library}; reinstall petmad"
        )
    import torch

    torch.ops.load_library(str(library))
