"""Arrays that are freed stay with the process once memory is kept."""

import subprocess
import sys


LEFT = """
import sys
import torch
from petmad.training.memory import keep_freed_memory

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = anonymous()
arrays = [torch.ones(6_250_000) for _ in range(8)]
held = anonymous() - before
del arrays
print((anonymous() - before) / held)
"""


def share_left(choice):
    """Part of 200 MB, in arrays of 25 MB, that a process keeps when they are freed."""
    command = [sys.executable, "-c", LEFT, choice]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_freed_memory_stays():
    assert share_left("keep") > 0.9
    assert share_left("leave") < 0.1
