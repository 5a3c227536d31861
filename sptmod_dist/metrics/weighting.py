"""Energies as an ear weighs them: pre-emphasised, and A-weighted.

Plain functions on NumPy arrays, in float64; they know nothing of models or files.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

PRE_EMPHASIS = 0.85
"""Of 1 - 0.85 z^-1, which brings up the highs where music has little energy."""

_POLES_HZ = (20.598997, 107.65265, 737.86223, 12194.217)
"""f1 … f4 of IEC 61672-1, annex E."""


def pre_emphasised_energy(audio: np.ndarray) -> float:
    """Sum of squares after the filter 1 - 0.85 z^-1, which starts from silence.

    Shape: [C, T].
    """
    total = 0.0
    for channel in audio:
        x = channel.astype(np.float64)
        x[1:] -= PRE_EMPHASIS * channel[:-1]
        total += float(x @ x)
    return total


def a_weighted_energy(audio: np.ndarray, rate: int) -> float:
    """Sum of squares after A-weighting, by its magnitude in the frequency domain (Parseval).

    Args:
        audio: any real signal.
        rate: samples a second.

    Shape: [C, T].
    """
    size = fft.next_fast_len(audio.shape[-1], real=True)  # zeros at the end change no energy
    weights = a_weighting(fft.rfftfreq(size, 1 / rate)) ** 2
    weights[1 : (size + 1) // 2] *= 2  # the negative frequencies
    total = 0.0
    for channel in audio:
        spectrum = fft.rfft(channel.astype(np.float64), size)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        total += float(power @ weights) / size
    return total


def a_weighting(hertz: np.ndarray) -> np.ndarray:
    """The factor that A-weighting has at a frequency, 1 at 1 kHz.

    Source: IEC 61672-1, its formula of four poles.

    Shape: [F] -> [F].
    """
    return _four_poles(np.asarray(hertz, dtype=np.float64)) / _four_poles(np.array(1000.0))


def _four_poles(hertz: np.ndarray) -> np.ndarray:
    squared = np.square(hertz)
    f1, f2, f3, f4 = (pole**2 for pole in _POLES_HZ)
    middle = np.sqrt((squared + f2) * (squared + f3))
    return f4 * squared**2 / ((squared + f1) * middle * (squared + f4))
