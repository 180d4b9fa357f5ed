"""petmad beside metatomic and pet-kokkos on this CPU: same weights, systems, threads.

    python benchmarks/cpu.py [--peer-python PYTHON] [--sizes XS S] [--threads 1 2]
        [--systems "192 water" ...] [--rounds 7] [--profile] [--quick] [--note TEXT]

Installs the peers in an environment of their own, unless given one; makes random
weights of the published sizes; holds each package's forces against float64's, and
marks with * those of a peer that are more than 1e-5 eV/Å away; then times energy,
forces and stress through each package's fastest Python interface, neighbor lists
included. A package is a process, a round asks one after the other, medians are
compared. `tuned` is pet-kokkos with OpenBLAS told which kernels suit the CPU. Writes
results/cpu.json.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from cpu_peers import convert, converter, environment
from cpu_profile import profile, show
from published import SIZES, SYSTEMS, make_system, product_flops, random_potential
from report import save

from petmad._engine import Engine
from petmad._ops import load_ops
from petmad.conversion.pickle_upstream import save as save_checkpoint
from petmad.conversion.to_upstream import make_checkpoint
from petmad.export import export_model


FORCE_TOLERANCE = 1e-5  # eV/Å, of what float32 leaves
OURS = "petmad"
PAUSE = 0.2  # s: threads of the package before have stopped waiting for work
TUNED = {"OPENBLAS_CORETYPE": "SkylakeX"}  # AVX-512; of others OpenBLAS decides


class Worker:
    """A process that holds one package and its model."""

    def __init__(
        self, package: str, python: str, model: pathlib.Path, systems: pathlib.Path
    ) -> None:
        self.package = package
        script = pathlib.Path(__file__).with_name("cpu_worker.py")
        extra = TUNED if package.endswith("tuned") else {}
        self.process = subprocess.Popen(
            [python, str(script), package, str(model), str(systems)],
            env={**os.environ, **extra},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.load_seconds = self._read()["load_seconds"]

    def ask(self, system: str, seed: int, keep: pathlib.Path | None = None) -> dict:
        """Evaluate; see ``cpu_worker.py``."""
        request = {"system": system, "seed": seed, "keep": keep and str(keep)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read()[-2000:]
            raise RuntimeError(f"the process of {self.package} died: {said}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def make_models(
    size: str, python: str, folder: pathlib.Path
) -> dict[str, pathlib.Path]:
    """The same random weights as a file for each package."""
    potential = random_potential(size)
    checkpoint = folder / f"{size}.ckpt"
    save_checkpoint(make_checkpoint(potential), checkpoint)
    ours = folder / f"{size}.pt"
    export_model(potential, ours)
    tool = converter(pathlib.Path(python), folder)
    return {OURS: ours, **convert(pathlib.Path(python), tool, checkpoint)}


def write_systems(names: list[str], path: pathlib.Path) -> None:
    """All systems in one file."""
    arrays: dict[str, np.ndarray] = {"names": np.array(names)}
    for name in names:
        atoms = make_system(name)
        arrays[f"{name} numbers"] = atoms.numbers
        arrays[f"{name} positions"] = atoms.positions
        arrays[f"{name} cell"] = atoms.cell.array
    np.savez(path, **arrays)


def best_sgemm_rate(n_rounds: int = 5) -> float:
    """The best rate [GFLOP/s] of oneDNN or BLAS in float32, with torch's threads."""
    rates = [0.0]
    for n_rows, width, n_out in (
        (4096, 512, 512),
        (4096, 1024, 1024),
        (2048, 256, 256),
    ):
        x, w = torch.randn(n_rows, width), torch.randn(n_out, width)
        packed = torch.ops.mkldnn._reorder_linear_weight(w, n_rows)
        for multiply in (
            lambda x=x, p=packed: torch.ops.mkldnn._linear_pointwise(
                x, p, None, "none", [], ""
            ),
            lambda x=x, w=w: torch.nn.functional.linear(x, w),
        ):
            for _ in range(n_rounds):
                start = time.perf_counter()
                multiply()
                seconds = time.perf_counter() - start
                rates.append(2e-9 * n_rows * width * n_out / seconds)
    return max(rates)


def n_kept_edges(model: pathlib.Path, system: str) -> int:
    """Directed edges that the network works on."""
    atoms = make_system(system)
    engine = Engine(str(model), "cpu", 0, False)
    species = np.asarray(atoms.numbers, dtype=np.int32) - 1
    engine.evaluate(atoms.positions, species, atoms.cell.array, atoms.pbc)
    return int(engine.statistics.n_kept_edges)


def reference_forces(
    model: pathlib.Path, system: str, positions: np.ndarray
) -> np.ndarray:
    """Forces [eV/Å] of the same weights in float64."""
    atoms = make_system(system)
    engine = Engine(str(model), "cpu", 0, False, "fp64")
    species = np.asarray(atoms.numbers, dtype=np.int32) - 1
    return engine.evaluate(positions, species, atoms.cell.array, atoms.pbc)["forces"]


def check_agreement(
    workers: list[Worker], model: pathlib.Path, system: str, folder: pathlib.Path
) -> dict[str, float]:
    """Largest deviations of forces from float64's [eV/Å], and the largest force.

    Raises:
        RuntimeError: ours is too large.
    """
    found = {}
    for worker in workers:
        path = folder / f"{worker.package}.npz"
        worker.ask(system, 0, path)
        found[worker.package] = np.load(path)
    reference = reference_forces(model, system, found[OURS]["positions"])
    deviations = {"largest force": float(np.abs(reference).max())}
    for package, answer in found.items():
        deviations[package] = float(np.abs(answer["forces"] - reference).max())
    told = ", ".join(f"{name} {value:.1e}" for name, value in deviations.items())
    print(f"{system}, forces beside float64 [eV/Å]: {told}", flush=True)
    if not deviations[OURS] <= FORCE_TOLERANCE:
        raise RuntimeError(
            f"petmad's forces on {system} are {deviations[OURS]:.1e} eV/Å from those "
            f"of float64, more than {FORCE_TOLERANCE}; mend that before comparing"
        )
    return deviations


def time_case(
    workers: list[Worker],
    model: pathlib.Path,
    system: str,
    n_rounds: int,
    folder: pathlib.Path,
) -> dict:
    """Deviations, medians of interleaved rounds [ms], peak memory, rate of sgemm."""
    deviations = check_agreement(workers, model, system, folder)
    result: dict = {"force_deviation": deviations}
    times: dict[str, list[float]] = {worker.package: [] for worker in workers}
    cpu_times: dict[str, list[float]] = {worker.package: [] for worker in workers}
    peaks = dict.fromkeys(times, 0.0)
    rates = []
    for k in range(n_rounds + 1):
        for worker in workers:
            time.sleep(PAUSE)
            answer = worker.ask(system, 1 + k)
            if k > 0:  # the first is not counted
                times[worker.package].append(1e3 * answer["seconds"])
                cpu_times[worker.package].append(1e3 * answer["cpu_seconds"])
            peaks[worker.package] = max(peaks[worker.package], answer["peak_gb"])
        rates.append(best_sgemm_rate())
    result["ms"] = {p: statistics.median(found) for p, found in times.items()}
    # of all threads: on a busy machine, for one thread, the fairer number
    result["cpu_ms"] = {p: statistics.median(f) for p, f in cpu_times.items()}
    result["fastest_ms"] = {p: min(found) for p, found in times.items()}
    ours = result["ms"][OURS]
    result["ratio"] = {p: t / ours for p, t in result["ms"].items() if p != OURS}
    result["peak_gb"] = peaks
    result["sgemm_gflops"] = max(rates)
    return result


def run_case(arguments: argparse.Namespace, python: str, folder: pathlib.Path) -> dict:
    """All sizes, threads and systems."""
    results: dict = {}
    systems = folder / "systems.npz"
    write_systems(arguments.systems, systems)
    for size in arguments.sizes:
        models = make_models(size, python, folder)
        for n_threads in arguments.threads:
            torch.set_num_threads(n_threads)
            os.environ["OMP_NUM_THREADS"] = str(n_threads)
            workers = [
                Worker(p, sys.executable if p == OURS else python, model, systems)
                for p, model in models.items()
            ]
            for system in arguments.systems:
                case = time_case(
                    workers, models[OURS], system, arguments.rounds, folder
                )
                n_atoms = int(system.split()[0])
                case["n_kept_edges"] = n_kept_edges(models[OURS], system)
                flops = product_flops(size, n_atoms, case["n_kept_edges"])
                rate = 1e-6 * flops / case["ms"][OURS]
                case["gflop"] = 1e-9 * flops
                case["share_of_sgemm"] = rate / case["sgemm_gflops"]
                if arguments.profile:
                    case["profile_ms"] = profile(models[OURS], make_system(system))
                    show(case["profile_ms"])
                label = f"{size}, {system}, {n_threads} thread(s)"
                results[label] = case
                print_case(label, case)
            for worker in workers:
                worker.close()
    return results


def print_case(label: str, case: dict) -> None:
    """One line."""
    n_edges = case["n_kept_edges"]
    deviations = case["force_deviation"]
    parts = [
        f"{package}{'*' if deviations[package] > FORCE_TOLERANCE else ''} {ms:.0f} ms"
        + (f" (x{case['ratio'][package]:.2f})" if package in case["ratio"] else "")
        + f" {case['peak_gb'][package]:.2f} GB"
        for package, ms in case["ms"].items()
    ]
    print(
        f"{label}, {n_edges} edges: {', '.join(parts)}; "
        f"{100 * case['share_of_sgemm']:.0f}% of {case['sgemm_gflops']:.0f} GFLOP/s",
        flush=True,
    )


def main() -> None:
    """Run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="of an environment with both peers")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="time per operator")
    parser.add_argument("--quick", action="store_true", help="one small case")
    parser.add_argument("--note", default="", help="of the machine, kept beside it")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.sizes, arguments.threads = ["XS"], [1]
        arguments.systems, arguments.rounds = ["64 diamond"], 1
    load_ops()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        cache = pathlib.Path.home() / ".cache" / "petmad" / "cpu-peers"
        python = arguments.peer_python or str(environment(cache))
        results = run_case(arguments, python, folder)
    if arguments.quick:
        print("not written: a quick run measures nothing")
    else:
        print(f"written to {save('cpu', {'note': arguments.note, **results})}")


if __name__ == "__main__":
    main()
