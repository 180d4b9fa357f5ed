"""LAMMPS driven from Python, where it shares torch and the core with petmad."""

import subprocess
import sys
import textwrap

import pytest
from lammps_tools import program, setup_lines, water, write_data


pytestmark = pytest.mark.lammps


def run_python(text, folder):
    """Run a script in a fresh interpreter; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def script(models, tmp_path):
    """Path of an input that ends before its first run."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    path = tmp_path / "in.water"
    path.write_text(setup_lines(box, tmp_path / "box.data", models["fixed"]))
    return path


def test_instances_clear_unload_and_reload(script, tmp_path):
    """Energies survive everything LAMMPS can do to a plugin."""
    text = f"""
        from lammps import lammps
        from petmad.lammps import plugin_file

        quiet = ["-log", "none", "-screen", "none", "-nocite"]
        energies = []

        def evaluate(lmp):
            lmp.file({str(script)!r})
            lmp.command("run 0")
            energies.append(lmp.get_thermo("pe"))

        first, second = lammps(cmdargs=quiet), lammps(cmdargs=quiet)
        evaluate(first)
        evaluate(second)
        first.command("clear")
        evaluate(first)
        first.command("plugin unload pair petmad")
        first.command("clear")
        first.command(f"plugin load {{plugin_file()}}")
        evaluate(first)
        first.close()
        second.command("run 2")
        second.command("clear")
        evaluate(second)
        second.close()
        assert len(set(energies)) == 1 and len(energies) == 5, energies
        print("same")
        """
    assert run_python(text, tmp_path).strip().endswith("same")


def test_shares_the_core_with_the_calculator(script, models, tmp_path):
    """Both orders of loading, one copy of the op library, the same energy."""
    text = f"""
        import sys
        from petmad import PETMADCalculator
        from lammps import lammps

        before = PETMADCalculator({str(models["fixed"])!r})
        lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
        lmp.file({str(script)!r})
        lmp.command("run 0")
        from ase.io import read
        atoms = read("box.data", format="lammps-data", atom_style="atomic")
        after = PETMADCalculator({str(models["fixed"])!r})
        for calculator in (before, after):
            atoms.calc = calculator
            energy = atoms.get_potential_energy()
            assert abs(energy - lmp.get_thermo("pe")) < 1e-10 * abs(energy)
        maps = open("/proc/self/maps").read()
        words = {{line.split()[-1] for line in maps.splitlines()}}
        files = {{word for word in words if "petmad_core" in word}}
        assert len(files) == 1, files
        """
    run_python(text, tmp_path)


def test_starting_lammps_loads_no_torch(tmp_path):
    """Who runs LAMMPS for something else pays nothing."""
    text = """
        import sys
        from lammps import lammps

        lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
        assert lmp.has_style("pair", "petmad")
        maps = open("/proc/self/maps").read()
        assert "petmadplugin.so" in maps
        assert "libtorch" not in maps
        assert "torch" not in sys.modules
        """
    run_python(text, tmp_path)


def test_environment_for_another_lammps(tmp_path, monkeypatch):
    from petmad.lammps import lammps_environment, plugin_file, plugin_path

    folder = str(plugin_file().parent)
    assert plugin_path() == folder
    environment = lammps_environment({"LAMMPS_PLUGIN_PATH": f"/elsewhere:{folder}"})
    assert environment["LAMMPS_PLUGIN_PATH"] == f"{folder}:/elsewhere"
    assert lammps_environment({})["LAMMPS_PLUGIN_PATH"] == folder
    assert program("lmp").exists()
    monkeypatch.setattr("petmad.lammps.plugin_path", lambda: str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"built without its LAMMPS plugin: there is no"
    ):
        plugin_file()
