"""Whether this build has code for GPUs, and what happens where there is none."""

import pathlib
import shutil

import torch
from cuda_tools import kernels
from resources import skip_or_fail


NVCC = shutil.which("nvcc", path="/usr/local/cuda/bin") or shutil.which("nvcc")


def test_kernels_are_compiled_where_nvcc_is():
    if NVCC is None:
        skip_or_fail("NVCC", "there is no nvcc: builds have no code for GPUs")
    assert kernels.has_kernels()
    assert torch.ops.petmad.has_gpu_kernels()


def test_operators_are_registered_for_cuda_tensors():
    key = "CUDA"
    for name in ("attention", "compress", "mlp", "norm_linear", "sum_by_center"):
        qualified = f"petmad::{name}"
        assert torch._C._dispatch_has_kernel_for_dispatch_key(qualified, key)
        assert torch._C._dispatch_has_kernel_for_dispatch_key(qualified, "AutogradCUDA")
    for name in ("build_neighbor_list", "edge_starts", "fold_forces", "reverse_index"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"petmad::{name}", key)


def test_no_torch_in_kernels_and_no_cuda_in_operators():
    folder = pathlib.Path(__file__).parents[2] / "cpp" / "src" / "cuda"
    sources = list(folder.iterdir())
    assert len(sources) > 20
    for source in sources:
        text = source.read_text()
        if source.suffix == ".cu" or source.stem.endswith(("_kernels", "_table")):
            assert "torch/" not in text, source
            assert "ATen/" not in text, source
        if source.stem != "launch":
            assert "cuda_runtime" not in text, source
