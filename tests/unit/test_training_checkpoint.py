"""Checkpoints: what comes back is the same model; other files are refused clearly."""

import errno
import pathlib
import tempfile

import pytest
import torch
from toy_data import MODEL, alloys
from toy_data import options as toy_options

from petmad.data import collate, make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.loss import predict
from petmad.training.options import parse_options
from petmad.training.trainer import train


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("zbl", [False, True])
def test_model_survives(tmp_path, dtype, zbl):
    torch.manual_seed(0)
    config = PETConfig(**MODEL, zbl=zbl)
    model = checkpoint.make_potential(config, [29, 79], [TargetSpec()], dtype)
    model.scales[0].data.fill_(0.3)
    model.compositions[0].data.copy_(torch.tensor([[1.0], [2.0]]))
    checkpoint.save(tmp_path / "a.ckpt", model, {"seed": 3})
    loaded, provenance = checkpoint.load_potential(tmp_path / "a.ckpt")
    assert provenance == {"seed": 3}
    assert loaded.atomic_numbers == [29, 79]
    assert loaded.config.to_dict() == config.to_dict()
    structure = to_structure(alloys(1)[0], "toy", LabelKeys())
    graph = collate([make_sample(structure, [29, 79], config.cutoff)]).graph
    for a, b in zip(predict(model, graph), predict(loaded, graph), strict=True):
        assert torch.equal(a, b)


def test_missing():
    with pytest.raises(ValueError, match=r"no such checkpoint: nowhere.ckpt"):
        checkpoint.read("nowhere.ckpt")


def test_truncated(tmp_path):
    model = checkpoint.make_potential(
        PETConfig(**MODEL), [29, 79], [TargetSpec()], "float32"
    )
    path = tmp_path / "a.ckpt"
    checkpoint.save(path, model, {})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        ValueError, match=r"damaged, cut short or of another kind .*: give best\.ckpt"
    ):
        checkpoint.read(path)


def test_of_another_program(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="is not a checkpoint of petmad"):
        checkpoint.read(tmp_path / "a.ckpt")


def test_newer_format(tmp_path):
    torch.save({"petmad": {"format_version": 99}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"format 99, newer than 1.*upgrade petmad"):
        checkpoint.read(tmp_path / "a.ckpt")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path, monkeypatch, name):
    """The second writing of a file stops halfway; none passes through TMPDIR."""
    values = toy_options(tmp_path, checkpoint_steps=100)
    folder = pathlib.Path(values["output"])
    save, written = torch.save, []

    def save_half(content, file):
        save(content, file)
        if pathlib.Path(file).name.endswith(name):
            written.append(pathlib.Path(file).read_bytes())
        if len(written) == 2:
            pathlib.Path(file).write_bytes(written[1][:1000])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save_half)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(OSError, match="No space left"):
        train(parse_options(values))
    assert (folder / name).read_bytes() == written[0]
    assert not list(folder.glob(".part*"))
