"""Small labelled structures made on the spot, and options that train in seconds."""

import pathlib

import ase.build
import ase.io
import numpy as np
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator


MODEL = {
    "cutoff": 3.0,
    "num_neighbors_adaptive": 6,
    "d_pet": 8,
    "d_head": 8,
    "d_node": 16,
    "d_feedforward": 8,
    "num_heads": 2,
    "num_attention_layers": 1,
    "num_gnn_layers": 1,
}


def alloys(n_frames: int, seed: int = 0) -> list[ase.Atoms]:
    """Rattled, strained Cu-Au cells of 4 atoms with EMT energy, forces and stress."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = ase.build.bulk("Cu", "fcc", a=3.9, cubic=True)
        atoms.numbers = random.choice([29, 79], size=4)
        strain = np.eye(3) + 0.02 * random.standard_normal((3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += 0.05 * random.standard_normal((4, 3))
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=atoms.get_potential_energy(),
            forces=atoms.get_forces(),
            stress=atoms.get_stress(),
        )
        frames.append(atoms)
    return frames


def write(path: pathlib.Path, frames: list[ase.Atoms]) -> str:
    """Write extended XYZ and give its path as text."""
    ase.io.write(path, frames, format="extxyz")
    return str(path)


def options(folder: pathlib.Path, n_frames: int = 13, **training) -> dict:
    """Options of a short training on alloys put into ``folder``, 6 steps an epoch."""
    return {
        "model": MODEL,
        "data": {
            "train": write(folder / "train.xyz", alloys(n_frames, seed=1)),
            "valid": write(folder / "valid.xyz", alloys(4, seed=2)),
        },
        "training": {
            "epochs": 3,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "device": "cpu",
            "threads": 1,
            "checkpoint_steps": 4,
            **training,
        },
        "output": str(folder / "run"),
    }
