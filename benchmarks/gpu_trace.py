"""How long each kernel of one step takes on a GPU, longest first.

python benchmarks/gpu_trace.py [--size S] [--system "5184 water"] [--precision tf32]
"""

import argparse

import torch
from gpu import build_lists, step
from gpu_systems import SIZES, make_models, make_systems

from petmad._ops import load_ops


def main() -> None:
    """Trace three steps after three to warm up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="S", choices=list(SIZES))
    parser.add_argument("--system", default="5184 water")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--rows", type=int, default=40)
    arguments = parser.parse_args()
    load_ops()
    device = torch.device("cuda")
    torch.ops.petmad_cuda.choose_precision(arguments.precision)
    torch.backends.cuda.matmul.allow_tf32 = arguments.precision != "fp32"
    _, model = make_models(arguments.size)
    model = model.to(device)
    system = make_systems(quick=False)[arguments.system]
    lists = build_lists(system, model.config.cutoff, device)
    for _ in range(3):
        step(model, system, lists, device)
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as trace:
        for _ in range(3):
            step(model, system, lists, device)
    averages = trace.key_averages()
    print(averages.table(sort_by="self_cuda_time_total", row_limit=arguments.rows))


if __name__ == "__main__":
    main()
