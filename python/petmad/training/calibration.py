"""Whether predicted standard deviations are as large as the errors."""

from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
    """Errors against predicted standard deviations, in bins of equal numbers.

    Attributes:
        deviations: [n_bins] root mean square of the predicted ones.
        errors: [n_bins] root mean square of the errors.
        slope: of log(errors) over log(deviations), 1 where they go together; NaN where
            the deviations hardly differ.
        ratio: root mean square of all errors over that of all deviations, 1 where they
            are as large.
    """

    deviations: np.ndarray
    errors: np.ndarray
    slope: float
    ratio: float


FEWEST_PER_BIN = 5
SMALLEST_RANGE = 1.5
"""Ratio of the largest to the smallest deviation of a bin below which no slope is."""


def calibrate(
    deviations: np.ndarray, errors: np.ndarray, n_bins: int = 10
) -> Calibration:
    """Compare predicted standard deviations with errors.

    Args:
        deviations: [n] predicted, positive.
        errors: [n] predicted minus true, in the same unit.
        n_bins: at most; bins of fewer than 5 are joined.
    """
    deviations, errors = np.asarray(deviations), np.asarray(errors)
    n_bins = max(1, min(n_bins, len(errors) // FEWEST_PER_BIN))
    bins = np.array_split(np.argsort(deviations), n_bins)
    expected = np.array([_rms(deviations[b]) for b in bins])
    found = np.array([_rms(errors[b]) for b in bins])
    slope = float("nan")
    if expected[-1] > SMALLEST_RANGE * expected[0] and (found > 0).all():
        slope = float(np.polyfit(np.log(expected), np.log(found), 1)[0])
    return Calibration(expected, found, slope, _rms(errors) / _rms(deviations))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
