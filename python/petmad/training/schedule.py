"""The learning rate as a function of the step alone, so that any can be resumed."""

import math


def learning_rate_factor(step: int, n_steps: int, n_warmup: int) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0; between 0 and 1."""
    if step < n_warmup:
        return step / n_warmup
    progress = (step - n_warmup) / max(n_steps - n_warmup, 1)
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
