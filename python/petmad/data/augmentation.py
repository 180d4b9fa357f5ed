"""Random elements of O(3), a function of seed, epoch and structure."""

import numpy as np
import torch


def random_rotation(seed: int, epoch: int, index: int) -> torch.Tensor:
    """A uniformly random rotation, times inversion half of the time.

    Args:
        seed: of the training.
        epoch: from 0.
        index: of the structure in its data set.

    Returns:
        [3, 3] float64, orthogonal; the same for the same arguments.
    """
    random = np.random.default_rng([seed, epoch, index])
    w, x, y, z = _unit(random.standard_normal(4))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return torch.from_numpy(rotation * random.choice([-1.0, 1.0]))


def _unit(quaternion: np.ndarray) -> np.ndarray:
    return quaternion / np.linalg.norm(quaternion)
