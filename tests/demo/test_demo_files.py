"""What the demo does to files that are in its folder already."""

import pathlib
import shutil

import pytest
import torch

from petmad.demo import run
from petmad.demo.run import FOLDER, INPUTS, DemoOptions, prepare
from petmad.export import export_model
from petmad.model import PETConfig, Potential


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another model of water."""
    path = tmp_path_factory.mktemp("model") / "other.pt"
    torch.manual_seed(0)
    hypers = {"d_pet": 16, "d_node": 16, "d_head": 16, "d_feedforward": 16}
    config = PETConfig.from_dict({**hypers, "num_heads": 2})
    export_model(Potential(config, [1, 8]), path)
    return path


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_inputs_of_the_user_are_kept(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "demo"
    assert prepare(DemoOptions(folder)) == []
    assert contents(folder) == {name: (FOLDER / name).read_bytes() for name in INPUTS}
    (folder / "in.water").write_text("run 5\n")
    monkeypatch.setattr(run, "lammps_command", lambda options: ["false"])
    with pytest.raises(RuntimeError, match="LAMMPS ended with status 1"):
        run.run_demo(DemoOptions(folder))
    assert f"kept     {folder}/in.water, which is not" in capsys.readouterr().out
    assert (folder / "in.water").read_text() == "run 5\n"
    monkeypatch.setattr(run, "lammps_command", lambda options: ["true"])
    with pytest.raises(RuntimeError, match="no thermo output of Step, Time"):
        run.run_demo(DemoOptions(folder))


def test_a_model_of_the_user_is_kept(tmp_path, other):
    folder = tmp_path / "demo"
    place = folder / "water.pt"
    assert prepare(DemoOptions(folder, model=other)) == []
    assert place.read_bytes() == other.read_bytes()
    assert prepare(DemoOptions(folder, model=place)) == []
    assert prepare(DemoOptions(folder, model=other)) == []
    assert prepare(DemoOptions(folder)) == ["water.pt"]
    assert place.read_bytes() == other.read_bytes()
    with pytest.raises(
        ValueError, match=r"water\.pt is another model than .*--output`"
    ):
        prepare(DemoOptions(folder, model=FOLDER / "water.pt"))
    assert place.read_bytes() == other.read_bytes()
    place.unlink()
    assert prepare(DemoOptions(folder)) == []
    assert prepare(DemoOptions(folder, model=other)) == []  # over the demo's own
    assert place.read_bytes() == other.read_bytes()


def test_the_model_is_looked_at_before_anything_is_written(tmp_path):
    folder = tmp_path / "demo"
    with pytest.raises(FileNotFoundError, match="no model file at"):
        prepare(DemoOptions(folder, model=tmp_path / "none.pt"))
    config = PETConfig.from_dict({"d_pet": 16, "d_node": 16, "num_heads": 2})
    export_model(Potential(config, [8, 14]), tmp_path / "glass.pt")
    with pytest.raises(ValueError, match=r"glass\.pt does not know H, and the demo"):
        prepare(DemoOptions(folder, model=tmp_path / "glass.pt"))
    shutil.copy(FOLDER / "in.water", tmp_path / "text.pt")
    with pytest.raises(ValueError, match="is not a readable model file"):
        prepare(DemoOptions(folder, model=tmp_path / "text.pt"))
    assert not folder.exists()
