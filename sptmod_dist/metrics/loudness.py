"""Loudness of whole items in LUFS (ITU-R BS.1770-4), by pyloudnorm.

It knows nothing of models or files.
"""

from __future__ import annotations

import math

import numpy as np

LEAST_RATE = 4_000
"""Hz: the standard's shelf at 1.5 kHz has no place below twice that and some room."""


def loudness(audio: np.ndarray, rate: int) -> float | None:
    """Integrated loudness in LUFS; None where the standard has none.

    That is: audio shorter than a block of 0.4 s, more than five channels, a rate below
    `LEAST_RATE`, or nothing above the gate of -70 LUFS.

    Shape: [C, T].
    """
    import pyloudnorm  # here: it brings scipy.signal, which is not needed to ask for help

    if rate < LEAST_RATE:
        return None
    try:
        value = float(pyloudnorm.Meter(rate).integrated_loudness(audio.T))
    except ValueError:  # too short, or too many channels
        return None
    return value if math.isfinite(value) else None


def loudness_difference(audio: float | None, target: float | None) -> float | None:
    """How much louder than the target, in LU; None where either has no loudness."""
    return None if audio is None or target is None else audio - target
