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
    """Compare two gains over time; None where the input is nowhere audible.

    Args:
        gain: of a model, by `gain_curve`.
        target: of the device, for the same input.

    Shape: [K] twice.
    """
    error = np.abs(gain - target)
    error = error[np.isfinite(error)]
    if not error.size:
        return None
    return GainError(float(error.mean()), float(np.percentile(error, 95)))
