"""Where the time of one evaluation goes, operator by operator.

    python benchmarks/cpu_profile.py [--sizes S] [--systems "192 water"] [--threads 1]

Own times; backward passes are named CppNode. In brackets: parts of the engine.
"""

import argparse
import collections
import pathlib
import tempfile

import ase
import numpy as np
import torch
from published import SIZES, SYSTEMS, make_system, random_potential

from petmad._engine import Engine
from petmad.export import export_model


def profile(
    model: pathlib.Path, atoms: ase.Atoms, n_repeats: int = 3
) -> dict[str, float]:
    """Own time [ms] of each operator and backward pass, and of the engine around."""
    engine = Engine(str(model), "cpu", torch.get_num_threads(), False)
    species = np.asarray(atoms.numbers, dtype=np.int32) - 1

    def evaluate() -> None:
        engine.evaluate(atoms.positions, species, atoms.cell.array, atoms.pbc)

    evaluate()
    before = timings(engine)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU]
    ) as found:
        for _ in range(n_repeats):
            evaluate()
    after = timings(engine)
    times: dict[str, float] = collections.defaultdict(float)
    for event in found.key_averages():
        times[event.key] += event.self_cpu_time_total / (1e3 * n_repeats)
    for name in before:
        times[f"[{name}]"] = 1e3 * (after[name] - before[name]) / n_repeats
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def timings(engine: Engine) -> dict[str, float]:
    """Seconds of the parts of the engine so far."""
    statistics = engine.statistics
    return {
        "list": statistics.seconds_list,
        "model": statistics.seconds_model,
        "fold": statistics.seconds_fold,
    }


def show(times: dict[str, float], n_lines: int = 20) -> None:
    """The largest."""
    for name, ms in list(times.items())[:n_lines]:
        print(f"{ms:9.2f} ms  {name}")


def main() -> None:
    """Profile the chosen cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument(
        "--systems", nargs="+", default=["192 water", "64 diamond"], choices=SYSTEMS
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            path = pathlib.Path(folder) / f"{size}.pt"
            export_model(random_potential(size), path)
            for system in arguments.systems:
                print(f"{size}, {system}")
                show(profile(path, make_system(system)))


if __name__ == "__main__":
    main()
