"""The example inputs of the plugin run, with few steps and a small model."""

import pathlib
import shutil

import pytest
from lammps_tools import run_lammps


pytestmark = pytest.mark.lammps

EXAMPLES = pathlib.Path(__file__).parents[2] / "lammps_plugin" / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("in.*")), ids=lambda p: p.name)
def test_example_runs(models, tmp_path, path):
    shutil.copy(EXAMPLES / "water.data", tmp_path)
    script = path.read_text().replace("100 200", "3 6")  # minimize
    arguments = ["-var", "model", str(models["single"]), "-var", "steps", "3"]
    text = run_lammps(script, tmp_path, arguments=arguments).stdout
    assert "pair_style petmad: model 'single'" in text
    assert "edges per atom" in text
    assert "nan" not in text
