"""Writing a ``torch.save`` file that names upstream's classes, without upstream."""

import pickle
import types
from pathlib import Path
from typing import Any

import torch

from petmad.output_files import replaced

from .unpickle import DatasetInfo, ScriptObject, TargetInfo


NAMES = {
    DatasetInfo: ("metatrain.utils.data.dataset", "DatasetInfo"),
    TargetInfo: ("metatrain.utils.data.target_info", "TargetInfo"),
    ScriptObject: ("torch", "ScriptObject"),
}
"""Our records, and the classes that a reader shall make of them."""


class Pickler(pickle._Pickler):
    """Writes our records under upstream's names; the rest as ever.

    The Python pickler of the standard library, since the C one looks every class up.
    """

    def save_global(self, obj: Any, name: str | None = None) -> None:
        """Write the name of a class or function."""
        if obj not in NAMES:
            super().save_global(obj, name)
            return
        module, name = NAMES[obj]
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        self.memoize(obj)


PICKLE = types.SimpleNamespace(__name__="petmad pickle", Pickler=Pickler)


def save(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint for upstream; the file is complete or absent."""
    with replaced(path) as whole:
        torch.save(checkpoint, whole, pickle_module=PICKLE)
