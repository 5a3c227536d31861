"""Figures that describe how close an effect comes to a device; these report, `losses.py` trains."""

from sptmod_dist.metrics.energies import (
    StaticGain,
    best_static_gain,
    energy,
    error_energy,
    esr,
    ratio,
)
from sptmod_dist.metrics.levels import (
    LEAST_FRAMES,
    LevelCurve,
    frame_levels,
    gain_curve,
    gain_of_levels,
    level_curve,
)

__all__ = [
    "LEAST_FRAMES",
    "LevelCurve",
    "StaticGain",
    "best_static_gain",
    "energy",
    "error_energy",
    "esr",
    "frame_levels",
    "gain_curve",
    "gain_of_levels",
    "level_curve",
    "ratio",
]
