"""Figures that describe how close an effect comes to a device; these report, `losses.py` trains."""

from sptmod_dist.metrics.aliasing import Spurs, probe_tones, spurs, tone
from sptmod_dist.metrics.energies import (
    StaticGain,
    best_static_gain,
    energy,
    error_energy,
    esr,
    ratio,
)
from sptmod_dist.metrics.gains import GainError, gain_error
from sptmod_dist.metrics.levels import (
    FRAME_SECONDS,
    LEAST_FRAMES,
    LevelCurve,
    frame_levels,
    frame_samples,
    gain_curve,
    gain_of_levels,
    level_curve,
)
from sptmod_dist.metrics.loudness import loudness, loudness_difference
from sptmod_dist.metrics.timing import Answer, TimingError, answers, timing_error
from sptmod_dist.metrics.tone_steps import ToneStep, find_tone_steps
from sptmod_dist.metrics.weighting import (
    a_weighted_energy,
    a_weighting,
    pre_emphasised_energy,
)

__all__ = [
    "FRAME_SECONDS",
    "frame_samples",
    "LEAST_FRAMES",
    "Answer",
    "GainError",
    "LevelCurve",
    "Spurs",
    "StaticGain",
    "TimingError",
    "ToneStep",
    "a_weighted_energy",
    "a_weighting",
    "answers",
    "best_static_gain",
    "energy",
    "error_energy",
    "esr",
    "find_tone_steps",
    "frame_levels",
    "gain_curve",
    "gain_error",
    "gain_of_levels",
    "level_curve",
    "loudness",
    "loudness_difference",
    "pre_emphasised_energy",
    "probe_tones",
    "ratio",
    "spurs",
    "timing_error",
    "tone",
]
