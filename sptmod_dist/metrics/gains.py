"""The error of the gain: how far a model's gain reduction is from the device's, in dB.

Plain functions on NumPy arrays; they know nothing of models or files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class GainError(NamedTuple):
    """|G_model - G_device| over all frames of 10 ms whose input is audible, in dB."""

    mean: float
    p95: float
    """Its 95th percentile: what the loudest mistakes are like."""


def gain_error(gain: np.ndarray, target: np.ndarray) -> GainError | None:
    """Compare two gains over time; None where the input is nowhere audible, NaN where a model's
    output is no number.

    Args:
        gain: of a model, by `gain_curve`.
        target: of the device, for the same input.

    Shape: [K] twice.
    """
    heard = np.isfinite(target)
    if not heard.any():
        return None
    error = np.abs(gain[heard] - target[heard])
    return GainError(float(error.mean()), float(np.percentile(error, 95)))
