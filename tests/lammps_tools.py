"""Runs LAMMPS on the structures of the tests and reads back what it computed.

Structures are written in LAMMPS's frame (a along x, b in the xy plane), so that the
engine can be asked about the very same numbers.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys

import numpy as np
import torch


NUMBERS = {"H": 1, "C": 6, "O": 8}
MASSES = {"H": 1.008, "C": 12.011, "O": 15.999, "Si": 28.085}
ELEMENTS = ("O", "H", "C")  # types 1, 2, 3: not the model's order
PRESSURE_UNIT = {"metal": 1.6021765e6, "real": 68568.415}  # LAMMPS's nktv2p
ENERGY_UNIT = {"metal": 1.0, "real": 23.060549}
MOVING = """
velocity all create 300 4928 loop geom
velocity all set 45 -35 25 sum yes
timestep 0.0005
fix move all nve
"""


@dataclasses.dataclass
class Box:
    """Atoms in a LAMMPS box.

    Attributes:
        symbols: [n_atoms] element symbols.
        positions: [n_atoms, 3] Å, inside the box.
        cell: [3, 3] Å, lower triangular.
        boundary: LAMMPS's letters, like ``p p f``.
    """

    symbols: list
    positions: np.ndarray
    cell: np.ndarray
    boundary: str = "p p p"

    @property
    def pbc(self):
        """[3] bool."""
        return np.array([letter == "p" for letter in self.boundary.split()])


def water(n_side=(3, 3, 2), seed=1):
    """Molecules in random orientations on a grid, 3.1 Å apart."""
    rng = np.random.default_rng(seed)
    bent = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    positions = []
    for spot in np.ndindex(*n_side):
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        middle = 3.1 * (np.array(spot) + 0.5) + 0.2 * rng.standard_normal(3)
        positions.append(middle + bent @ rotation)
    cell = np.diag(3.1 * np.array(n_side))
    positions = np.concatenate(positions)
    positions = (positions @ np.linalg.inv(cell) % 1.0) @ cell
    return Box(["O", "H", "H"] * int(np.prod(n_side)), positions, cell)


def triclinic():
    """Ten atoms in a skewed cell."""
    rng = np.random.default_rng(2)
    cell = np.array([[6.1, 0, 0], [1.3, 5.7, 0], [-0.9, 1.1, 6.6]])
    spots = np.array(list(np.ndindex(2, 2, 3)))[:10] / [2, 2, 3] + 0.08
    positions = (spots + 0.05 * rng.random((10, 3))) @ cell
    return Box(list("OHCHOHCCHO"), positions, cell)


def tiny():
    """Three atoms in a cell smaller than the cutoff: each is its own neighbor."""
    cell = np.array([[2.9, 0, 0], [0.4, 3.0, 0], [0.3, -0.5, 3.2]])
    positions = [[0.2, 0.3, 0.2], [1.5, 1.8, 0.6], [0.9, 0.7, 2.1]]
    return Box(["O", "C", "H"], np.array(positions), cell)


def slab():
    """Water at the bottom of a box open along z: ranks above own nothing."""
    box = water((3, 2, 1), seed=3)
    box.positions = box.positions + np.array([0.0, 0.0, 1.0])
    box.cell = np.diag([9.3, 6.2, 24.0])
    box.boundary = "p p f"
    return box


def molecule():
    """Methanol in an open box."""
    positions = [
        [-0.05, 0.66, 0.0],
        [-0.05, -0.76, 0.1],
        [-1.09, 0.98, 0.0],
        [0.44, 1.07, 0.89],
        [0.44, 1.07, -0.89],
        [0.87, -1.06, 0.0],
    ]
    cell = np.diag([12.0, 11.0, 10.0])
    return Box(list("COHHHH"), np.array(positions) + 0.5 * np.diag(cell), cell, "f f f")


def atom():
    """One atom alone."""
    return Box(["O"], np.array([[4.0, 4.0, 4.0]]), np.diag([8.0, 9.0, 10.0]), "f f f")


CASES = {
    "water": water,
    "triclinic": triclinic,
    "tiny": tiny,
    "slab": slab,
    "molecule": molecule,
    "atom": atom,
}


def make_model(path, dtype="float64", seed=0, **hypers):
    """Export a small network of random weights for H, C and O."""
    from petmad.export import export_model
    from petmad.model import Potential
    from petmad.model.config import PETConfig

    config = PETConfig(
        **{
            "cutoff": 3.6,
            "d_pet": 8,
            "d_head": 8,
            "d_node": 12,
            "d_feedforward": 16,
            "num_heads": 2,
            "num_attention_layers": 1,
            "num_gnn_layers": 2,
            **hypers,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        potential = Potential(config, [1, 6, 8])
        for parameter in potential.parameters():
            if parameter.dim() > 0 and parameter.dtype == torch.float32:
                parameter.data += 0.1 * torch.randn(parameter.shape)
        potential.compositions[0].data[:, 0] = torch.tensor([-1.0, -3.0, -5.0])
    export_model(potential, path, dtype=dtype)
    return path


def program(name):
    """Path of a program installed beside this Python."""
    return pathlib.Path(sys.executable).parent / name


def write_data(path, box, elements=ELEMENTS):
    """A LAMMPS data file, atom_style atomic, all digits."""
    index = {symbol: i + 1 for i, symbol in enumerate(elements)}
    a, b, c = box.cell
    lines = [
        "petmad test",
        "",
        f"{len(box.symbols)} atoms",
        f"{len(elements)} atom types",
        f"0.0 {float(a[0])!r} xlo xhi",
        f"0.0 {float(b[1])!r} ylo yhi",
        f"0.0 {float(c[2])!r} zlo zhi",
    ]
    if b[0] or c[0] or c[1]:
        lines.append(f"{float(b[0])!r} {float(c[0])!r} {float(c[1])!r} xy xz yz")
    lines += ["", "Masses", ""]
    lines += [f"{index[s]} {MASSES[s]}" for s in elements]
    lines += ["", "Atoms # atomic", ""]
    for i, (symbol, position) in enumerate(
        zip(box.symbols, box.positions, strict=True)
    ):
        x, y, z = (repr(float(value)) for value in position)
        lines.append(f"{i + 1} {index[symbol]} {x} {y} {z}")
    path.write_text("\n".join(lines) + "\n")
    return path


def setup_lines(box, data, model, units="metal", options="", elements=ELEMENTS):
    """Everything up to the first ``run``."""
    return f"""
units {units}
atom_style atomic
boundary {box.boundary}
read_data {data}
pair_style petmad {model} {options}
pair_coeff * * {" ".join(elements)}
neighbor 0.7 bin
thermo_modify norm no lost error
"""


def output_lines(name, steps=0, elements=ELEMENTS):
    """Run; write energy, virial and everything per atom of the last step to files."""
    columns = "id element x y z fx fy fz c_pe c_s[*] c_cs[*]"
    virial = " ".join(f"$(c_w[{i}]:%.17g)" for i in range(1, 7))
    return f"""
compute pe all pe/atom pair
compute s all stress/atom NULL pair
compute cs all centroid/stress/atom NULL pair
compute w all pressure NULL virial
thermo_style custom step pe vol c_w[1] c_w[2] c_w[3] c_w[4] c_w[5] c_w[6]
thermo_modify norm no format float %.17g
thermo {max(steps, 1)}
dump out all custom 1 {name}.dump {columns}
dump_modify out sort id element {" ".join(elements)} format float %.17g first yes
run {steps}
print "$(pe:%.17g) $(vol:%.17g) {virial}" file {name}.txt
undump out
"""


# MPICH waits by spinning, which starves the other ranks where there are more of them
# than free cores: with pauses, 40 steps on 4 ranks took 12 s, not 23 s, on 2 cores.
PATIENT_MPI = {
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1",
    "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "64",
}


def run_lammps(
    script, folder, n_ranks=1, timeout=180, check=True, arguments=(), wrapper=()
):
    """Run the stock ``lmp`` on a script; returns the finished process.

    ``wrapper`` is a command that starts each rank's program, given as its arguments.
    """
    folder = pathlib.Path(folder)
    (folder / "in.test").write_text(script)
    command = [*wrapper, program("lmp"), "-in", folder / "in.test", *arguments]
    command += ["-log", folder / "log.test"]
    if n_ranks > 1:
        command = [program("mpiexec"), "-n", n_ranks, *command]
    environment = {**os.environ, **PATIENT_MPI, "OMP_NUM_THREADS": "1"}
    environment.pop("LAMMPS_PLUGIN_PATH", None)  # importing lammps here has set it
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def hybrid_script(folder, model):
    """Water for petmad and two carbons for lj/cut; energies and forces go to files.

    Returns:
        The script and the water alone.
    """
    box = water((3, 2, 2))
    carbons = [[0.1, 0.2, 0.3], [4.7, 3.1, 3.0]]
    full = Box([*box.symbols, "C", "C"], np.vstack([box.positions, carbons]), box.cell)
    write_data(folder / "box.data", full)
    begin = setup_lines(full, "box.data", model).split("pair_style")[0]
    script = f"""{begin}
pair_style hybrid/overlay petmad {model} lj/cut 3.0
pair_coeff * * petmad O H NULL
pair_coeff * 3 lj/cut 0.01 2.0
neighbor 0.7 bin
compute ours all pair petmad
compute rest all pair lj/cut
thermo_style custom step pe c_ours c_rest
thermo_modify format float %.17g norm no
dump out all custom 1 out.dump id fx fy fz
dump_modify out sort id format float %.17g
run 0
print "$(c_ours:%.17g) $(c_rest:%.17g) $(pe:%.17g)" file parts.txt
"""
    return script, box


def read_numbers(path):
    """Columns of the last frame of a dump, by name."""
    lines = path.read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("ITEM: ATOMS")]
    names = lines[starts[-1]].split()[2:]
    rows = [line.split() for line in lines[starts[-1] + 1 :]]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


@dataclasses.dataclass
class Frame:
    """One frame of a dump, sorted by ID.

    Attributes:
        symbols: [n_atoms] element symbols.
        positions: [n_atoms, 3] Å.
        forces: [n_atoms, 3] eV/Å.
        cell: [3, 3] Å, orthogonal.
    """

    symbols: list
    positions: np.ndarray
    forces: np.ndarray
    cell: np.ndarray


def read_frames(path):
    """Frames of a dump of ``id element x y z fx fy fz``, with its origin at 0."""
    frames = []
    for text in path.read_text().split("ITEM: TIMESTEP\n")[1:]:
        lines = text.splitlines()
        n_atoms = int(lines[2])
        bounds = np.array([line.split()[:2] for line in lines[4:7]], dtype=float)
        rows = [line.split() for line in lines[8 : 8 + n_atoms]]
        numbers = np.array([row[2:] for row in rows], dtype=float)
        frames.append(
            Frame(
                [row[1] for row in rows],
                numbers[:, :3] - bounds[:, 0],
                numbers[:, 3:],
                np.diag(bounds[:, 1] - bounds[:, 0]),
            )
        )
    return frames


def read_output(folder, name, units="metal"):
    """What ``output_lines`` wrote, in eV and Å and in the engine's shapes."""
    values = [float(v) for v in (folder / f"{name}.txt").read_text().split()]
    unit, pressure = ENERGY_UNIT[units], PRESSURE_UNIT[units]
    pressure_unit = unit * pressure
    columns = read_numbers(folder / f"{name}.dump")

    def table(*names):
        return np.array([[float(v) for v in columns[n]] for n in names]).T

    stress = table(*(f"c_s[{i}]" for i in range(1, 7)))
    centroid = table(*(f"c_cs[{i}]" for i in range(1, 10)))
    return {
        "symbols": columns["element"],
        "positions": table("x", "y", "z"),
        "energy": values[0] / unit,
        "virial": from_voigt(np.array(values[2:]) * values[1] / pressure_unit),
        "forces": table("fx", "fy", "fz") / unit,
        "atomic_energies": table("c_pe")[:, 0] / unit,
        "atomic_virials": from_nine(-centroid / pressure_unit),
        "symmetric_virials": from_voigt(-stress / pressure_unit),
    }


def from_voigt(v):
    """[..., 6] in LAMMPS's order xx yy zz xy xz yz to [..., 3, 3]."""
    return v[..., [0, 3, 4, 3, 1, 5, 4, 5, 2]].reshape(*v.shape[:-1], 3, 3)


def from_nine(v):
    """[..., 9] in LAMMPS's order xx yy zz xy xz yz yx zx zy to [..., 3, 3]."""
    return v[..., [0, 3, 4, 6, 1, 5, 7, 8, 2]].reshape(*v.shape[:-1], 3, 3)


def reference(model, box, positions=None, cell=None, precision="auto"):
    """The engine's answer for a box."""
    from petmad._engine import Engine

    engine = Engine(str(model), check_golden=False, precision=precision)
    species = {z: i for i, z in enumerate(engine.info.atomic_numbers)}
    return engine.evaluate(
        np.ascontiguousarray(box.positions if positions is None else positions),
        np.array([species[NUMBERS[s]] for s in box.symbols], dtype=np.int32),
        np.ascontiguousarray(box.cell if cell is None else cell, dtype=np.float64),
        box.pbc,
        atomic_virials=True,
    )


def assert_same(found, expected, tolerance, floor=0.0):
    """Every quantity within ``tolerance`` of its largest entry.

    ``floor`` [eV, eV/Å] bounds from below what an error is related to, where symmetry
    makes the quantity itself vanish.
    """
    for name in ("energy", "atomic_energies", "forces", "virial", "atomic_virials"):
        a, b = np.asarray(found[name]), np.asarray(expected[name])
        assert a.shape == b.shape, f"{name}: {a.shape} against {b.shape}"
        scale = max(np.abs(b).max(), floor)
        error = np.abs(a - b).max()
        assert error <= tolerance * scale, f"{name}: off by {error} of {scale}"
    symmetric = np.asarray(expected["atomic_virials"])
    symmetric = 0.5 * (symmetric + symmetric.transpose(0, 2, 1))
    error = np.abs(found["symmetric_virials"] - symmetric).max()
    assert error <= tolerance * max(np.abs(symmetric).max(), floor)
