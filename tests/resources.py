"""Where things are, and what to do when they are not there."""

import os
import pathlib

import pytest
import torch


REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def skip_or_fail(what: str, reason: str) -> None:
    """Skip for a missing resource, or fail where ``PETMAD_REQUIRE_<what>`` is 1."""
    if os.environ.get(f"PETMAD_REQUIRE_{what}") == "1":
        pytest.fail(f"PETMAD_REQUIRE_{what}=1, but {reason}")
    pytest.skip(reason)


def need_gpu() -> None:
    """Skips, or fails, where there is none."""
    if not torch.cuda.is_available():
        skip_or_fail("GPU", "torch sees no CUDA device")
