"""The two other implementations of PET: an environment, and our weights for them."""

import pathlib
import subprocess
import tarfile
import venv

import torch


KOKKOS = "pet-kokkos==0.1.1"
# All on the torch that runs here: asked for first, since the peers would take any.
TORCH = f"torch=={torch.__version__.split('+')[0]}"
PACKAGES = [TORCH, "metatrain==2026.4.1", KOKKOS, "safetensors", "ase"]
TO_METATOMIC = """
import sys
from metatrain.utils.io import load_model
load_model(sys.argv[1]).export().save(sys.argv[2])
"""


def run(*command: str | pathlib.Path) -> None:
    """Run to success.

    Raises:
        RuntimeError: it failed; the message ends with what it said.
    """
    found = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        shown = " ".join(str(part) for part in command[:4])
        raise RuntimeError(
            f"`{shown} ...` failed: {found.stderr.strip()[-2000:]}\n"
            "Mend it, or give an environment that has "
            f"{', '.join(PACKAGES)} as --peer-python"
        )


def environment(folder: pathlib.Path) -> pathlib.Path:
    """Python of an environment with both packages, made in ``folder`` if need be."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {', '.join(PACKAGES)} in {folder}", flush=True)
        venv.create(folder, with_pip=True)
        run(python, "-m", "pip", "install", "--quiet", TORCH)
        run(python, "-m", "pip", "install", "--quiet", *PACKAGES)
        (folder / "complete").touch()
    return python


def converter(python: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """pet-kokkos's own converter, from its source distribution."""
    found = sorted(folder.glob("*/tools/convert_pet.py"))
    if not found:
        options = ["--quiet", "--no-deps", "--no-binary", "pet-kokkos", "-d", folder]
        run(python, "-m", "pip", "download", *options, KOKKOS)
        with tarfile.open(next(folder.glob("pet_kokkos-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        found = sorted(folder.glob("*/tools/convert_pet.py"))
    return found[0]


def convert(
    python: pathlib.Path, tool: pathlib.Path, checkpoint: pathlib.Path
) -> dict[str, pathlib.Path]:
    """Files of both packages beside an upstream checkpoint."""
    metatomic = checkpoint.with_name(f"{checkpoint.stem}_metatomic.pt")
    run(python, "-c", TO_METATOMIC, checkpoint, metatomic)
    kokkos = checkpoint.with_name(f"{checkpoint.stem}_kokkos")
    run(python, tool, "--ckpt", checkpoint, "--out", kokkos)
    return {
        "metatomic": metatomic,
        "pet-kokkos": kokkos,
        "pet-kokkos tuned": kokkos,
    }
