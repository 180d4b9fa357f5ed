"""Freed memory is kept between the steps of a training on CPUs.

A step frees thousands of arrays of a few megabytes. The C library hands each back to
the system, which must clear its pages again for the next one; the engine, too, tells it
not to (``cpp/src/memory.cpp``).
"""

import ctypes


TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of the parameters in glibc's ``malloc.h``."""
LARGEST = 32 * 1024 * 1024
"""Bytes; the largest threshold of the C library on 64 bits."""
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Raise the thresholds of this process; False where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    choices = {MMAP_THRESHOLD: LARGEST, TRIM_THRESHOLD: NEVER, TOP_PAD: 2 * LARGEST}
    return all(mallopt(name, value) == 1 for name, value in choices.items())
