"""Reading a foreign ``torch.save`` file without running anything that it brings along.

A checkpoint is a pickle, and a pickle may call any function it names. This unpickler
looks names up in one fixed list of harmless types and refuses every other name.
Upstream's own three classes are replaced by records that hold their state.
"""

import collections
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petmad.archive import check_archive


class Record:
    """Stands in for a class of upstream: keeps the pickled state, does nothing."""

    def __init__(self, state: Any = None) -> None:
        self.state = state

    def __getstate__(self) -> Any:
        return self.state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class DatasetInfo(Record):
    """``state``: dict with length_unit, _atomic_types (Z) and targets."""


class TargetInfo(Record):
    """``state``: dict with quantity, unit, layout and flags."""


class ScriptObject(Record):
    """``state``: (content, class name): a uint8 tensor of a map, or a JSON text."""


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """A view of a storage, without the gradient hooks that a pickle may attach."""
    hooks = collections.OrderedDict()
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, hooks)


def _parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    """A pickled parameter as the plain tensor in it."""
    return data


def _encode(text: str, encoding: str) -> bytes:
    """What Python 2's protocol needs for bytes; no codec is looked up."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}, not latin1")
    return text.encode("latin1")


DTYPES = (
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int32",
    "int64",
    "uint8",
    "bool",
)
NUMPY_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "scalar"): NUMPY_SCALAR,
    ("numpy._core.multiarray", "scalar"): NUMPY_SCALAR,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{("torch", name): getattr(torch, name) for name in DTYPES},
    ("torch", "ScriptObject"): ScriptObject,
    ("metatrain.utils.data.dataset", "DatasetInfo"): DatasetInfo,
    ("metatrain.utils.data.target_info", "TargetInfo"): TargetInfo,
}
"""All names that a file may use, beside torch's storages."""


class Forbidden(pickle.UnpicklingError):
    """The file names something that is not in :data:`HARMLESS`."""


class Unpickler(pickle.Unpickler):
    """Resolves the names of :data:`HARMLESS` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The harmless type of that name.

        Raises:
            Forbidden: any other name; it is neither imported nor called.
        """
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in HARMLESS:
            raise Forbidden(f"{module}.{name}")
        return HARMLESS[module, name]


def _load(file: Any, **arguments: Any) -> Any:
    return Unpickler(file, **arguments).load()


PICKLE = types.SimpleNamespace(
    __name__="petmad restricted pickle", Unpickler=Unpickler, load=_load
)


def load(path: str | Path) -> dict[str, Any]:
    """Content of an upstream checkpoint, tensors left on disk until they are used.

    Args:
        path: file written by ``torch.save``.

    Raises:
        ValueError: the file is missing, damaged, of another kind, or names a type that
            a checkpoint has no need of.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such checkpoint: {path} (looked in {Path.cwd()})")
    _check_archive(path)
    try:
        content = torch.load(
            str(path),
            map_location="cpu",
            mmap=True,
            weights_only=False,
            pickle_module=PICKLE,
        )
    except Forbidden as error:
        raise ValueError(
            f"{path} is refused: it asks for `{error}`, which no PET checkpoint needs "
            "and which could run code on loading; nothing of it was run. Take the file "
            "from its official source"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error}); "
            "it is damaged, download it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}, not a checkpoint; give the "
            "`.ckpt` file of metatrain"
        )
    return content


def _check_archive(path: Path) -> None:
    """Refuse what is no zip archive of ``torch.save``."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a torch.save archive: truncated, or of another kind; give "
            "the `.ckpt` file of metatrain"
        )
    with zipfile.ZipFile(path) as archive:
        names = [name.split("/")[-1] for name in archive.namelist()]
    if "constants.pkl" in names or "data.pkl" not in names:
        raise ValueError(
            f"{path} is an exported (TorchScript) or foreign archive, not a "
            "checkpoint; give the `.ckpt` file it was exported from"
        )
    check_archive(path, "download it again")
