"""Options files of the examples: each is read without complaint."""

from pathlib import Path

import pytest

from petmad.training.options import load_options


EXAMPLES = sorted(
    (Path(__file__).parents[2] / "examples").rglob("*.yaml"), key=lambda file: file.name
)


def test_there_are_examples():
    assert len(EXAMPLES) > 10


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_options_are_read(file):
    options = load_options(file)
    assert options.data.train
    assert options.training.validate_every <= options.training.epochs
