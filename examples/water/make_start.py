"""Makes the start configuration of `petmad demo`: 64 waters equilibrated with a model.

python examples/water/make_start.py MODEL.pt python/petmad/demo/water64.data [PS]

Molecules at random orientations on a 4 x 4 x 4 grid at 0.993 g/cm³, minimised, then
thermostatted at 300 K for PS picoseconds (default 10) in LAMMPS on 2 ranks. No data
set enters.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np


EDGE = 12.445  # Å, the cell of the training data
N_SIDE = 4
O_H, ANGLE = 0.97, np.deg2rad(104.5)
INPUT = """
units metal
atom_style atomic
read_data grid.data
pair_style petmad {model}
pair_coeff * * O H
timestep 0.00025
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
minimize 0 0.5 200 400
velocity all create 300 1 mom yes rot no dist gaussian
fix 1 all nve
fix 2 all langevin 300 300 0.02 7
thermo 1000
run 2000
timestep 0.0005
unfix 2
unfix 1
fix 1 all nvt temp 300 300 0.05
run {steps}
reset_timestep 0
write_data {output} nocoeff
"""


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly distributed rotation matrix."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


def grid_of_waters() -> str:
    """The grid as a LAMMPS data file; type 1 is O, type 2 is H."""
    rng = np.random.default_rng(64)
    half = 0.5 * ANGLE
    molecule = O_H * np.array(
        [[0, 0, 0], [np.sin(half), 0, np.cos(half)], [-np.sin(half), 0, np.cos(half)]]
    )
    cells = np.stack(np.meshgrid(*3 * [np.arange(N_SIDE)]), axis=-1).reshape(-1, 3)
    atoms = []
    for cell in (cells + 0.5) * EDGE / N_SIDE:
        placed = molecule @ random_rotation(rng).T + cell
        atoms += [(kind, *xyz) for kind, xyz in zip((1, 2, 2), placed, strict=True)]
    lines = ["64 water molecules on a grid", "", f"{len(atoms)} atoms", "2 atom types"]
    lines += [f"0 {EDGE} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "", "Atoms # atomic", ""]
    lines += [f"{i} {k} {x} {y} {z}" for i, (k, x, y, z) in enumerate(atoms, 1)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run LAMMPS and write the data file."""
    model, output = (pathlib.Path(name).resolve() for name in sys.argv[1:3])
    picoseconds = float(sys.argv[3]) if len(sys.argv) > 3 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "grid.data").write_text(grid_of_waters())
        text = INPUT.format(model=model, output=output, steps=int(picoseconds * 2000))
        (pathlib.Path(folder) / "in.start").write_text(text)
        command = ["mpiexec", "-n", "2", "lmp", "-in", "in.start"]
        subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    main()
