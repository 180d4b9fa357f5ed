"""Where the graph a model keeps changes along a path of structures."""

from collections.abc import Callable

from graphs import answer
from structures import Structure

from petmad.model import Potential


def n_kept(model: Potential, structure: Structure) -> int:
    """Number of directed edges within both of their ends' cutoffs."""
    stats = answer(model, structure, ["cutoff_stats"]).outputs["cutoff_stats"]
    return int(stats[:, 1].sum())


def bisect_change(
    model: Potential, at: Callable[[float], Structure], low: float, high: float
) -> tuple[float, float]:
    """Two points of the path, 1e-9 apart, between which an edge appears or vanishes."""
    first = n_kept(model, at(low))
    assert n_kept(model, at(high)) != first, "no edge changes on this path"
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        if n_kept(model, at(middle)) == first:
            low = middle
        else:
            high = middle
    return low, high
