"""Total charge and spin multiplicity of a structure, as ASE's ``info`` has them."""

from collections.abc import Mapping
from typing import Any


WHOLE = 1e-6
"""What a total charge or spin multiplicity may differ from a whole number."""
MOST = 1_000_000
"""Largest charge or multiplicity that is read; a model has limits of its own."""


def charge_and_spin(info: Mapping[str, Any], source: str) -> tuple[int, int]:
    """Total charge and 2S + 1, by default 0 and 1.

    Args:
        info: ``charge``, and ``spin_multiplicity`` or ``spin``.
        source: whose it is, for messages.

    Raises:
        ValueError: one of them is no whole number, or there are two spins.
    """
    names = [name for name in ("spin_multiplicity", "spin") if name in info]
    spins = [whole_number(info[name], name, source) for name in names]
    if len(set(spins)) > 1:
        raise ValueError(
            f"{source} has `spin_multiplicity` {spins[0]} and `spin` {spins[1]} in its "
            "`info`, both of which mean 2S + 1; remove one"
        )
    charge = whole_number(info.get("charge", 0), "charge", source)
    return charge, spins[0] if spins else 1


def whole_number(value: Any, name: str, source: str) -> int:
    """The number meant; sums of floats may be off by rounding."""
    try:
        number = float(value)
        nearest = round(number)
        is_whole = abs(number - nearest) < WHOLE and abs(nearest) <= MOST
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole:
        found = value.tolist() if hasattr(value, "tolist") else value
        raise ValueError(
            f"`info[{name!r}]` of {source} must be a whole number, got {found!r}; "
            "correct it"
        )
    return nearest
