"""What the processor of this machine can, for tests that need it."""

import pathlib

import pytest


HAS_BF16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
needs_bf16 = pytest.mark.skipif(
    not HAS_BF16, reason="products in bfloat16 need a processor with avx512_bf16"
)
