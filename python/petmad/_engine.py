"""The compiled engine, with torch loaded first and versions checked."""

from ._ops import load_ops


load_ops()

from ._core import Engine  # noqa: E402  (needs torch's libraries in the process)


__all__ = ["Engine"]
