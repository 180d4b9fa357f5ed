"""Four ways to get a tensor's scalars, with and without the λ columns, by data size.

    python benchmarks/tensor_ablation.py --data-dir DATA [--set qm7b] [--steps 10000]

Trains every combination on the first part of one shuffled training set, evaluates on
the test set with 32 rotations, and writes ``results/tensor_ablation.json``, the table
beside it as ``.md``, and the picture ``docs/tensor_ablation.svg``. Finished runs are
kept in the output folder, so that an interrupted ablation goes on where it stopped.
``--quick`` goes through the same motions in a minute or two and writes all there.
"""

import argparse
import json
import lzma
import pathlib
import time
from typing import Any, NamedTuple

import numpy as np
from report import RESULTS, save

from petmad.training.checkpoint import load_potential
from petmad.training.options import parse_options
from petmad.training.tensor_evaluation import evaluate_tensors
from petmad.training.trainer import train


DESIGNS = [
    ("edge", True),
    ("edge", False),
    ("node", True),
    ("node", False),
    ("exact", True),
    ("exact", False),
    ("direct", True),  # knows no λ columns
]
POLARIZABILITY = {"kind": "symmetric", "unit": "Å³", "size_exponent": 0.5}
DIPOLE = {"kind": "vector", "unit": "eÅ", "size_exponent": 0.0}


class DataSet(NamedTuple):
    """A data set of the reference data.

    Attributes:
        folder: with train, val and test.
        sizes: numbers of training structures.
        linear: RMSE of the linear model of the design note, by block.
        goal: of the trained model, by block.
    """

    folder: str
    sizes: tuple[int, ...]
    linear: dict[str, float]
    goal: dict[str, float]


BLOCKS = ("dipole_l1", "polarizability_l0", "polarizability_l2")


def blocks(*values: float | None) -> dict[str, float]:
    """Values by block; None leaves one out."""
    pairs = zip(BLOCKS, values, strict=True)
    return {name: value for name, value in pairs if value is not None}


SETS = {
    "qm7b": DataSet(
        "qm7b",
        (200, 400, 800),
        blocks(0.0939, 0.576, 0.385),
        blocks(0.066, 0.40, 0.27),
    ),
    "water_bulk": DataSet(
        "water_bulk_tensors",
        (125, 250, 500),
        blocks(0.265, 0.263, 0.232),
        blocks(0.19, None, 0.16),
    ),
    "water_dimer": DataSet(
        "water_dimer_tensors",
        (125, 250, 500),
        blocks(0.0148, 0.0588, 0.0255),
        blocks(0.010, None, None),
    ),
}


def read_frames(path: pathlib.Path) -> list[str]:
    """The text of each frame of a compressed extended XYZ file."""
    with lzma.open(path, "rt") as file:
        lines = file.readlines()
    frames, start = [], 0
    while start < len(lines):
        stop = start + 2 + int(lines[start])
        frames.append("".join(lines[start:stop]))
        start = stop
    return frames


def write_subset(frames: list[str], n: int, path: pathlib.Path) -> str:
    """The first n of one shuffled order, so that the large sets hold the small."""
    order = np.random.default_rng(0).permutation(len(frames))[:n]
    path.write_text("".join(frames[i] for i in sorted(order)))
    return str(path)


def make_options(
    data: dict[str, str], readout: str, columns: bool, n_train: int, args: Any
) -> dict[str, Any]:
    """Options of one training; every size gets the same number of steps."""
    width, batch = args.width, min(16, n_train)
    design = {"readout": readout, "lambda_columns": columns}
    epochs = max(1, args.steps * batch // n_train)
    return {
        "model": {
            "cutoff": 5.0,
            "d_pet": width,
            "d_head": width,
            "d_node": 2 * width,
            "d_feedforward": width,
            "num_heads": 4,
            "num_attention_layers": 1,
        },
        "data": {**data, "energy_key": None},
        "targets": {
            "dipole": {**DIPOLE, **design},
            "polarizability": {**POLARIZABILITY, **design},
        },
        "training": {
            "epochs": epochs,
            "batch_size": batch,
            "learning_rate": args.learning_rate,
            "warmup_fraction": 0.05,
            "ema_decay": 0.99,
            "monitor": "rmse_prod",
            "validate_every": max(1, epochs // 20),
            "threads": args.threads,
        },
    }


def run(
    args: Any, folder: pathlib.Path, frames: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Train and evaluate every combination not yet done."""
    n_test = 10 if args.quick else len(frames["test"])
    n_valid = 10 if args.quick else len(frames["val"])
    valid = write_subset(frames["val"], n_valid, folder / "valid.xyz")
    test = write_subset(frames["test"], n_test, folder / "test.xyz")
    sizes = (8, 16, 32) if args.quick else SETS[args.set].sizes
    rows = []
    for n_train in sizes:
        file = write_subset(frames["train"], n_train, folder / f"train-{n_train}.xyz")
        for readout, columns in DESIGNS:
            name = f"{readout}{'' if columns else '-bare'}-{n_train}"
            done = folder / name / "errors.json"
            if not done.exists():
                data = {"train": file, "valid": valid}
                values = make_options(data, readout, columns, n_train, args)
                options = parse_options({**values, "output": str(folder / name)})
                last = folder / name / "last.ckpt"
                started = time.process_time()
                best = train(options, resume=last if last.exists() else None)
                seconds = time.process_time() - started
                potential, _ = load_potential(best)
                errors = evaluate_tensors(potential, test, n_rotations=args.rotations)
                errors["train_cpu_seconds"] = seconds
                done.write_text(json.dumps(errors, indent=1))
            errors = json.loads(done.read_text())
            row = {"readout": readout, "lambda_columns": columns, "n_train": n_train}
            rows.append({**row, **errors})
            print(name, {b: round(errors[f"{b}_rmse"], 4) for b in BLOCKS})
    return rows


def label(row: dict[str, Any]) -> str:
    """Name of a design."""
    bare = "" if row["lambda_columns"] else ", no λ columns"
    return row["readout"] + bare


def table(rows: list[dict[str, Any]], data: DataSet) -> str:
    """RMSE with its spread over rotations in brackets, one line per run."""
    lines = [
        f"| design | structures | {' | '.join(BLOCKS)} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [f"{row[f'{b}_rmse']:.4g} ({row[f'{b}_spread']:.2g})" for b in BLOCKS]
        lines.append(f"| {label(row)} | {row['n_train']} | {' | '.join(cells)} |")
    for name, values in (("linear model", data.linear), ("goal", data.goal)):
        cells = [f"{values[b]:g}" if b in values else "-" for b in BLOCKS]
        lines.append(f"| {name} | {data.sizes[-1]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], data: DataSet, path: pathlib.Path) -> None:
    """RMSE against the number of structures; dashed without λ columns."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "petmad", "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    colors = {
        name: f"C{i}" for i, name in enumerate(("edge", "node", "exact", "direct"))
    }
    sizes = sorted({row["n_train"] for row in rows})
    for axis, block in zip(axes, BLOCKS, strict=True):
        for readout, columns in DESIGNS:
            mine = [
                (row["n_train"], row[f"{block}_rmse"])
                for row in rows
                if (row["readout"], row["lambda_columns"]) == (readout, columns)
            ]
            name = label({"readout": readout, "lambda_columns": columns})
            style = "o-" if columns else "s--"
            axis.loglog(
                *zip(*mine, strict=True), style, color=colors[readout], label=name
            )
        axis.axhline(data.linear[block], color="gray", lw=1, label="linear model")
        unit = (DIPOLE if "dipole" in block else POLARIZABILITY)["unit"]
        axis.set(title=block, xlabel="training structures")
        axis.set(ylabel=f"test RMSE [{unit}]")
        axis.set_xticks(sizes, [str(n) for n in sizes])
        axis.set_xticks([], minor=True)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run, tabulate, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--set", choices=SETS, default="qm7b")
    parser.add_argument("--output", type=pathlib.Path, default="tensor-ablation")
    parser.add_argument("--steps", type=int, default=10000, help="per training")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak")
    parser.add_argument("--width", type=int, default=64, help="of the network")
    parser.add_argument("--rotations", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.width, args.rotations = 4, 8, 2
    data = SETS[args.set]
    folder = args.output / (args.set + ("-quick" if args.quick else ""))
    folder.mkdir(parents=True, exist_ok=True)
    source = args.data_dir / data.folder
    frames = {
        part: read_frames(source / f"{part}.extxyz.xz")
        for part in ("train", "val", "test")
    }
    rows = run(args, folder, frames)
    text = table(rows, data)
    print(text)
    if args.quick:
        (folder / "table.md").write_text(text)
        plot(rows, data, folder / "ablation.svg")
        return
    (RESULTS / "tensor_ablation.md").write_text(text)
    plot(rows, data, RESULTS.parents[1] / "docs" / "tensor_ablation.svg")
    names = ("set", "steps", "width", "learning_rate")
    settings = {name: getattr(args, name) for name in names}
    print(save("tensor_ablation", {**settings, "rows": rows}))


if __name__ == "__main__":
    main()
