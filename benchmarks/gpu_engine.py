"""A step as LAMMPS asks the engine for it: images as ghosts, a list with a skin."""

import contextlib
import pathlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gpu_systems import System

from petmad._engine import Engine
from petmad.export import export_model
from petmad.model import Potential


SKIN = 2.0  # Å, as LAMMPS's default in metal units


class Images:
    """A system as the only domain, with every image within reach as a ghost."""

    def __init__(self, system: System, reach: float) -> None:
        lengths = np.diag(system.cell)
        assert np.allclose(system.cell, np.diag(lengths)), "boxes are rectangular here"
        wrapped = system.positions % lengths
        n_images = np.ceil(reach / lengths).astype(int)
        positions, owners = [wrapped], [np.zeros(0, dtype=np.int64)]
        for shift in np.ndindex(*(2 * n_images + 1)):
            if not np.any(np.array(shift) - n_images):
                continue
            moved = wrapped + (np.array(shift) - n_images) * lengths
            is_near = ((moved >= -reach) & (moved <= lengths + reach)).all(axis=1)
            positions.append(moved[is_near])
            owners.append(np.flatnonzero(is_near))
        self.n_owned = len(wrapped)
        self.positions = np.concatenate(positions)
        self.owners = np.concatenate(owners).astype(np.int32)
        of_all = np.concatenate([np.arange(self.n_owned), self.owners])
        self.species = system.species[of_all].astype(np.int32)

    def evaluate(self, engine: Engine, atoms_changed: bool) -> dict[str, Any]:
        """One step of the engine."""
        return engine.evaluate_domain(
            self.positions,
            self.species,
            self.n_owned,
            np.zeros(len(self.owners), dtype=np.int32),
            self.owners,
            atoms_changed=atoms_changed,
            skin=SKIN,
        )

    def forces(self, result: dict[str, Any]) -> np.ndarray:
        """[n_owned, 3] eV/Å, those of ghosts sent home."""
        forces = result["forces"][: self.n_owned].copy()
        np.add.at(forces, self.owners, result["forces"][self.n_owned :])
        return forces


@contextlib.contextmanager
def real_operators() -> Iterator[None]:
    """TorchScript does not know the emulated ones."""
    chosen = torch.ops.petmad
    torch.ops.petmad = getattr(chosen, "others", chosen)
    try:
        yield
    finally:
        torch.ops.petmad = chosen


def new_engine(
    plain: Potential, device: str, precision: str, memory: str = "auto"
) -> Engine:
    """Of the exported model, which tests itself on the device."""
    with tempfile.TemporaryDirectory() as folder, real_operators():
        path = pathlib.Path(folder) / "model.pt"
        export_model(plain, path, dtype="float32")
        name = "emulated" if device == "cpu" else device
        return Engine(str(path), name, precision=precision, memory=memory)


def measure_engine(engine: Engine, system: System, n_rounds: int) -> dict[str, Any]:
    """Medians [ms] of steps, of a list; the last step's forces [n_atoms, 3]."""
    images = Images(system, engine.info.cutoff + SKIN)
    images.evaluate(engine, True)
    result = images.evaluate(engine, False)
    forces = images.forces(result)
    rounds = {}
    for name, atoms_changed, n in (("step", False, n_rounds), ("list", True, 3)):
        times, outside = [], []
        for _ in range(n):
            before = seconds_outside(engine)
            start = time.perf_counter()
            images.evaluate(engine, atoms_changed)
            times.append(time.perf_counter() - start)
            outside.append(seconds_outside(engine) - before)
        rounds[name] = statistics.median(times), statistics.median(outside)
    step, outside = rounds["step"]
    return {
        "engine_ms": 1e3 * step,
        "engine_outside_share": outside / step,
        "engine_list_ms": 1e3 * (rounds["list"][0] - step),
        "engine_tier": engine.memory_plan.tier,
        "forces": forces,
    }


def seconds_outside(engine: Engine) -> float:
    """Of the lists and folds so far."""
    found = engine.statistics
    return found.seconds_list + found.seconds_fold
