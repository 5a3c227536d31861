"""Devices whose gain is known in closed form or sample by sample, for whatever measures gains."""

from __future__ import annotations

import numpy as np

from sptmod_dist.data.stimulus import tone_schedule, tone_steps


def one_pole_gain(
    rate: int, attack: float = 0.010, release: float = 0.080, delay: float = 0.0
) -> np.ndarray:
    """The gain in dB that a compressor (4:1 over -30 dB of peak) gives the tone steps, [T].

    Its gain follows the wanted one as a one-pole does, in dB, with the time constants given in
    seconds, and comes `delay` seconds late.
    """
    gain, now = [], 0.0
    for step in tone_schedule(rate):
        aim = -0.75 * max(0.0, step.level_db + 30)
        seconds = attack if aim < now else release
        way = np.exp(-np.arange(1, step.stop - step.start + 1) / (seconds * rate))
        gain.append(aim + (now - aim) * way)
        now = float(gain[-1][-1])
    whole = np.concatenate(gain)
    late = round(delay * rate)
    return np.concatenate([np.full(late, whole[0]), whole[: len(whole) - late]])


def compressed(rate: int, **how: float) -> tuple[np.ndarray, np.ndarray]:
    """The tone steps and what the compressor makes of them, each [1, T]."""
    x = tone_steps(rate)[None].astype(np.float64)
    return x, x * 10 ** (one_pole_gain(rate, **how) / 20)
