"""What the demo measures: temperature, energy drift, and the O-O pair distribution."""

import pathlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from ase.io import read


if TYPE_CHECKING:
    from .run import ThermoRow

BIN_WIDTH = 0.08  # Å
EQUILIBRATION = 0.25  # of the frames, left out of g(r)


class Analysis(NamedTuple):
    """Averages of a run.

    Attributes:
        n_atoms: in a frame.
        temperature: mean over the NVE part [K].
        temperature_spread: its standard deviation [K].
        drift: slope of the total energy in the NVE part [meV/atom/ps].
        fluctuation: standard deviation around that slope [meV/atom].
        nve_time: length of the NVE part [ps].
        radii: [n_bins] Å.
        g_oo: [n_bins] O-O pair distribution.
        peak_position: of the largest value of g_oo [Å].
        peak_height: that value.
    """

    n_atoms: int
    temperature: float
    temperature_spread: float
    drift: float
    fluctuation: float
    nve_time: float
    radii: np.ndarray
    g_oo: np.ndarray
    peak_position: float
    peak_height: float


def analyse(rows: "list[ThermoRow]", trajectory: pathlib.Path, n_nvt: int) -> Analysis:
    """Average thermo output and trajectory.

    Args:
        rows: thermo output.
        trajectory: extended XYZ file.
        n_nvt: step at which the thermostat was switched off.

    Raises:
        ValueError: fewer than three thermo rows after ``n_nvt``.
    """
    nve = [row for row in rows if row.step >= n_nvt]
    if len(nve) < 3:
        raise ValueError(
            f"need at least 3 thermo rows after step {n_nvt} to measure the drift, got "
            f"{len(nve)}; run more NVE steps"
        )
    frames = read(trajectory, ":", format="extxyz")
    n_atoms = len(frames[0])
    time = np.array([row.time for row in nve])
    energy = np.array([row.total_energy for row in nve]) / n_atoms * 1e3
    temperature = np.array([row.temperature for row in nve])
    slope, offset = np.polyfit(time - time[0], energy, 1)
    residual = energy - slope * (time - time[0]) - offset
    radii, g_oo = pair_distribution(frames[int(EQUILIBRATION * len(frames)) :])
    peak = int(np.argmax(g_oo))
    return Analysis(
        n_atoms,
        float(temperature.mean()),
        float(temperature.std()),
        float(slope),
        float(residual.std()),
        float(time[-1] - time[0]),
        radii,
        g_oo,
        float(radii[peak]),
        float(g_oo[peak]),
    )


def pair_distribution(frames: list) -> tuple[np.ndarray, np.ndarray]:
    """g(r) of oxygen in orthorhombic cells, up to half the shortest edge.

    Returns:
        Radii [n_bins] Å and g [n_bins].
    """
    largest = min(frame.cell.lengths().min() for frame in frames) / 2.0
    edges = np.arange(0.0, largest, BIN_WIDTH)
    counts = np.zeros(len(edges) - 1)
    ideal = np.zeros_like(counts)
    shells = 4.0 / 3.0 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3)
    for frame in frames:
        lengths = frame.cell.lengths()
        oxygen = frame.positions[frame.numbers == 8]
        delta = oxygen[:, None] - oxygen[None, :]
        delta -= lengths * np.round(delta / lengths)
        distances = np.linalg.norm(delta, axis=-1)
        distances = distances[np.triu_indices(len(oxygen), k=1)]
        counts += np.histogram(distances, bins=edges)[0]
        n_pairs = len(oxygen) * (len(oxygen) - 1) / 2
        ideal += n_pairs * shells / frame.get_volume()
    return 0.5 * (edges[1:] + edges[:-1]), counts / ideal


def plot(
    rows: "list[ThermoRow]", analysis: Analysis, n_nvt: int, path: pathlib.Path
) -> None:
    """Write a PNG with g_OO(r), temperature and total energy."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    time = np.array([row.time for row in rows])
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), constrained_layout=True)
    axes[0].plot(analysis.radii, analysis.g_oo, color="tab:blue")
    axes[0].axhline(1.0, color="0.7", linewidth=0.8)
    axes[0].set(xlabel="r (Å)", ylabel="g_OO(r)", title="O-O pair distribution")
    axes[1].plot(time, [row.temperature for row in rows], color="tab:red")
    axes[1].set(xlabel="time (ps)", ylabel="T (K)", title="temperature")
    nve = [row for row in rows if row.step >= n_nvt]
    reference = nve[0].total_energy
    scale = 1e3 / analysis.n_atoms
    axes[2].plot(
        [row.time for row in nve],
        [(row.total_energy - reference) * scale for row in nve],
        color="tab:green",
    )
    axes[2].set(
        xlabel="time (ps)",
        ylabel="ΔE (meV/atom)",
        title=f"NVE energy, drift {analysis.drift:+.3f} meV/atom/ps",
    )
    axes[1].axvline(nve[0].time, color="0.7", linestyle="--", linewidth=0.8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
