"""Energies of errors: ESR, and the best that a static gain can do.

Plain functions on NumPy arrays or CPU tensors, in float64, without gradients or floors: these
report, `losses.py` trains. They know nothing of models or files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class StaticGain(NamedTuple):
    """The best that a mere volume knob can do."""

    gain: float
    """The factor `g` that minimises the sum of (y - g x)^2."""
    error: float
    """That least sum."""
    esr: float
    """The same over the energy of y."""


def energy(audio: ArrayLike) -> float:
    """Sum of squares."""
    flat = np.asarray(audio, dtype=np.float64).ravel()
    return float(flat @ flat)


def error_energy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Sum of squared differences.

    Raises:
        ValueError: shapes that differ.
    """
    p, y = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != y.shape:
        raise ValueError(f"prediction {p.shape} and target {y.shape} must have one shape")
    return energy(p - y)


def ratio(error: float, reference: float) -> float:
    """An error over a reference: infinite against nothing, unless the error is nothing too."""
    if reference == 0:
        return 0.0 if error == 0 else float("inf")
    return error / reference


def esr(prediction: ArrayLike, target: ArrayLike) -> float:
    """Error-to-signal ratio: the error's energy over the target's, over all samples given.

    Shape: any, both the same.
    """
    return ratio(error_energy(prediction, target), energy(target))


def best_static_gain(input: ArrayLike, target: ArrayLike) -> StaticGain:
    """The one number that, multiplied onto the input, comes closest to the target.

    Shape: any, both the same. A silent input gets the gain 0.
    """
    x, y = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"input {x.shape} and target {y.shape} must have one shape")
    size = energy(x)
    gain = float(x.ravel() @ y.ravel()) / size if size else 0.0
    error = energy(y - gain * x)
    return StaticGain(gain, error, ratio(error, energy(y)))
