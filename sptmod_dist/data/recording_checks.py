"""What makes a recording unfit for training: NaN, clipping, silence, lengths that differ.

Each refusal is one sentence that names the file. It must not know of manifests or models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sptmod_dist.errors import UserError

SILENCE = 1e-6  # -120 dB: below all that a 16-bit recording can hold


def check_fits(path: Path, samples: np.ndarray, input_path: Path, source: np.ndarray) -> None:
    """Refuse a file that is not as long as its input.

    Shape:
        samples `[C, T]`, source `[C, T]`; the channels may differ
    """
    if samples.shape[1] != source.shape[1]:
        raise UserError(
            f"{path} has {samples.shape[1]} samples and its input {input_path} has "
            f"{source.shape[1]}; cut them to the same length, aligned to the sample."
        )


def check_heard(path: Path, samples: np.ndarray) -> None:
    """Refuse silence, digital or below -120 dB."""
    if float(np.abs(samples).max()) < SILENCE:
        raise UserError(f"{path} is silent; check the recording.")


def check_finite(path: Path, samples: np.ndarray, rate: int) -> None:
    """Refuse NaN and infinity, and say where.

    Shape:
        samples `[C, T]`
    """
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=0))
    if bad.size:
        raise UserError(
            f"{path} holds a NaN or infinite sample at {bad[0] / rate:.3f} s; export it again."
        )


def first_clipping(samples: np.ndarray, run: int = 4) -> int | None:
    """Where a wave is first flat at its highest or lowest value, full scale or beyond, for `run`
    samples; None: nowhere.

    Music normalised to a 0 dB peak touches full scale for a sample or two and passes; a converter
    that ran out of range flattens the wave. A float file may exceed full scale: that alone is no
    clipping.

    Shape:
        samples `[C, T]`
    """
    starts = [_first_flat(sign * channel, run) for channel in samples for sign in (1, -1)]
    return min((start for start in starts if start is not None), default=None)


def _first_flat(wave: np.ndarray, run: int) -> int | None:
    peak = wave.max()
    if peak < 0.9999:
        return None
    before = np.concatenate([[0], np.cumsum(wave == peak)])  # samples at the peak before each
    flat = np.flatnonzero(before[run:] - before[:-run] == run)
    return int(flat[0]) if flat.size else None
