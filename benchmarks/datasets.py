"""Sets of examples/datasets: train one, and judge it beside published errors.

    python benchmarks/datasets.py aspirin bpa --train     # train, then judge
    python benchmarks/datasets.py                         # judge every run there is

From the root of the repository. A set is trained with its options file into
``runs/NAME`` (``--epochs`` shortens it; an interrupted run is resumed) and judged by
its ``best.ckpt`` on test files that it has not seen. Results go to
results/datasets.json; sets that are not named keep theirs. Beside the errors for
structures as they stand are those of means over 48 orientations, 48 times the work:
PET is not exactly invariant, and gains from them (``--average 0`` leaves them out).
"""

import argparse
import json
import pathlib
import resource
import tempfile
import time
from typing import Any

import numpy as np
from published_errors import TESTS, Published, TestSet
from report import RESULTS, context, save

from petmad.export import export_model
from petmad.training.checkpoint import load_potential
from petmad.training.loss import Labels
from petmad.training.options import Options, load_options
from petmad.training.report import Evaluation, evaluate
from petmad.training.splits import as_list
from petmad.training.trained import count_parameters
from petmad.training.trainer import train


NAME = "datasets"
EXAMPLES = pathlib.Path("examples/datasets")
QUANTITIES = ("energy", "forces")
VERDICTS = {
    "below_older": "kernels and Behler-Parrinello networks",
    "at_best_message_passing": "the best message-passing model",
}
OLDER = ("kernel", "neural network")
"""Kinds of models to beat on two CPU cores; on a GPU it is the best of all."""


def run_options(name: str, arguments: argparse.Namespace) -> Options:
    """The options file of a set, with what the command line changes."""
    options = load_options(arguments.examples / f"{name}.yaml")
    options.output = str(arguments.runs / name)
    if arguments.threads is not None:
        options.training.threads = arguments.threads
    if arguments.epochs is not None:
        options.training.epochs = arguments.epochs
        often = min(options.training.validate_every, arguments.epochs)
        options.training.validate_every = often
    return options


def train_set(options: Options) -> None:
    """Train, or resume; appends what it took to ``took.json`` in the run's folder."""
    folder = pathlib.Path(options.output)
    last = folder / "last.ckpt"
    start, used = time.perf_counter(), processor_time()
    train(options, resume=last if last.exists() else None)
    took = {
        "hours": (time.perf_counter() - start) / 3600,
        "processor_hours": (processor_time() - used) / 3600,
    }
    file = folder / "took.json"
    parts = json.loads(file.read_text()) if file.exists() else []
    file.write_text(json.dumps([*parts, took], indent=1) + "\n")


def processor_time() -> float:
    """Of this process and its children [s]."""
    parts = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(part) for part in parts]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def judge(name: str, options: Options, order: int) -> dict[str, Any]:
    """Errors on every test file of a set, and verdicts.

    Args:
        name: of the set.
        options: with which it was trained.
        order: of the grid of orientations for means of predictions, or 0.
    """
    folder = pathlib.Path(options.output)
    potential, provenance = load_potential(folder / "best.ckpt")
    data = provenance["options"]["data"]
    source = pathlib.Path(as_list(data["train"])[0]).parent
    took = folder / "took.json"
    tests = {}
    with tempfile.TemporaryDirectory() as scratch:
        exported = pathlib.Path(scratch) / "model.pt"  # means in the engine: faster
        export_model(potential, exported)
        for test in TESTS[name]:
            file = source / test.file
            result = evaluate(folder / "best.ckpt", file)
            tests[test.file] = compare(test, errors_of(result, test))
            if order > 0:
                mean = evaluate(exported, file, average_order=order)
                compared = compare(test, errors_of(mean, test))
                tests[test.file]["averaged"] = {
                    **mean.errors["averaged"],
                    **{part: compared[part] for part in (*QUANTITIES, *VERDICTS)},
                }
    return {
        "trained": {key: provenance[key] for key in ("epoch", "step", "started")},
        "epochs": provenance["options"]["training"]["epochs"],
        "n_parameters": count_parameters(potential)[1],
        "took": json.loads(took.read_text()) if took.exists() else None,
        **context(),
        "tests": tests,
    }


def errors_of(result: Evaluation, test: TestSet) -> dict[str, float]:
    """Mean absolute or root mean square errors in meV and meV/Å, as the set has it."""
    energies, forces = [], []
    for structure, prediction in zip(
        result.structures, result.predictions, strict=True
    ):
        labels: Labels = prediction.labels
        error = float(labels.energies[0]) - structure.energy
        share = len(structure.atomic_numbers) if test.per_atom else 1
        energies.append(1000 * error / share)
        if structure.forces is not None:
            forces.append(1000 * (labels.forces.numpy() - structure.forces).ravel())
    return {
        "energy": statistic(np.array(energies), test.statistic),
        "forces": statistic(np.concatenate(forces), test.statistic),
        "n_structures": len(energies),
    }


def statistic(errors: np.ndarray, kind: str) -> float:
    """``mae`` or ``rmse``."""
    if kind == "mae":
        return float(np.abs(errors).mean())
    return float(np.sqrt(np.square(errors).mean()))


def compare(test: TestSet, ours: dict[str, float]) -> dict[str, Any]:
    """Our errors beside the published ones; verdicts only where there are some."""
    older = [model for model in test.published if model.kind in OLDER]
    others = [model for model in test.published if model.kind == "message passing"]
    return {
        **ours,
        "statistic": test.statistic,
        "energy_unit": "meV/atom" if test.per_atom else "meV",
        "published": [model._asdict() for model in test.published],
        "source": test.source,
        "below_older": is_below(ours, older),
        "at_best_message_passing": is_below(ours, others),
    }


def is_below(ours: dict[str, float], models: list[Published]) -> bool | None:
    """Whether both errors are at or below the best of the models; None without any."""
    if not models:
        return None
    return ours["energy"] <= min(model.energy for model in models) and ours[
        "forces"
    ] <= min(model.forces for model in models)


def lines(name: str, tests: dict[str, Any]) -> list[str]:
    """A table of one set."""
    rows = []
    for file, test in tests.items():
        unit = f"{test['statistic'].upper()}, {test['energy_unit']} and meV/Å"
        rows.append(f"{name} {file} ({unit})")
        ours = {"petmad": test}
        if "averaged" in test:
            ours["mean"] = test["averaged"]
        models = [{"model": m, "kind": "here", **e} for m, e in ours.items()]
        rows += [
            f"  {row['model']:10} {row['kind']:16} {row['energy']:8.3g} "
            f"{row['forces']:8.4g}"
            for row in (*models, *test["published"])
        ]
        words = {True: "at or below", False: "above", None: "no checked number of"}
        rows += [
            f"  {model}: {words[errors[verdict]]} {what}"
            for model, errors in ours.items()
            for verdict, what in VERDICTS.items()
        ]
    return rows


def stored() -> dict[str, Any]:
    """What was judged before, by set."""
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["sets"] if path.exists() else {}


def main() -> None:
    """Train what is asked for, judge what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(TESTS)}; default: all")
    parser.add_argument("--train", action="store_true", help="train before judging")
    parser.add_argument("--epochs", type=int, help="instead of the options' number")
    parser.add_argument("--threads", type=int, help="instead of the options' number")
    parser.add_argument("--average", type=int, default=3, help="order; 0: no means")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--examples", type=pathlib.Path, default=EXAMPLES)
    arguments = parser.parse_args()
    unknown = set(arguments.sets) - set(TESTS)
    if unknown:
        parser.error(f"unknown sets {sorted(unknown)}; known are {', '.join(TESTS)}")
    for name in arguments.sets or TESTS:
        options = run_options(name, arguments)
        if arguments.train:
            train_set(options)
        if not (pathlib.Path(options.output) / "best.ckpt").exists():
            print(f"{name}: no run in {options.output}; train it with --train")
            continue
        result = judge(name, options, arguments.average)
        print("\n".join(lines(name, result["tests"])))
        save(NAME, {"sets": {**stored(), name: result}})


if __name__ == "__main__":
    main()
