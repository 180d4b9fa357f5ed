"""What ``import petmad`` gives, and what it costs."""

import pathlib
import subprocess
import sys

import petmad


CODE = """
import sys
import petmad

assert not {"torch", "numpy", "ase"} & set(sys.modules)
assert petmad.spectra.infrared.__name__ == "infrared"
assert "torch" not in sys.modules
assert petmad.response.Response.__name__ == "Response"
for name in dir(petmad):
    getattr(petmad, name)
try:
    petmad.nothing
except AttributeError as error:
    assert "has no attribute 'nothing'" in str(error)
else:
    raise AssertionError
"""


def test_names_are_reached_without_their_own_import():
    """In another process, where nothing has imported the parts."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_dir_is_public():
    names = dir(petmad)
    assert set(petmad.__all__) <= set(names)
    assert {"response", "spectra", "neighbors", "rotations"} <= set(names)
    assert not {"Any", "importlib", "__getattr__"} & set(names)


def test_types_are_told_to_checkers():
    assert (pathlib.Path(petmad.__file__).parent / "py.typed").is_file()
