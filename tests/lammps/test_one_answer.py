"""One rank of LAMMPS gives the engine's numbers, in every kind of box."""

import pytest
from lammps_tools import (
    CASES,
    assert_same,
    output_lines,
    read_output,
    reference,
    run_lammps,
    setup_lines,
    write_data,
)


pytestmark = pytest.mark.lammps

# Relative to the largest entry: sums in another order in fp64, the network's own
# rounding in fp32.
TOLERANCE = {"fixed": 1e-10, "adaptive": 1e-10, "single": 1e-5}


@pytest.fixture(scope="module")
def outputs(models, tmp_path_factory):
    """All boxes with all models in one process: name -> folder of its output."""
    folder = tmp_path_factory.mktemp("one_rank")
    script = []
    for case, make_box in CASES.items():
        box = make_box()
        write_data(folder / f"{case}.data", box)
        for model, path in models.items():
            script += ["clear", setup_lines(box, f"{case}.data", path)]
            script.append(output_lines(f"{case}_{model}"))
    run_lammps("\n".join(script), folder)
    return folder


@pytest.mark.parametrize("model", TOLERANCE)
@pytest.mark.parametrize("case", CASES)
def test_lammps_equals_engine(outputs, models, case, model):
    found = read_output(outputs, f"{case}_{model}")
    box = CASES[case]()
    assert found["symbols"] == box.symbols
    assert_same(found, reference(models[model], box), TOLERANCE[model])


def test_units_real(models, tmp_path):
    box = CASES["triclinic"]()
    write_data(tmp_path / "box.data", box)
    script = setup_lines(box, "box.data", models["fixed"], units="real")
    run_lammps(script + output_lines("real"), tmp_path)
    found = read_output(tmp_path, "real", units="real")
    assert_same(found, reference(models["fixed"], box), 1e-10)
