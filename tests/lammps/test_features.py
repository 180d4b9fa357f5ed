"""What people do with a pair style in LAMMPS, each checked by a fresh evaluation."""

import re

import numpy as np
import pytest
from lammps_tools import (
    ELEMENTS,
    Box,
    assert_same,
    hybrid_script,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    triclinic,
    water,
    write_data,
)
from variants import make_potential

from petmad.export import export_model


pytestmark = pytest.mark.lammps

TOLERANCE = 1e-10
START = "velocity all create 300 77 loop geom\ntimestep 0.0005\n"
CELL = """
print "$(lx:%.17g) $(ly:%.17g) $(lz:%.17g) $(xy:%.17g) $(xz:%.17g) $(yz:%.17g)" &
file cell.txt
"""


def run_and_compare(model, box, steps, folder, n_steps=0, has_cell=False):
    """Run ``steps`` and an output run, whose numbers must fit its positions."""
    write_data(folder / "box.data", box)
    script = setup_lines(box, "box.data", model) + steps + output_lines("out", n_steps)
    done = run_lammps(script + (CELL if has_cell else ""), folder)
    found = read_output(folder, "out")
    cell = read_cell(folder / "cell.txt") if has_cell else box.cell
    now = Box(found["symbols"], found["positions"], cell, box.boundary)
    assert_same(found, reference(model, now), TOLERANCE)
    return done.stdout, now


def read_cell(path):
    lx, ly, lz, xy, xz, yz = map(float, path.read_text().split())
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])


def test_npt_box_relax_and_minimize(models, tmp_path):
    steps = (
        START
        + """
fix move all npt temp 300 300 0.05 aniso 0 0 0.1
run 20
unfix move
fix relax all box/relax iso 0.0 vmax 0.001
minimize 0 0 5 20
unfix relax
minimize 0 0 5 20
"""
    )
    box = water((2, 2, 2))
    _, now = run_and_compare(models["adaptive"], box, steps, tmp_path, has_cell=True)
    assert np.abs(now.cell - box.cell).max() > 1e-3


def test_box_relax_triclinic(models, tmp_path):
    steps = (
        "fix relax all box/relax tri 0.0 vmax 0.001\nminimize 0 0 4 12\nunfix relax\n"
    )
    box = triclinic()
    _, now = run_and_compare(models["fixed"], box, steps, tmp_path, has_cell=True)
    assert np.abs(now.cell - box.cell).max() > 1e-5


def test_several_runs_sorting_and_no_setup(models, tmp_path):
    steps = (
        START
        + """
atom_modify sort 3 2.0
neighbor 1.5 bin
neigh_modify every 1 delay 0 check no
fix move all nve
run 5
run 0
neigh_modify every 5 delay 10 check yes
run 5 pre no post no
run 5
displace_atoms all random 0.05 0.05 0.05 99
"""
    )
    run_and_compare(models["adaptive"], water((2, 2, 2)), steps, tmp_path, n_steps=10)


def test_atoms_deleted_created_deposited(models, tmp_path):
    steps = (
        START
        + """
fix move all nve
run 2
delete_atoms random fraction 0.3 yes all NULL 482
run 2
create_atoms 3 single 0.4 0.5 0.6
region box block 0.1 6 0.1 6 0.1 6
fix rain all deposit 2 1 2 123 region box near 1.0
run 8
unfix rain
"""
    )
    box = water((2, 2, 2))
    _, now = run_and_compare(models["fixed"], box, steps, tmp_path)
    assert now.symbols.count("C") == 1
    assert now.symbols.count("O") != 8


def test_types_change_without_a_new_list(models, tmp_path):
    steps = "run 0\nset atom 1 type 3\nset atom 5 type 1\n"
    box = water((2, 2, 2))
    _, now = run_and_compare(models["fixed"], box, steps, tmp_path)
    assert now.symbols[0] == "C"
    assert now.symbols[4] == "O"


def test_swaps_of_species(models, tmp_path):
    """Types exchanged between list builds, the energy wanted at once."""
    steps = (
        START
        + """
fix move all nve
fix swap all atom/swap 1 4 29494 1e6 types 1 2
run 6
"""
    )
    run_and_compare(models["fixed"], water((2, 2, 2)), steps, tmp_path, n_steps=3)


@pytest.mark.parametrize("stays", [True, False])
def test_grand_canonical_deletions(models, tmp_path, stays):
    """A deletion is tried by excluding the atom; a second run meets that exclusion."""
    positions = np.array([[10.0, 10.0, 10.0], [11.2, 10.1, 9.9], [2.0, 2.0, 2.0]])
    cell = np.diag([20.0, 20.0, 20.0])
    model = models["fixed"]
    with_it, without = (
        reference(model, Box(list("OOC")[:n], positions[:n], cell))["energy"]
        for n in (3, 2)
    )
    # kT ln(V/λ³) is 0.33 eV: 0.6 below the cost all deletions succeed, at the cost none
    mu = with_it - without - (0.0 if stays else 0.6)
    steps = f"""
group gas type 3
fix gas gas gcmc 1 20 0 3 29494 300 {mu} 0.5 full_energy max 1 min 0
thermo_style custom step atoms pe f_gas[5] f_gas[6]
run 1
run 1
print "$(f_gas[5]) $(f_gas[6])" file deletions.txt
unfix gas
"""
    log, now = run_and_compare(
        model, Box(list("OOC"), positions, cell), steps, tmp_path
    )
    tried, done = map(float, (tmp_path / "deletions.txt").read_text().split())
    assert tried > 0
    assert done == (0 if stays else 1)
    assert now.symbols.count("C") == (1 if stays else 0)
    assert "excluded from `all` (neigh_modify, or a fix like gcmc) take no part" in log


def test_restart(models, tmp_path):
    box = water((2, 2, 2))
    model = models["fixed"]
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", model) + START + "fix move all nve\nrun 5\n"
    script += f"""
write_restart five.restart
clear
read_restart five.restart
pair_style petmad {model}
pair_coeff * * {" ".join(ELEMENTS)}
neighbor 0.7 bin
timestep 0.0005
fix move all nve
"""
    run_lammps(script + output_lines("out", 5), tmp_path)
    found = read_output(tmp_path, "out")
    expected = reference(model, box, positions=found["positions"])
    assert_same(found, expected, TOLERANCE)


def test_rerun(models, tmp_path):
    """A trajectory read back gives the energies of the run that wrote it."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    setup = setup_lines(box, "box.data", models["adaptive"])
    script = setup + START
    script += """
fix move all nve
thermo_style custom step pe
thermo_modify format float %.17g
thermo 5
dump d all custom 5 path.dump id type x y z
dump_modify d sort id format float %.17g
run 20
undump d
unfix move
rerun path.dump dump x y z
"""
    text = run_lammps(script, tmp_path).stdout
    rows = re.findall(r"^ +(\d+) +(-?\d+\.\d+)$", text, re.MULTILINE)
    energies = np.array([float(energy) for _, energy in rows]).reshape(2, 5)
    assert len(np.unique(energies[0])) == 5
    np.testing.assert_allclose(energies[1], energies[0], rtol=1e-12)


def test_hybrid_overlay_with_null(models, tmp_path):
    """Carbon is left to lj/cut; O and H are petmad's as if it were not there."""
    script, box = hybrid_script(tmp_path, models["fixed"])
    run_lammps(script, tmp_path)
    ours, rest, total = map(float, (tmp_path / "parts.txt").read_text().split())
    assert abs(rest) > 1e-3
    assert ours == pytest.approx(
        reference(models["fixed"], box)["energy"], rel=TOLERANCE
    )
    assert total == pytest.approx(ours + rest, rel=1e-14)


def test_respa(models, tmp_path):
    """One level of two holds the pair style."""
    steps = START + "fix move all nve\nrun_style respa 2 2 pair 2\nrun 4\n"
    run_and_compare(models["fixed"], water((2, 2, 2)), steps, tmp_path, n_steps=2)


def test_bonds_do_not_hide_neighbors(models, tmp_path):
    """With default special_bonds LAMMPS's own lists would drop bonded pairs."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    text = (tmp_path / "box.data").read_text()
    text = text.replace("atom types", "atom types\n1 bond types\n16 bonds")
    lines = text.replace("# atomic", "# molecular").splitlines()
    begin = lines.index("Atoms # molecular") + 2
    for i in range(begin, begin + 24):
        index, kind, *rest = lines[i].split()
        lines[i] = " ".join([index, str((int(index) + 2) // 3), kind, *rest])
    lines += ["", "Bonds", ""]
    for i in range(16):
        oxygen = 3 * (i // 2) + 1
        lines.append(f"{i + 1} 1 {oxygen} {oxygen + 1 + i % 2}")
    (tmp_path / "box.data").write_text("\n".join(lines) + "\n")
    script = setup_lines(box, "box.data", models["fixed"])
    script = script.replace(
        "atom_style atomic", "atom_style molecular\nbond_style zero"
    )
    script = script.replace("neighbor", "bond_coeff *\nneighbor", 1)
    text = run_lammps(script + output_lines("out"), tmp_path).stdout
    assert "special_bonds does not act on petmad" in text
    assert_same(
        read_output(tmp_path, "out"), reference(models["fixed"], box), TOLERANCE
    )


def test_threads_and_conditioned_options(models, tmp_path):
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    options = "threads 2 device cpu check no charge 1 spin 2"
    script = setup_lines(box, "box.data", models["fixed"], options=options)
    text = run_lammps(script + output_lines("out"), tmp_path).stdout
    assert "threads per rank: 2" in text
    assert "`charge` and `spin` have no effect" in text
    assert_same(
        read_output(tmp_path, "out"), reference(models["fixed"], box), TOLERANCE
    )


def test_elements_given_twice(models, tmp_path):
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["fixed"])
    replaced = "this `pair_coeff` replaces the elements of all types"
    text = run_lammps(script + "pair_coeff * * O H C\nrun 0\n", tmp_path).stdout
    assert replaced not in text
    text = run_lammps(script + "pair_coeff * * H O C\nrun 0\n", tmp_path).stdout
    assert replaced in text


def test_heat_flux_is_warned_of(models, tmp_path):
    """Once, after a first run, too, as is a mass that was changed."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = (
        setup_lines(box, "box.data", models["fixed"])
        + """
run 0
compute ke all ke/atom
compute pe all pe/atom
compute stress all centroid/stress/atom NULL virial
compute flux all heat/flux ke pe stress
thermo_style custom step c_flux[1]
run 0
mass 1 12.0
run 0
"""
    )
    text = run_lammps(script, tmp_path).stdout
    assert text.count("WARNING: pair_style petmad: compute heat/flux is not the") == 1
    assert text.count("WARNING: pair_style petmad: atom type 1 has mass 12, but O") == 1


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_compute_outlives_the_model_it_was_made_for(models, tmp_path, n_ranks):
    """LAMMPS reads as many numbers as there were: those that are not there are none."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    sure = tmp_path / "sure.pt"
    export_model(make_potential("llpr", cutoff=3.6), sure, dtype="float64")
    first = setup_lines(box, "box.data", sure, options="uncertainty yes")
    script = (
        first
        + f"""
compute parts all pair petmad
thermo_style custom step pe c_parts[1]
run 0
pair_style petmad {models["fixed"]}
pair_coeff * * O H C
run 0
"""
    )
    text = run_lammps(script, tmp_path, n_ranks=n_ranks).stdout
    tables = re.findall(r"Step +PotEng +c_parts\[1\] *\n +0 +(\S+) +(\S+)", text)
    assert float(tables[0][1]) > 0
    assert tables[1][1] in ("nan", "-nan")
    assert np.isfinite(float(tables[1][0]))


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_exclusions_between_runs_without_setup(models, tmp_path, n_ranks):
    """``run N pre no`` tells nobody that ``neigh_modify`` came in between."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    lines = setup_lines(box, "box.data", models["fixed"])
    lines += "thermo_style custom step pe\ngroup some id 1 2 3\nrun 0\n"
    energies = {}
    for name, rest in (
        ("pre no", "neigh_modify exclude group some all\nrun 1 pre no"),
        ("pre yes", "neigh_modify exclude group some all\nrun 1"),
    ):
        text = run_lammps(f"{lines}{rest}\n", tmp_path, n_ranks=n_ranks).stdout
        energies[name] = re.findall(r"\n +1 +(-?[\d.]+)", text)[-1]
        energies["before"] = re.findall(r"\n +0 +(-?[\d.]+)", text)[0]
    assert energies["pre no"] == energies["pre yes"] != energies["before"]
    forbidden = f"{lines}neigh_modify exclude group some some\nrun 1 pre no\n"
    found = run_lammps(forbidden, tmp_path, n_ranks=n_ranks, check=False)
    assert found.returncode != 0
    assert "cannot take pairs out of a many-body model" in found.stdout + found.stderr


@pytest.mark.parametrize("mode", ["exchange", "recompute"])
def test_another_skin_between_runs_without_setup(models, tmp_path, mode):
    """The list stays that of the skin it was built with until the next one."""
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    lines = setup_lines(box, "box.data", models["fixed"], options=f"mode {mode}")
    lines += "fix 1 all nve\nthermo_style custom step pe\nthermo 1\nrun 2\n"
    energies = {}
    for name, change in (("same", ""), ("other", "neighbor 0.2 bin\n")):
        script = f"{lines}{change}run 3 pre no\nrun 1\n"
        text = run_lammps(script, tmp_path).stdout
        energies[name] = re.findall(r"\n +\d+ +(-?[\d.]+)", text)
    assert len(energies["same"]) == 3 + 4 + 2
    assert energies["other"] == energies["same"]


def test_log_states_setup_and_totals(models, tmp_path):
    box = water((2, 2, 2))
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["adaptive"])
    script = script.replace("pair_coeff * * O H C", "pair_coeff * * H O C")
    text = run_lammps(script + "run 3\n", tmp_path).stdout
    for words in (
        "pair_style petmad: model 'adaptive', weights ",
        "precision: fp64 (file: float64), device: cpu, threads per rank: 1, kernels: ",
        "mode: images (one rank",
        "cutoff: 3.6 A (adaptive); reach: ",
        "ghosts: 4.3 A deep",
        "type  element  species  mass",
        "WARNING: pair_style petmad: atom type 1 has mass 15.999, but H weighs 1.008",
        "WARNING: pair_style petmad: atom type 2 has mass 1.008, but O weighs 15.999",
        "pair_style petmad: 4 evaluations, 1 list builds",
        "edges per atom:",
    ):
        assert words in text
    assert "type 3 has mass" not in text
