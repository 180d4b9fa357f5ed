"""Spectra of signals whose spectra are known, and fluctuations of known size."""

import pathlib
import runpy

import numpy as np
import pytest

from petmad.spectra import dielectric_constant, infrared, read_series


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


def write_series(path, dipoles, every):
    """As LAMMPS writes it: two comments, then rows."""
    steps = every * np.arange(len(dipoles))
    rest = np.tile([TEMPERATURE, VOLUME], (len(dipoles), 1))
    rows = np.column_stack([steps, dipoles, rest])
    np.savetxt(path, rows, header="Time-averaged data\nTimeStep c_dipole[1] ...")
    return path


def test_series_are_read(tmp_path):
    dipoles = line(1000.0, n_samples=50)
    series = read_series(write_series(tmp_path / "a.txt", dipoles, 4), 0.5)
    np.testing.assert_allclose(series.dipoles, dipoles)
    assert series[1:] == pytest.approx((2.0, TEMPERATURE, VOLUME))


def test_series_that_are_none(tmp_path):
    path = tmp_path / "a.txt"
    np.savetxt(path, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"got shape \[4, 3\]; write it as examples/"):
        read_series(path, 0.5)
    rows = np.loadtxt(write_series(path, np.zeros((9, 3)), 4))
    np.savetxt(path, np.delete(rows, 3, axis=0))
    with pytest.raises(ValueError, match=r"equally spaced \(from 4 to 8\); give one"):
        read_series(path, 0.5)
    rows[4, 2] = np.nan
    np.savetxt(path, rows)
    message = rf"{path} has numbers that are not finite, first in row 5, of step 16;"
    with pytest.raises(ValueError, match=message):
        read_series(path, 0.5)
    path.write_text(path.read_text()[:-30])
    with pytest.raises(ValueError, match=rf"{path} cannot be read as rows .* last li"):
        read_series(path, 0.5)
    for timestep in (0.0, -0.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"`timestep` must be .*, got {timestep}"):
            read_series(path, timestep)


SCRIPTS = pathlib.Path(__file__).parents[2] / "examples" / "tensors"


def run_script(name, monkeypatch, capsys, *arguments):
    """What a script of the examples prints."""
    monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
    runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    return capsys.readouterr().out


def test_infrared_script_finds_both_bands(tmp_path, monkeypatch, capsys):
    signal = line(1640.0, 6000, 2.0) + line(3420.0, 6000, 2.0)
    path = write_series(tmp_path / "dipole.txt", signal, 4)
    picture, table = tmp_path / "infrared.png", tmp_path / "infrared.txt"
    options = ("--output", picture, "--table", table)
    printed = run_script("infrared.py", monkeypatch, capsys, path, *options)
    assert "12.0 ps, every 2 fs, 300.0 K, 1920.0 Å³" in printed
    found = {
        words[-3]: words[-2] for words in map(str.split, printed.splitlines()[1:3])
    }
    assert float(found["bend"]) == pytest.approx(1640, abs=11)
    assert float(found["stretch"]) == pytest.approx(3420, abs=11)
    assert picture.stat().st_size > 10_000
    wavenumbers, absorption = np.loadtxt(table).T
    low = wavenumbers < 2500
    assert wavenumbers[low][absorption[low].argmax()] == pytest.approx(1640, abs=11)


def test_dielectric_script_prints_value_and_error(tmp_path, monkeypatch, capsys):
    dipoles = fluctuating(0.9, 5000, 10.0, 3)
    path = write_series(tmp_path / "dipole.txt", dipoles, 4)
    picture = tmp_path / "dielectric.png"
    options = ("--output", picture)
    printed = run_script("dielectric.py", monkeypatch, capsys, path, *options)
    expected = dielectric_constant(dipoles, VOLUME, TEMPERATURE, 1.78)
    numbers = f"{expected.value:.1f} ± {expected.error:.1f} (5 blocks of 2.0 ps)"
    assert f"dielectric constant {numbers}" in printed
    assert picture.stat().st_size > 10_000
