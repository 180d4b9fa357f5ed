"""LAMMPS scripts that write tensors, and the engine's numbers for the same boxes."""

import numpy as np
from lammps_tools import NUMBERS, read_numbers

from petmad._engine import Engine


SIZES = {"dipole": 3, "polarizability": 9, "shielding": 9}
DEFINITIONS = "".join(
    f"compute {name} all petmad/tensor {name} peratom yes\n" for name in SIZES
)


def tensor_output(name, steps=0):
    """Sums of all tensors and their values of atoms at the last step, to files."""
    columns = " ".join(f"c_{tensor}[*]" for tensor in SIZES)
    totals = " ".join(
        f"$(c_{tensor}[{i + 1}]:%.17g)" for tensor, n in SIZES.items() for i in range(n)
    )
    shown = " ".join(f"c_{tensor}[{n}]" for tensor, n in SIZES.items())
    return f"""
thermo_style custom step pe {shown}
thermo {max(steps, 1)}
dump out all custom {max(steps, 1)} {name}.dump id element x y z {columns}
dump_modify out sort id element O H C format float %.17g first yes
run {steps}
print "{totals}" file {name}.txt
undump out
"""


def read_tensors(folder, name):
    """Positions, and ``sums`` and rows of atoms of each tensor."""
    numbers = [float(word) for word in (folder / f"{name}.txt").read_text().split()]
    columns = read_numbers(folder / f"{name}.dump")

    def table(names):
        return np.array([[float(v) for v in columns[n]] for n in names]).T

    sums, atoms, start = {}, {}, 0
    for tensor, n in SIZES.items():
        sums[tensor] = np.array(numbers[start : start + n])
        atoms[tensor] = table([f"c_{tensor}[{i + 1}]" for i in range(n)])
        start += n
    return {"positions": table("xyz"), "sums": sums, "outputs": atoms}


def engine_tensors(model, box, positions=None):
    """The engine's answer for a box, all tensors."""
    engine = Engine(str(model), check_golden=False)
    species = {z: i for i, z in enumerate(engine.info.atomic_numbers)}
    return engine.evaluate(
        np.ascontiguousarray(box.positions if positions is None else positions),
        np.array([species[NUMBERS[s]] for s in box.symbols], dtype=np.int32),
        np.ascontiguousarray(box.cell, dtype=np.float64),
        box.pbc,
        outputs=list(SIZES),
    )


def assert_same_tensors(found, expected, tolerance):
    """Sums and rows, relative to the largest entry of the rows."""
    for tensor in SIZES:
        scale = np.abs(expected["outputs"][tensor]).max()
        assert scale > 1e-6
        for part in ("sums", "outputs"):
            a, b = found[part][tensor], expected[part][tensor]
            assert a.shape == b.shape, f"{tensor}: {a.shape} against {b.shape}"
            error = np.abs(a - b).max()
            assert error <= tolerance * scale, f"{tensor}: off by {error} of {scale}"
