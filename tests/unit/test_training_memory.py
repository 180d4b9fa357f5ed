"""Arrays that are freed and made again cost no pages once memory is kept."""

import subprocess
import sys


FAULTS = """
import resource, sys
import torch
from petmad.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    arrays = [torch.ones(500_000) for _ in range(4)]

step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(choice):
    command = [sys.executable, "-c", FAULTS, choice]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_kept_memory_is_not_cleared_again():
    assert faults("keep") < 0.1 * faults("leave")
