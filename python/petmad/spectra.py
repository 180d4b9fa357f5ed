"""Infrared spectra and dielectric constants from the dipole of a simulation cell.

Classical dynamics and linear response: both are correlations of the cell's dipole M(t),
as ``compute petmad/tensor`` writes it. Nothing here knows a model.
"""

import os
from typing import NamedTuple

import numpy as np


LIGHT_SPEED = 2.99792458e-5
"""cm/fs; a wavenumber is a frequency over it."""
BOLTZMANN = 8.617333262e-5
"""eV/K."""
VACUUM_PERMITTIVITY = 5.526349406e-3
"""e/(V·Å)."""


class Spectrum(NamedTuple):
    """An absorption spectrum.

    Attributes:
        wavenumbers: [n] cm⁻¹, ascending from 0, equally spaced.
        absorption: [n] absorption coefficient times refractive index [cm⁻¹].
    """

    wavenumbers: np.ndarray
    absorption: np.ndarray

    def peak(self, low: float, high: float) -> float:
        """Wavenumber of the largest absorption between two others [cm⁻¹].

        Raises:
            ValueError: there are no points between.
        """
        inside = np.flatnonzero((self.wavenumbers >= low) & (self.wavenumbers <= high))
        if len(inside) == 0:
            raise ValueError(
                f"no point of the spectrum lies between {low} and {high} cm⁻¹; it ends "
                f"at {self.wavenumbers[-1]:.0f}: sample the dipole more often, or for "
                "longer"
            )
        return float(self.wavenumbers[inside[np.argmax(self.absorption[inside])]])


class Series(NamedTuple):
    """The dipole of a cell along a run.

    Attributes:
        dipoles: [n_samples, 3] e·Å.
        interval: between samples [fs].
        temperature: mean over the samples [K].
        volume: mean over the samples [Å³].
    """

    dipoles: np.ndarray
    interval: float
    temperature: float
    volume: float


class DielectricConstant(NamedTuple):
    """Static dielectric constant with its statistical error.

    Attributes:
        value: relative to the vacuum.
        error: standard error of the mean over blocks.
    """

    value: float
    error: float


def read_series(path: str | os.PathLike, timestep: float) -> Series:
    """What ``fix ave/time`` wrote: step, dipole (3), temperature, volume.

    Args:
        path: the file.
        timestep: of the run [fs].

    Raises:
        ValueError: other columns, fewer than two rows, numbers that are not finite,
            steps that are not equally spaced, or a timestep that is not positive.
    """
    if not 0 < timestep < float("inf"):
        raise ValueError(
            f"`timestep` must be a positive number of fs, got {timestep}; give the one "
            "of the run"
        )
    try:
        rows = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as rows of numbers ({error}); if the run was cut "
            "off, remove its last line"
        ) from None
    if rows.shape[1] != 6 or len(rows) < 2:
        raise ValueError(
            f"{path} must have two or more rows of step, three components of the "
            f"dipole, temperature and volume, got shape {list(rows.shape)}; write it "
            "as examples/tensors/in.infrared does"
        )
    if not np.isfinite(rows).all():
        first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ValueError(
            f"{path} has numbers that are not finite, first in row {first + 1}, of "
            f"step {rows[first, 0]:g}; use what comes before, and look at the run"
        )
    steps = np.diff(rows[:, 0])
    if (steps != steps[0]).any() or steps[0] <= 0:
        raise ValueError(
            f"the steps of {path} are not equally spaced (from {steps.min():g} to "
            f"{steps.max():g}); give one uninterrupted run"
        )
    temperature, volume = rows[:, 4:].mean(axis=0)
    interval = float(steps[0] * timestep)
    return Series(rows[:, 1:4], interval, float(temperature), float(volume))


def infrared(
    dipoles: np.ndarray,
    interval: float,
    volume: float,
    temperature: float,
    resolution: float = 10.0,
) -> Spectrum:
    """Infrared absorption from the dipole along a trajectory.

    It is ω² S(ω) / (6 V ε0 kB T c), where S is the power spectrum of M: the
    Fourier transform of ⟨M(0)·M(t)⟩ over all t. ω² S is that of dM/dt, taken here from
    differences of neighboring samples, whose transfer function is divided out, in
    segments that overlap by half under a Hann window.

    Args:
        dipoles: [n_samples, 3] e·Å, of the whole cell; free of jumps.
        interval: between samples [fs]. Up to 2 fs for vibrations of hydrogen.
        volume: of the cell [Å³].
        temperature: mean of the run [K].
        resolution: spacing of points [cm⁻¹]; segments are 1/(resolution · c) long, for
            10 cm⁻¹ 3.3 ps. The window spreads a line over 1.5 points.

    Raises:
        ValueError: wrong shape, a quantity that is not positive, or fewer samples than
            one segment holds.
    """
    dipoles = _checked(dipoles, volume, temperature)
    if not (interval > 0 and resolution > 0):
        raise ValueError(
            f"`interval` and `resolution` must be positive, got {interval} fs and "
            f"{resolution} cm⁻¹"
        )
    n_segment = round(1.0 / (resolution * LIGHT_SPEED * interval))
    steps = np.diff(dipoles, axis=0)
    if not 4 <= n_segment <= len(steps):
        raise ValueError(
            f"a resolution of {resolution:g} cm⁻¹ needs segments of {n_segment} steps "
            f"of {interval:g} fs, but there are {len(steps)}; run longer, or choose "
            "`resolution` to fit"
        )
    power = _power_spectrum(steps / interval, n_segment) * interval
    omega = 2.0 * np.pi * np.fft.rfftfreq(n_segment, interval)
    power *= 1.0 / np.sinc(omega * interval / (2.0 * np.pi)) ** 2
    factor = 6.0 * volume * VACUUM_PERMITTIVITY * BOLTZMANN * temperature * LIGHT_SPEED
    return Spectrum(omega / (2.0 * np.pi * LIGHT_SPEED), power / factor)


def dielectric_constant(
    dipoles: np.ndarray,
    volume: float,
    temperature: float,
    electronic: float = 1.0,
    n_blocks: int = 5,
) -> DielectricConstant:
    """Static dielectric constant from the fluctuations of the dipole.

    ε = ε∞ + (⟨M²⟩ - ⟨M⟩²) / (3 V ε0 kB T), with metallic boundary conditions at
    infinity, which is what periodic cells without a surface term have.

    Args:
        dipoles: [n_samples, 3] e·Å, of the whole cell; free of jumps.
        volume: of the cell [Å³].
        temperature: mean of the run [K].
        electronic: ε∞, of clamped nuclei: 1.78 for water, by its refractive index
            measured in visible light.
        n_blocks: blocks of the trajectory that are taken for independent. They must be
            much longer than the dipole's correlation time, 10 ps and more in water;
            otherwise the error is too small, and so is ε.

    Raises:
        ValueError: wrong shape, a quantity that is not positive, or fewer samples than
            two per block.
    """
    dipoles = _checked(dipoles, volume, temperature)
    if n_blocks < 2 or len(dipoles) < 2 * n_blocks:
        raise ValueError(
            f"`n_blocks` must be at least 2, with 2 samples in each, got {n_blocks} "
            f"blocks for {len(dipoles)} samples"
        )
    squared = ((dipoles - dipoles.mean(axis=0)) ** 2).sum(axis=1)
    factor = 3.0 * volume * VACUUM_PERMITTIVITY * BOLTZMANN * temperature
    means = [block.mean() for block in np.array_split(squared, n_blocks)]
    error = np.std(means, ddof=1) / np.sqrt(n_blocks) / factor
    return DielectricConstant(float(electronic + squared.mean() / factor), float(error))


def _power_spectrum(values: np.ndarray, n_segment: int) -> np.ndarray:
    """Two-sided, summed over columns, mean of Hann segments; per unit of the interval.

    A constant is left in: the mean of dM/dt is the absorption at ω = 0.
    """
    window = np.hanning(n_segment + 1)[:-1]
    starts = range(0, len(values) - n_segment + 1, max(n_segment // 2, 1))
    total = np.zeros(n_segment // 2 + 1)
    for start in starts:
        segment = values[start : start + n_segment] * window[:, None]
        total += (np.abs(np.fft.rfft(segment, axis=0)) ** 2).sum(axis=1)
    return total / (len(starts) * (window**2).sum())


def _checked(dipoles: np.ndarray, volume: float, temperature: float) -> np.ndarray:
    dipoles = np.asarray(dipoles, dtype=np.float64)
    if dipoles.ndim != 2 or dipoles.shape[1] != 3 or not np.isfinite(dipoles).all():
        raise ValueError(
            "`dipoles` must be finite numbers of shape [n_samples, 3], got shape "
            f"{list(dipoles.shape)}; pass one row per sample"
        )
    if not (volume > 0 and temperature > 0):
        raise ValueError(
            f"`volume` and `temperature` must be positive, got {volume} Å³ and "
            f"{temperature} K"
        )
    return dipoles
