"""Aligning a take: the wet to the dry to the sample, both of one length, the offset removed.

What is outside the content (markers, repeats) is cut off. The fraction of a sample that is left,
and a turned polarity, belong to the device as much as to the recording, so they stay unless asked
for. It must not know of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft

from sptmod_dist.audio import remove_dc
from sptmod_dist.errors import UserError
from sptmod_dist.quality.take_report import TakeReport

LEAST_SECONDS = 0.1
_MARGIN = 4096
"""Samples beyond the ends of what is kept that a fraction's filter sees."""


@dataclass(frozen=True)
class Aligned:
    """A take whose sample n of the wet answers sample n of the dry.

    Shape:
        both `[C, T]`
    """

    dry: np.ndarray
    wet: np.ndarray


def align(
    dry: np.ndarray,
    wet: np.ndarray,
    rate: int,
    report: TakeReport,
    fraction: bool = False,
    polarity: bool = False,
) -> Aligned:
    """Cut both to the content, or to what they have in common where there are no markers.

    Args:
        dry: what went in.
        wet: what came out.
        rate: in Hz.
        report: of `check_take`, of these two.
        fraction: whether to remove the part of the latency below a sample as well.
        polarity: whether to turn the wet over where it is turned.

    Shape:
        dry `[C, T]`, wet `[C', T']`, to `[C, n]` twice: the channels that belong together

    Raises:
        UserError: nothing in common is left.
    """
    shift = round(report.latency)
    start, stop = report.content or (0, dry.shape[1])
    start, stop = max(start, -shift), min(stop, wet.shape[1] - shift)
    if stop - start < LEAST_SECONDS * rate:
        raise UserError(
            f"{report.name or 'the wet'} has nothing in common with the dry at a latency of "
            f"{report.latency:.0f} samples; check that they belong together."
        )
    kept = wet[list(report.wet_channels)]
    if fraction:
        cut = _moved(kept, start + shift, stop + shift, report.latency - shift)
    else:
        cut = kept[:, start + shift : stop + shift]
    sign = report.polarity if polarity else 1
    return Aligned(dry[list(report.dry_channels), start:stop], remove_dc(sign * cut))


def _moved(wet: np.ndarray, start: int, stop: int, late: float) -> np.ndarray:
    """A stretch of the wet as it is `late` samples later, between samples. Shape: `[C, n]`"""
    first, last = max(0, start - _MARGIN), min(wet.shape[1], stop + _MARGIN)
    piece = wet[:, first:last]
    size = fft.next_fast_len(last - first + _MARGIN, real=True)
    turn = np.exp(2j * math.pi * np.arange(size // 2 + 1) / size * late).astype(np.complex64)
    if size % 2 == 0:
        turn[-1] = turn[-1].real
    moved = fft.irfft(fft.rfft(piece, size, axis=1) * turn, size, axis=1)
    return moved[:, start - first : stop - first].astype(np.float32)
