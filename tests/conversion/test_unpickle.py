"""A checkpoint cannot run code: names outside of the fixed list are refused."""

import collections
import pickle
import zipfile

import numpy as np
import pytest
import torch
from upstream_files import ScriptObject, save

from petmad.conversion.unpickle import load


class Call:
    """Pickles as a call, which plain unpickling would make."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exec, "builtins.exec"),
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (__import__, "builtins.__import__"),
        (torch.load, "torch.serialization.load"),
        (np.load, "numpy.load"),
        (pickle.loads, "pickle.loads"),
        (torch.hub.load, "torch.hub.load"),
    ],
)
def test_calls_are_refused_by_name(tmp_path, function, name):
    save({"architecture_name": Call(function, "1")}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=rf"refused: it asks for `{name}`.*nothing of"):
        load(tmp_path / "a.ckpt")


def test_nothing_runs(tmp_path):
    victim = tmp_path / "made by the pickle"
    bad = tmp_path / "a.ckpt"
    code = f"import pathlib; pathlib.Path({str(victim)!r}).touch()"
    torch.save({"state": [1, Call(exec, code)]}, bad)
    torch.load(bad, weights_only=False)
    assert victim.exists(), "the file must be harmful to begin with"
    victim.unlink()
    with pytest.raises(ValueError, match=r"`builtins\.exec`"):
        load(bad)
    assert not victim.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_dotted_names_are_refused(tmp_path, protocol):
    """Newer pickles may walk attributes: ``OrderedDict.__init__.__globals__``."""
    path = tmp_path / "a.ckpt"
    torch.save({"a": 1}, path, pickle_protocol=protocol)
    text = b"collections\nOrderedDict.fromkeys\n"
    replaced = tmp_path / "b.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(replaced, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = b"\x80" + bytes([protocol]) + b"c" + text + b"."
            new.writestr(entry.filename, content)
    with pytest.raises(ValueError, match=r"`collections\.OrderedDict\.fromkeys`"):
        load(replaced)


def test_harmless_content_survives(tmp_path):
    script = ScriptObject()
    script.state = ("text", "class")
    weights = torch.arange(6.0).reshape(2, 3)
    content = {
        "dict": collections.OrderedDict(a=weights, b=weights.double().T),
        "parameter": torch.nn.Parameter(weights),
        "set": {1, 6},
        "numbers": [1, 2.5, None, True, b"bytes", np.float64(3.5)],
        "types": (torch.float64, torch.Size([2]), torch.device("cpu")),
        "script": script,
    }
    save(content, tmp_path / "a.ckpt")
    found = load(tmp_path / "a.ckpt")
    assert torch.equal(found["dict"]["a"], weights)
    assert torch.equal(found["dict"]["b"], weights.double().T)
    assert torch.equal(found["parameter"], weights)
    for name in ("set", "numbers", "types"):
        assert found[name] == content[name]
    assert found["script"].state == script.state


def test_hooks_are_left_behind(tmp_path):
    """A pickled tensor may bring functions to call in its backward pass."""
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.ones(2).untyped_storage(),
        dtype=torch.float32,
        _internal=True,
    )
    hooks = collections.OrderedDict({0: torch.Size})
    arguments = (storage, 0, (2,), (1,), True, hooks)
    bad = Call(torch._utils._rebuild_tensor_v2, *arguments)
    save({"tensor": bad}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=False)["tensor"]._backward_hooks
    found = load(tmp_path / "a.ckpt")["tensor"]
    assert found.tolist() == [1.0, 1.0]
    assert not found._backward_hooks
    assert not found.requires_grad


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"no such checkpoint: nowhere\.ckpt"):
        load("nowhere.ckpt")
    text = tmp_path / "text.ckpt"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"not a torch\.save archive: truncated, or"):
        load(text)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(tmp_path / "a.pt"))
    with pytest.raises(ValueError, match=r"exported \(TorchScript\)"):
        load(tmp_path / "a.pt")
    save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="holds a list, not a checkpoint"):
        load(tmp_path / "list.ckpt")


def test_truncated(tmp_path):
    path = tmp_path / "a.ckpt"
    save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated"):
        load(path)
