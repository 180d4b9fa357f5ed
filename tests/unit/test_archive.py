"""Files that are not as they were written."""

import random
import struct
import zipfile

import pytest
import torch
from variants import make_potential

from petmad._engine import Engine
from petmad.conversion.unpickle import load as load_upstream
from petmad.export import export_model, load_exported
from petmad.training import checkpoint


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "water.pt"
    export_model(make_potential("modern"), path, "float64")
    return path


@pytest.fixture(scope="module")
def files(model_path, tmp_path_factory):
    """One of each kind, and what reads it."""
    folder = tmp_path_factory.mktemp("files")
    ours, upstream = folder / "best.ckpt", folder / "upstream.ckpt"
    checkpoint.save(ours, make_potential("modern"), {})
    torch.save({"weights": torch.arange(100.0)}, upstream)
    return {
        "engine": (model_path, lambda path: Engine(str(path))),
        "export": (model_path, load_exported),
        "checkpoint": (ours, checkpoint.read),
        "upstream": (upstream, load_upstream),
    }


def payload_offset(data: bytes, item: zipfile.ZipInfo) -> int:
    """Where the stored bytes of an archive's item begin, after its local header."""
    name, extra = struct.unpack_from("<HH", data, item.header_offset + 26)
    return item.header_offset + 30 + name + extra


def test_they_load_as_they_are(files):
    for path, reader in files.values():
        reader(path)


@pytest.mark.parametrize("kind", ["engine", "export", "checkpoint", "upstream"])
def test_one_flipped_bit_anywhere_in_an_entry_is_found(files, tmp_path, kind):
    path, reader = files[kind]
    data, flipped = path.read_bytes(), tmp_path / path.name
    with zipfile.ZipFile(path) as archive:
        items = [item for item in archive.infolist() if item.file_size > 0]
    choose = random.Random(1)
    for item in choose.sample(items, min(len(items), 25)):
        damaged = bytearray(data)
        at = payload_offset(data, item) + choose.randrange(item.file_size)
        damaged[at] ^= 1 << choose.randrange(8)
        flipped.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged") as error:
            reader(flipped)
        assert item.filename in str(error.value)


def rewrite(path, target):
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))


def test_sizes_of_large_files(model_path, tmp_path, monkeypatch):
    """Entries above 4 GiB have their sizes elsewhere; here those above 100 bytes."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    path = tmp_path / "large.pt"
    rewrite(model_path, path)
    with zipfile.ZipFile(path) as archive:
        items = archive.infolist()
        last = max(items, key=lambda item: item.header_offset)
    assert items[0].extra
    assert last.extra
    Engine(str(path))
    data = bytearray(path.read_bytes())
    data[payload_offset(data, last)] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"large\.pt' is damaged") as error:
        Engine(str(path))
    assert last.filename in str(error.value)


def test_a_checkpoint_is_no_model_file(files):
    path, _ = files["checkpoint"]
    with pytest.raises(
        ValueError, match=r"is a checkpoint.*petmad export .*best\.ckpt"
    ):
        Engine(str(path))
