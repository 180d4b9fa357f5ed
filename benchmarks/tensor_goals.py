"""Trained models of examples/tensors against the linear model, by one command.

    python benchmarks/tensor_goals.py --data-dir DATA [--runs runs] [--only qm7b]

For each example whose ``best.ckpt`` is there: test errors block by block, their spread
over 32 rotations, the linear model of the same split, and whether the error is at most
0.7 of it and the spread below a fifth of the error. Writes results/tensor_goals.json
(examples that are not there keep their numbers) and fails where a model spreads, or a
block of a set is at its goal in none of the set's models.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

from report import RESULTS, context, save

from petmad.training.checkpoint import load_potential
from petmad.training.tensor_evaluation import (
    LARGE_SPREAD,
    evaluate_tensors,
    make_targets,
)
from petmad.training.tensors import block_names


NAME = "tensor_goals"
LINEAR = {
    "qm7b": {
        "dipole_l1": 0.0939,
        "polarizability_l0": 0.576,
        "polarizability_l2": 0.385,
    },
    "water_bulk_tensors": {
        "dipole_l1": 0.265,
        "polarizability_l0": 0.263,
        "polarizability_l2": 0.232,
    },
    "water_dimer_tensors": {
        "dipole_l1": 0.0148,
        "polarizability_l0": 0.0588,
        "polarizability_l2": 0.0255,
    },
    "water_zundel_tensors": {
        "dipole_l1": 0.0007,
        "polarizability_l0": 0.0030,
        "polarizability_l2": 0.0009,
    },
}
"""Test RMSE of ridge regression on the power spectrum, same splits, in eÅ and Å³."""
GOALS = {
    "qm7b": {
        "dipole_l1": 0.066,
        "polarizability_l0": 0.40,
        "polarizability_l2": 0.27,
    },
    "water_bulk_tensors": {
        "dipole_l1": 0.19,
        "polarizability_l0": 0.184,
        "polarizability_l2": 0.16,
    },
    "water_dimer_tensors": {"dipole_l1": 0.010},
    "water_zundel_tensors": {},
}
"""What a trained model should reach, 0.7 of the linear one."""
EXAMPLES = {
    "qm7b": "qm7b",
    "water_bulk": "water_bulk_tensors",
    "water_infrared": "water_bulk_tensors",
    "water_infrared_exact": "water_bulk_tensors",
    "water_dimer": "water_dimer_tensors",
    "water_dimer_edge": "water_dimer_tensors",
    "zundel": "water_zundel_tensors",
}
"""Data set of each example."""


def judge(checkpoint: pathlib.Path, test: pathlib.Path, data: str) -> dict[str, Any]:
    """Errors and verdicts of one model, block by block."""
    potential, provenance = load_potential(checkpoint)
    errors = evaluate_tensors(potential, test)
    blocks = {}
    for spec, _ in make_targets(potential):
        for name in block_names(spec):
            kinds = ("mae", "rmse", "relative", "rmse_averaged", "spread")
            numbers = {kind: errors[f"{name}_{kind}"] for kind in kinds}
            goal = GOALS[data].get(name)
            blocks[name] = {
                **numbers,
                "readout": spec.readout,
                "unit": spec.unit,
                "linear_rmse": LINEAR[data][name],
                "goal_rmse": goal,
                "reaches_goal": goal is None or numbers["rmse"] <= goal,
                "turns": numbers["spread"] < LARGE_SPREAD * numbers["rmse"],
            }
    trained = {key: provenance[key] for key in ("epoch", "step", "started")}
    return {"data": data, "trained": trained, **context(), "blocks": blocks}


def stored() -> dict[str, Any]:
    """What was judged before, by example."""
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["models"] if path.exists() else {}


def line(example: str, name: str, block: dict[str, Any]) -> str:
    """A row of the table."""
    verdict = "" if block["reaches_goal"] else "  above the set's goal"
    verdict += "" if block["turns"] else "  SPREADS"
    return (
        f"{example:21} {block['readout']:6} {name:18} {block['rmse']:9.4g} "
        f"{block['spread']:9.2g} {block['linear_rmse']:9.4g}{verdict}"
    )


def main() -> None:
    """Judge what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--only", nargs="*", choices=EXAMPLES, default=list(EXAMPLES))
    arguments = parser.parse_args()
    print(
        f"{'example':21} {'':6} {'block':18} {'test RMSE':>9} {'spread':>9}    linear"
    )
    for example in arguments.only:
        checkpoint = arguments.runs / example / "best.ckpt"
        if checkpoint.exists():
            data = EXAMPLES[example]
            test = arguments.data_dir / data / "test.extxyz.xz"
            model = judge(checkpoint, test, data)
            for name, block in model["blocks"].items():
                print(line(example, name, block))
            save(NAME, {"models": {**stored(), example: model}})
    models = stored()
    turns = [b["turns"] for model in models.values() for b in model["blocks"].values()]
    sys.exit(not all(turns) or print_missed(models))


def print_missed(models: dict[str, Any]) -> bool:
    """Whether a set has a goal that none of its models reaches."""
    is_missed = False
    for data, goals in GOALS.items():
        for name, goal in goals.items():
            found = {
                example: model["blocks"][name]["rmse"]
                for example, model in models.items()
                if model["data"] == data and name in model["blocks"]
            }
            best = min(found, key=found.__getitem__, default=None)
            if best is None or found[best] > goal:
                print(f"{data} {name}: no model is at its goal of {goal}")
                is_missed = True
            else:
                print(f"{data} {name}: {found[best]:.4g} of {best}, goal {goal}")
    return is_missed


if __name__ == "__main__":
    main()
