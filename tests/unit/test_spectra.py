"""Spectra of signals whose spectra are known, and fluctuations of known size."""

import numpy as np
import pytest

from petmad.spectra import dielectric_constant, infrared


VOLUME, TEMPERATURE = 1920.0, 300.0  # Å³, K
# SI
CHARGE, LIGHT, VACUUM, BOLTZMANN = (
    1.602176634e-19,
    2.99792458e8,
    8.8541878128e-12,
    1.380649e-23,
)


def line(wavenumber, n_samples=20000, interval=1.0, amplitude=0.7, offset=5.0):
    """A dipole that oscillates along (1, 2, 2)/3 around an offset; e·Å."""
    times = interval * np.arange(n_samples)
    omega = 2 * np.pi * wavenumber * LIGHT * 1e2 * 1e-15  # per fs
    signal = amplitude * np.cos(omega * times + 0.4)
    return offset + signal[:, None] * np.array([1, 2, 2]) / 3


@pytest.mark.parametrize("interval", [0.5, 2.0])
@pytest.mark.parametrize("wavenumber", [205.0, 1640.0, 3433.0])
def test_a_line_lies_where_it_was_put_with_its_area(wavenumber, interval):
    """The integral over ω is ω0² A² π / (12 V ε0 kB T c), here in SI."""
    signal = line(wavenumber, interval=interval)
    spectrum = infrared(signal, interval, VOLUME, TEMPERATURE)
    assert spectrum.peak(100, 4000) == pytest.approx(wavenumber, abs=5.1)
    omega = 2 * np.pi * 1e2 * LIGHT * wavenumber
    moment = 0.7 * CHARGE * 1e-10
    denominator = 12 * VOLUME * 1e-30 * VACUUM * BOLTZMANN * TEMPERATURE * LIGHT
    expected = omega**2 * moment**2 * np.pi / denominator  # rad/s/m
    step = 2 * np.pi * 1e2 * LIGHT * np.diff(spectrum.wavenumbers)[0]
    area = spectrum.absorption.sum() * 1e2 * step
    assert area == pytest.approx(expected, rel=0.01)


def test_two_lines_are_told_apart_on_a_large_slow_motion():
    slow = line(3.0, amplitude=30.0)
    spectrum = infrared(
        slow + line(1600, amplitude=0.1) + line(3400, amplitude=0.1), 1.0, 1e3, 300.0
    )
    assert spectrum.peak(1550, 1750) == pytest.approx(1600, abs=6)
    assert spectrum.peak(3300, 3700) == pytest.approx(3400, abs=6)
    between = (spectrum.wavenumbers > 2000) & (spectrum.wavenumbers < 3000)
    assert spectrum.absorption[between].max() < 1e-3 * spectrum.absorption.max()


def test_resolution_is_the_spacing():
    for resolution in (10.0, 50.0):
        wavenumbers = infrared(line(1500), 1.0, 1.0, 1.0, resolution).wavenumbers
        assert np.diff(wavenumbers) == pytest.approx(resolution, rel=0.01)


def fluctuating(deviation, n_samples, correlation, seed):
    """A Gaussian process of each component with an exponential correlation."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-1 / correlation)
    noise = deviation * np.sqrt(1 - decay**2) * rng.normal(size=(n_samples, 3))
    values = np.empty((n_samples, 3))
    values[0] = deviation * rng.normal(size=3)
    for k in range(1, n_samples):
        values[k] = decay * values[k - 1] + noise[k]
    return values


def test_dielectric_constant_of_known_fluctuations():
    """And its error against the analytic one and the scatter of 40 runs.

    Squares forget in half the correlation time, so that the variance of a mean over N
    samples of a sum of three is 3 · 2 σ⁴ · τ / N.
    """
    n_samples, correlation, deviation = 4000, 10.0, 0.9
    found = [
        dielectric_constant(
            4.0 + fluctuating(deviation, n_samples, correlation, seed),
            VOLUME,
            TEMPERATURE,
            electronic=1.8,
            n_blocks=10,
        )
        for seed in range(40)
    ]
    moment = (deviation * CHARGE * 1e-10) ** 2
    factor = VOLUME * 1e-30 * VACUUM * BOLTZMANN * TEMPERATURE
    expected = 1.8 + moment / factor
    scatter = np.sqrt(6 * correlation / n_samples) * moment / (3 * factor)
    values = np.array([result.value for result in found])
    assert abs(values.mean() - expected) < 3 * scatter / np.sqrt(len(found))
    assert values.std() == pytest.approx(scatter, rel=0.35)
    errors = np.array([result.error for result in found])
    assert np.sqrt((errors**2).mean()) == pytest.approx(scatter, rel=0.2)


def test_messages():
    good = np.zeros((100, 3))
    with pytest.raises(ValueError, match=r"of shape \[n_samples, 3\], got shape \[5\]"):
        infrared(np.zeros(5), 1.0, 1.0, 1.0)
    with pytest.raises(
        ValueError, match=r"must be positive, got -1\.0 Å³ and 300\.0 K"
    ):
        dielectric_constant(good, -1.0, 300.0)
    with pytest.raises(ValueError, match="must be positive, got 0 fs and 10"):
        infrared(good, 0, 1.0, 1.0)
    message = "10 cm⁻¹ needs segments of 3336 steps of 1 fs, but there are 99; run"
    with pytest.raises(ValueError, match=message):
        infrared(good, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least 2, with 2 samples in each, got 60"):
        dielectric_constant(good, 1.0, 1.0, n_blocks=60)
    spectrum = infrared(line(1000, interval=4.0), 4.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"between 5000 and 6000 cm⁻¹; it ends at 41"):
        spectrum.peak(5000, 6000)
