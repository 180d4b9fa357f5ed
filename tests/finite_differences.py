"""Derivatives by finite differences with a swept step.

Truncation falls with the fourth power of the step and rounding grows with its inverse,
so one step proves nothing: a right derivative has a step where both are small, a wrong
one has none.
"""

from collections.abc import Callable


STEPS = (1e-3, 3e-4, 3e-3, 1e-4, 1e-2, 3e-5)
"""Steps, of the unit of whatever is moved; the likeliest first."""


def derivative(function: Callable[[float], float], step: float) -> float:
    """Central difference of fourth order of ``function`` at 0."""
    near = function(step) - function(-step)
    far = function(2.0 * step) - function(-2.0 * step)
    return (8.0 * near - far) / (12.0 * step)


def assert_derivative(
    function: Callable[[float], float],
    expected: float,
    scale: float,
    relative: float,
    what: str,
) -> None:
    """``expected`` is the derivative to ``relative`` of ``scale``; NaN is not.

    The function must change at all: an energy that ignores what is moved proves
    nothing.
    """
    assert scale > 0, f"{what}: nothing to compare"
    assert function(1e-2) != function(-1e-2), f"{what}: nothing moved"
    errors = []
    for step in STEPS:
        errors.append(abs(derivative(function, step) - expected))
        if errors[-1] <= relative * scale:
            return
    raise AssertionError(
        f"{what}: {expected:.12g} is off by at least {min(errors):.3g} at every step, "
        f"allowed {relative * scale:.3g}"
    )
