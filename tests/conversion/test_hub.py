"""Published names, with a hub that is played here: nothing is downloaded."""

import sys
import types

import pytest
from test_versions import make_model
from upstream_files import newest, save
from variants import TINY

from petmad.cli import main
from petmad.conversion import hub
from petmad.training.checkpoint import load_potential


COMMIT = "0123456789abcdef"


@pytest.fixture
def played(monkeypatch, tmp_path):
    """A hub with one file, in a working directory that has none; and its calls."""
    file = tmp_path / "cache" / "blob.ckpt"
    file.parent.mkdir()
    save(newest(make_model(TINY)), file)
    calls = []

    class HfApi:
        def model_info(self, repository, revision=None):
            calls.append((repository, revision))
            return types.SimpleNamespace(sha=COMMIT)

    def hf_hub_download(repository, name, revision):
        calls.append((repository, name, revision))
        if name != "models/pet-mad-s-v1.5.0.ckpt":
            raise FileNotFoundError(f"404 for {name}\nand a long trace")
        return str(file)

    module = types.ModuleType("huggingface_hub")
    module.HfApi, module.hf_hub_download = HfApi, hf_hub_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return calls


def test_names():
    for name in ("pet-mad-s@1.5.0", "pet-omat-xl@v1.0.0", "pet-mad@1.6.0"):
        assert hub.is_name(name)
    for name in ("pet-mad-s-v1.5.0.ckpt", "pet-mad-s", "pet-mad-s@1", "a/b@1.0.0"):
        assert not hub.is_name(name)
    with pytest.raises(ValueError, match=r"write it like pet-mad-s@1\.5\.0"):
        hub.fetch("pet-mad-s")


@pytest.mark.parametrize("name", ["pet-mad-s@1.5.0", "pet-mad@v1.5.0"])
def test_revision_is_pinned_and_recorded(played, capsys, name):
    assert main(["convert", name, "-o", "ours.ckpt"]) == 0
    assert played == [
        ("lab-cosmo/upet", None),
        ("lab-cosmo/upet", "models/pet-mad-s-v1.5.0.ckpt", COMMIT),
    ]
    assert f"lab-cosmo/upet models/pet-mad-s-v1.5.0.ckpt at {COMMIT}" in (
        capsys.readouterr().out
    )
    source = load_potential("ours.ckpt")[1]["source"]
    assert source["revision"] == COMMIT


def test_revision_can_be_chosen(played):
    hub.fetch("pet-mad-s@1.5.0", "v7")
    assert played[0] == ("lab-cosmo/upet", "v7")


def test_file_at_hand_is_taken(played, tmp_path):
    save(newest(make_model(TINY)), "pet-mad-s-v1.5.0.ckpt")
    published = hub.fetch("pet-mad-s@1.5.0")
    assert published.path.resolve() == tmp_path / "here" / "pet-mad-s-v1.5.0.ckpt"
    assert "revision" not in published.source
    assert played == []


def test_failure_says_what_to_put_where(played, tmp_path, capsys):
    assert main(["convert", "pet-mad-s@9.9.9"]) == 1
    message = capsys.readouterr().err
    assert (
        "(FileNotFoundError: 404 for models/pet-mad-s-v9.9.9.ckpt); download" in message
    )
    assert "lab-cosmo/upet/resolve/main/models/pet-mad-s-v9.9.9.ckpt" in message
    assert f"put it at {tmp_path / 'here' / 'pet-mad-s-v9.9.9.ckpt'}" in message


def test_without_the_extra(played, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"petmad\[hub\]'` brings it, or download"):
        hub.fetch("pet-mad-s@1.5.0")
