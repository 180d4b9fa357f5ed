"""An evaluation as one HTML file: tables, and figures drawn into it."""

import base64
import csv
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .breakdown import residuals, uncertainty_quality
from .evaluation import ALL_UNITS
from .labelled import has_energy
from .metrics import MILLI, UNITS
from .tensors import block_names


if TYPE_CHECKING:
    from .report import Evaluation

MOST_POINTS = 20000
STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}img{max-width:48%}"
)


def html_report(evaluation: "Evaluation") -> str:
    """The file's text; figures are inside it."""
    errors = evaluation.errors
    n_structures = len(evaluation.structures)
    title = html.escape(f"{Path(evaluation.model).name} on {n_structures} structures")
    parts = [f"<h1>{title}</h1>", _overall(errors), _tensors(evaluation)]
    parts += [_parts(errors, name) for name in ("elements", "components")]
    parts += [_groups(errors, title) for title in ("subset", "file")]
    parts += [_notes(errors), "<h2>Figures</h2>"]
    parts += [_image(name, draw) for name, draw in figures(evaluation)]
    body = "\n".join(part for part in parts if part)
    return (
        f"<!doctype html>\n<html><head><meta charset='utf-8'><title>{title}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _table(head: list[str], rows: list[list[Any]]) -> str:
    def line(cells: list[Any], tag: str) -> str:
        shown = (
            f"{c:.4g}" if isinstance(c, float) else html.escape(str(c)) for c in cells
        )
        return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in shown) + "</tr>"

    return (
        "<table>"
        + line(head, "th")
        + "".join(line(row, "td") for row in rows)
        + "</table>"
    )


def _overall(errors: dict[str, Any]) -> str:
    overall = errors.get("overall", {})
    rows = [
        [name.replace("_", " "), overall[f"{name}_mae"], overall[f"{name}_rmse"], unit]
        for name, unit in ALL_UNITS.items()
        if f"{name}_mae" in overall
    ]
    table = _table(["", "MAE", "RMSE", "unit"], rows) if rows else ""
    return f"<h2>Errors</h2>{table}"


def _tensors(evaluation: "Evaluation") -> str:
    errors = evaluation.errors.get("tensors", {})
    kinds = ("mae", "rmse", "relative", "spread")
    rows = [
        [name, *(errors.get(f"{name}_{kind}", "-") for kind in kinds), spec.unit]
        for spec in evaluation.tensors
        for name in block_names(spec)
        if f"{name}_mae" in errors
    ]
    head = ["tensors", "MAE", "RMSE", "RMSE of RMS", "spread", "unit"]
    return _table(head, rows) if rows else ""


def _parts(errors: dict[str, Any], name: str) -> str:
    parts = errors.get(name, {})
    rows = [[k, v["mae"], v["rmse"], v["n"]] for k, v in parts.items()]
    unit = "forces, meV/Å" if name == "elements" else "meV/Å, strain meV/atom"
    return _table([f"{name} ({unit})", "MAE", "RMSE", "n"], rows) if rows else ""


def _groups(errors: dict[str, Any], title: str) -> str:
    """Errors of each subset, or of each file."""
    names = [f"{name}_{kind}" for name in ALL_UNITS for kind in ("mae", "rmse")]
    parts = errors.get(f"{title}s", {})
    parts = {k: {**part, **part.get("tensors", {})} for k, part in parts.items()}
    known = {name for part in parts.values() for name in part}
    tensors = [n for n in errors.get("tensors", {}) if n.endswith(("_mae", "_rmse"))]
    names = [name for name in names + tensors if name in known]
    rows = [
        [group, *(float(part.get(name, np.nan)) for name in names)]
        for group, part in parts.items()
    ]
    return _table([title, *names], rows) if rows else ""


def _notes(errors: dict[str, Any]) -> str:
    notes = [
        f"{count} frames have no {what} to compare with."
        for what, count in errors.get("without", {}).items()
    ]
    if "averaged" in errors:
        count = errors["averaged"]["n_orientations"]
        notes.append(f"Predictions are means over {count} orientations.")
    if "uncertainty" in errors:
        quality = errors["uncertainty"]
        notes.append(
            f"Root mean square error over predicted deviation {quality['ratio']:.3f}, "
            f"slope of their logarithms {quality['slope']:.3f} (1 is calibrated)."
        )
    if "rotations" in errors:
        turned = errors["rotations"]
        notes.append(
            f"Spread over {turned['n_rotations']} rotations and inversions of "
            f"{turned['n_structures']} structures: {turned['energy']:.4g} meV/atom, "
            f"{turned['forces']:.4g} meV/Å."
        )
    return "".join(f"<p>{html.escape(note)}</p>" for note in notes)


Draw = Callable[[Axes], None]


def figures(evaluation: "Evaluation") -> list[tuple[str, Draw]]:
    """Names of the figures that the data allow, and what draws them."""
    drawn = _of_energies(evaluation) if "overall" in evaluation.errors else []
    for spec in evaluation.tensors:
        rows = spec.rows().numpy()
        labels = [s.tensors[spec.name] @ rows for s in evaluation.structures]
        found = [p.tensors[spec.name] for p in evaluation.predictions]
        true, found = (np.concatenate(part).ravel() for part in (labels, found))
        known = ~np.isnan(true)
        draw = _parity(true[known], (found - true)[known], spec.unit)
        drawn.append((f"parity of {spec.name}", draw))
    curves = learning_curves(evaluation.model)
    if curves:
        drawn.append(("learning curves", _curves(curves)))
    return drawn


def _of_energies(evaluation: "Evaluation") -> list[tuple[str, Draw]]:
    """Figures of energies and forces, where energies were compared."""
    pairs = zip(evaluation.structures, evaluation.predictions, strict=True)
    pairs = [(s, p) for s, p in pairs if has_energy(s)]
    parts = [residuals(s, p) for s, p in pairs]
    energies = [s.energy / len(s.atomic_numbers) for s, _ in pairs]
    shifts = np.array([float(part.energies[0]) for part in parts]) / MILLI
    drawn = [
        ("parity of energies", _parity(np.array(energies), shifts, "eV/atom")),
        ("errors of energies", _histogram(MILLI * shifts, "meV/atom")),
    ]
    labelled = [
        (s, r) for (s, _), r in zip(pairs, parts, strict=True) if s.forces is not None
    ]
    if labelled:
        forces = np.concatenate([s.forces.ravel() for s, _ in labelled])
        moved = np.concatenate([r.forces.numpy().ravel() for _, r in labelled]) / MILLI
        drawn += [
            ("parity of forces", _parity(forces, moved, "eV/Å")),
            ("errors of forces", _histogram(MILLI * moved, "meV/Å")),
        ]
    direct = [
        (s.forces, p.direct.forces.numpy())
        for s, p in pairs
        if s.forces is not None and p.direct.forces is not None
    ]
    if direct:
        true, found = (
            np.concatenate(part).ravel() for part in zip(*direct, strict=True)
        )
        drawn.append(("parity of direct forces", _parity(true, found - true, "eV/Å")))
    quality = uncertainty_quality(evaluation.structures, evaluation.predictions)
    if quality is not None:
        drawn.append(("calibration", _calibration(quality)))
    return drawn


def _image(name: str, draw: Draw) -> str:
    figure = Figure(figsize=(5, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw(axes)
    axes.set_title(name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='{html.escape(name)}' src='data:image/png;base64,{data}'>"


def _parity(true: np.ndarray, errors: np.ndarray, unit: str) -> Draw:
    step = max(1, len(true) // MOST_POINTS)

    def draw(axes: Axes) -> None:
        axes.plot(true[::step], (true + errors)[::step], ".", markersize=3)
        ends = [true.min(), true.max()]
        axes.plot(ends, ends, "k-", linewidth=0.7)
        axes.set(xlabel=f"true [{unit}]", ylabel=f"predicted [{unit}]")

    return draw


def _histogram(errors: np.ndarray, unit: str) -> Draw:
    def draw(axes: Axes) -> None:
        axes.hist(errors, bins=50)
        axes.set(xlabel=f"predicted - true [{unit}]", ylabel="number")

    return draw


def _calibration(quality: Any) -> Draw:
    def draw(axes: Axes) -> None:
        axes.loglog(MILLI * quality.deviations, MILLI * quality.errors, "o-")
        ends = MILLI * quality.deviations[[0, -1]]
        axes.loglog(ends, ends, "k-", linewidth=0.7)
        axes.set(xlabel="predicted deviation [meV/atom]", ylabel="error [meV/atom]")

    return draw


def learning_curves(model: str) -> dict[str, list[tuple[int, float]]]:
    """Validation errors by step, from the log beside a checkpoint."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(Path(model).parent.glob("csv/version_*/metrics.csv")):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                for name in ("energy_mae", "forces_mae"):
                    if row.get(f"valid/{name}"):
                        point = (int(row["step"]), float(row[f"valid/{name}"]))
                        curves.setdefault(name, []).append(point)
    return curves


def _curves(curves: dict[str, list[tuple[int, float]]]) -> Draw:
    def draw(axes: Axes) -> None:
        for name, points in curves.items():
            unit = UNITS[name.removesuffix("_mae")]
            axes.semilogy(*zip(*points, strict=True), label=f"{name} [{unit}]")
        axes.set(xlabel="step", ylabel="validation error")
        axes.legend()

    return draw
