"""What an evaluation measures, by the names that its files use, and how people read them.

Names and words only; definitions stand where each figure is computed, in `metrics` and `losses.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sptmod_dist.data.controls import Setting

WAYS = ("model", "static_gain", "unprocessed")
"""What is compared with the device: the model, streamed; the input times the best static gain of
each item, chosen with the target known; the input as it is."""

WAY_TITLES = {
    "model": "model",
    "static_gain": "best static gain",
    "unprocessed": "unprocessed",
}


class Figure(NamedTuple):
    """How a figure is shown."""

    title: str
    digits: int
    unit: str = ""


ESRS = {
    "esr": Figure("ESR", 4),
    "esr_pre_emphasised": Figure("ESR, pre-emphasised", 4),
    "esr_a_weighted": Figure("ESR, A-weighted", 4),
}
"""Ratios of energies, which are pooled over items as well."""

FIGURES = {
    "loss": Figure("loss", 4),
    "loss_mae": Figure("MAE", 5),
    "loss_esr": Figure("ESR, as in the loss", 4),
    "loss_mr_stft": Figure("MR-STFT", 4),
    "loss_mr_eesr": Figure("MR-EESR", 4),
    **ESRS,
    "gain_error_db": Figure("gain error, mean", 2, "dB"),
    "gain_error_p95_db": Figure("gain error, 95 %", 2, "dB"),
    "attack_error_ms": Figure("attack error", 2, "ms"),
    "release_error_ms": Figure("release error", 2, "ms"),
    "steps_missed": Figure("steps missed, share", 2),
    "lufs_difference": Figure("loudness difference", 2, "LU"),
}
"""Of each item, each way."""

ALIASING = Figure("aliasing on tones, worst", 1, "dB")
"""Of the model under an item's setting."""

LOSS_TERMS = {
    "loss": "total",
    "loss_mae": "mae",
    "loss_esr": "esr",
    "loss_mr_stft": "mr_stft",
    "loss_mr_eesr": "mr_eesr",
}
"""Which term of the loss a figure is."""


def written(value: float | None, digits: int) -> str:
    """A figure for people; "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if not float(text) else text


def short(value: Setting) -> str:
    """A setting in three digits, never with an exponent of ten."""
    return value if isinstance(value, str) else f"{float(f'{value:.3g}'):.10g}"
