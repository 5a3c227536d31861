"""Which channels of a take belong together: mono and stereo mixed up, silent or swapped sides.

It must not know of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sptmod_dist.quality.findings import Finding

SILENT_DB = -50.0
"""A channel so far below the loudest has only crosstalk and noise."""
SAME_DB = -50.0
"""Channels whose difference is so far below them are the same recording."""
_SURE = 0.1


@dataclass(frozen=True)
class Channels:
    """Those that are kept, in order, and what there is to say about it."""

    dry: tuple[int, ...]
    wet: tuple[int, ...]
    findings: tuple[Finding, ...] = ()

    def heard(self, wet: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of both sides that sound in the wet. Shape: wet `[C', T']`"""
        sounding = _sounding(wet)
        pairs = [(a, b) for a, b in zip(self.dry, self.wet, strict=True) if sounding[b]]
        return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def pair_channels(dry: np.ndarray, wet: np.ndarray) -> Channels:
    """Which channels of the wet answer which of the dry, before they are aligned.

    Shape:
        dry `[C, T]`, wet `[C', T']`
    """
    into, out = len(dry), len(wet)
    if into == out:
        return _alike(dry, wet)
    if into == 1:
        return _one_of(wet)
    if out == 1 and _same(dry):
        what = f"The dry has {into} channels that are the same, the wet has one."
        return Channels((0,), (0,), (Finding("note", what, "The first is used."),))
    fault = Finding(
        "fault",
        f"The dry has {into} channels and the wet {out}.",
        "Record or export both with the same number.",
    )
    count = min(into, out)
    return Channels(tuple(range(count)), tuple(range(count)), (fault,))


def swapped(dry: np.ndarray, wet: np.ndarray, latency: float) -> bool:
    """Whether left and right are exchanged: each side is more like the other one.

    Shape:
        dry `[2, T]`, wet `[2, T']`
    """
    shift = round(latency)
    first, last = max(0, -shift), min(dry.shape[1], wet.shape[1] - shift)
    if last <= first:
        return False
    likeness = _likeness(dry[:, first:last], wet[:, first + shift : last + shift])
    crossed = likeness[0, 1] + likeness[1, 0]
    return bool(crossed > likeness[0, 0] + likeness[1, 1] + 2 * _SURE)


def _alike(dry: np.ndarray, wet: np.ndarray) -> Channels:
    every = tuple(range(len(dry)))
    lost = [
        channel
        for channel in np.flatnonzero(~_sounding(wet)).tolist()
        if _sounding(dry)[channel] and len(every) > 1
    ]
    findings = tuple(
        Finding(
            "fault",
            f"{_name(channel, len(every))} of the wet is silent, of the dry it is not.",
            "Check the cable or the channel's routing and record again.",
        )
        for channel in lost
    )
    return Channels(every, every, findings)


def _one_of(wet: np.ndarray) -> Channels:
    """The channel of several that a mono dry made."""
    sounding = np.flatnonzero(_sounding(wet)).tolist()
    if len(sounding) == 1:
        names = ", ".join(_name(n, len(wet)) for n in range(len(wet)) if n not in sounding)
        what = f"The dry is mono and the wet has {len(wet)} channels, of which {names} is silent."
        remedy = f"{_name(sounding[0], len(wet))} is used; record in mono to save space."
        return Channels((0,), (sounding[0],), (Finding("note", what, remedy),))
    if _same(wet):
        what = f"The dry is mono and the wet has {len(wet)} channels that are the same."
        return Channels((0,), (0,), (Finding("note", what, "The first is used."),))
    fault = Finding(
        "fault",
        f"The dry is mono and the wet has {len(wet)} channels that differ.",
        "Export the channel that comes from the device alone, as mono.",
    )
    return Channels((0,), (int(np.argmax(_energies(wet))),), (fault,))


def _energies(audio: np.ndarray) -> np.ndarray:
    return np.array([float(channel @ channel) for channel in audio])


def _sounding(audio: np.ndarray) -> np.ndarray:
    energies = _energies(audio - audio.mean(axis=1, keepdims=True))
    return energies > 10 ** (SILENT_DB / 10) * energies.max()


def _same(audio: np.ndarray) -> bool:
    first = audio[0]
    differences = _energies(audio[1:] - first)
    return bool((differences <= 10 ** (SAME_DB / 10) * float(first @ first)).all())


def _likeness(dry: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Of each dry channel with each wet one, 0 to 1."""
    scale = np.sqrt(np.outer(_energies(dry), _energies(wet))) + 1e-20
    return np.abs(dry @ wet.T) / scale


def _name(channel: int, count: int) -> str:
    return ("The left channel", "The right channel")[channel] if count == 2 else (
        f"Channel {channel + 1}"
    )
