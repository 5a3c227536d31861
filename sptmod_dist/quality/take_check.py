"""Checking one take: what went into a device against what came out of it.

Every measurement has its own file; this one puts them in order. It must not know of files,
manifests or devices.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sptmod_dist.data.recording_checks import SILENCE, first_clipping
from sptmod_dist.quality.channels import Channels, pair_channels, swapped
from sptmod_dist.quality.delay import Timing, find_timing
from sptmod_dist.quality.dropouts import find_dropouts
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.frames import Frames, make_frames, offset_of
from sptmod_dist.quality.judge import judge
from sptmod_dist.quality.marked import Marked, find_marked
from sptmod_dist.quality.noise import idle_noise, repeat_noise, settled
from sptmod_dist.quality.rates import other_rate
from sptmod_dist.quality.repeats import Repeat, find_repeats
from sptmod_dist.quality.take_report import Step, TakeReport

__all__ = ["Finding", "Step", "TakeReport", "check_take"]

LEAST_SECONDS = 1.0

LOUDEST = 1e3
"""Of float files: what is louder by 60 dB than full scale is no audio."""


def check_take(
    dry: np.ndarray, wet: np.ndarray, rate: int, wet_rate: int | None = None, name: str = ""
) -> TakeReport:
    """Measure a take and say what is wrong with it.

    Args:
        dry: what went in, with markers or without.
        wet: what came out, as it was recorded: of any length, late or early.
        rate: of the dry, in Hz.
        wet_rate: of the wet; the dry's when None.
        name: for the report, such as the take's id or the file's name.

    Shape:
        dry `[C, T]`, wet `[C', T']`
    """
    empty = TakeReport(name, rate)
    unusable = _unusable(dry, wet, rate, rate if wet_rate is None else wet_rate)
    if unusable:
        return replace(empty, findings=(unusable,))
    channels = pair_channels(dry, wet)
    heard = channels.heard(wet)
    into, out = _mix(dry, heard[0]), _mix(wet, heard[1])
    marked = find_marked(into, out, rate)
    timing = find_timing(into, out - offset_of(out, rate), rate, marked)
    if timing.method == "none":
        return replace(empty, findings=(*channels.findings, _unrelated(into, out, rate, marked)))
    report = _measured(empty, into, out, marked, timing)
    channels = _crossed(dry, wet, channels, timing)
    report = replace(
        report,
        dc=tuple(offset_of(wet[n], rate) for n in channels.wet),
        clipping_at=_clipping(wet, rate),
        dry_channels=channels.dry,
        wet_channels=channels.wet,
    )
    told = (*channels.findings, *_opposed(dry, wet, channels, timing))
    told += (*_incomplete(dry, wet, rate, marked, timing), *_clipped_dry(dry, rate))
    findings = told + judge(report, dry.shape[1], float(np.abs(wet).max()))
    return replace(report, findings=findings)


def _unusable(dry: np.ndarray, wet: np.ndarray, rate: int, wet_rate: int) -> Finding | None:
    """What keeps anything from being measured."""
    if wet_rate != rate:
        what = f"The dry has {rate} Hz and the wet {wet_rate} Hz."
        return Finding("fault", what, "Record both at one rate, or resample one.")
    for side, audio in (("dry", dry), ("wet", wet)):
        peak = float(np.abs(audio[np.isfinite(audio)]).max(initial=0.0))
        if peak > LOUDEST:
            what = f"The {side} is far beyond full scale: its peak is {peak:.3g}."
            return Finding("fault", what, "Export it again with samples from -1 to 1.")
        if audio.shape[1] < LEAST_SECONDS * rate:
            what = f"The {side} lasts {audio.shape[1] / rate:.2f} s."
            return Finding("fault", what, "Record a second at the least.")
        bad = np.flatnonzero(~np.isfinite(audio).all(axis=0))
        if bad.size:
            what = f"The {side} holds a NaN or infinite sample at {bad[0] / rate:.3f} s."
            return Finding("fault", what, "Export it again.")
        if float(np.ptp(audio, axis=1).max()) < SILENCE:
            return Finding("fault", f"The {side} is silent.", "Check cables, routing and levels.")
    return None


def _mix(audio: np.ndarray, channels: tuple[int, ...]) -> np.ndarray:
    """The mean of the channels, which does not care which is which; the first where they cancel."""
    if len(channels) == 1:
        return audio[channels[0]]
    mean = audio[list(channels)].mean(axis=0)
    whole = sum(float(audio[n] @ audio[n]) for n in channels)
    return mean if float(mean @ mean) > 0.01 * whole / len(channels) else audio[channels[0]]


def _unrelated(dry: np.ndarray, wet: np.ndarray, rate: int, marked: Marked | None) -> Finding:
    """A wet that does not follow the dry, and why."""
    distance = None if marked is None else marked.distance
    ratio = other_rate(dry, wet, rate, distance)
    if ratio is None:
        return Finding(
            "fault",
            "The wet does not follow the dry.",
            "Check that these two files belong together and that the device was on"
            + ("." if marked else "; if so, play what `sptmod-dist stimulus` makes, with markers."),
        )
    return Finding(
        "fault",
        f"The wet was recorded at {ratio * rate:.0f} Hz, and its file states {rate} Hz.",
        f"Set player and recorder to {rate} Hz and record again.",
    )


def _measured(
    report: TakeReport, dry: np.ndarray, wet: np.ndarray, marked: Marked | None, timing: Timing
) -> TakeReport:
    """What is told from one channel of each."""
    rate = report.rate
    frames = make_frames(dry, wet, rate, timing)
    content = None if marked is None else marked.content
    inner = frames if content is None else frames.within(*content)
    power = float(inner.wet.mean()) if len(inner.wet) else 0.0
    idle = idle_noise(frames)
    repeated = repeat_noise(wet, _repeats(dry, rate, marked), timing.latency, timing.slope)
    noise = idle if repeated is None else repeated
    return replace(
        report,
        latency=timing.latency,
        method=timing.method,
        drift_ppm=1e6 * timing.slope,
        polarity=timing.polarity,
        steps=timing.steps,
        level_db=_db(power),
        dropouts=tuple(find_dropouts(frames, idle)),
        noise_db=None if idle is None else _db(idle),
        best_esr=None if noise is None or power == 0 else noise / power,
        noise_from="" if noise is None else "silence" if repeated is None else "repeats",
        gain_db=_gain_range(inner),
        gain_slope=_gain_slope(inner),
        content=content,
        delays=tuple(
            (float(place) / rate, float(delay))
            for place, delay in zip(timing.track.middles, timing.track.delays, strict=True)
        ),
    )


def _repeats(dry: np.ndarray, rate: int, marked: Marked | None) -> list[Repeat]:
    """What is heard twice with the same past."""
    if marked is None:
        return settled(find_repeats(dry, rate), rate)
    length = marked.layout.repeat_length
    first, second = marked.repeats[1:]
    alike = np.array_equal(dry[first : first + length], dry[second : second + length])
    return [Repeat(first, second, length)] if alike else []


def _gain_range(frames: Frames) -> tuple[float, float] | None:
    _, _, gains = frames.gains()
    if len(gains) == 0:
        return None
    low, high = np.percentile(gains, [1, 99])
    return float(low), float(high)


def _gain_slope(frames: Frames) -> float | None:
    _, levels, gains = frames.gains()
    if len(gains) < 10 or np.ptp(levels) < 6:
        return None
    return float(np.polyfit(levels, gains, 1)[0])


def _crossed(dry: np.ndarray, wet: np.ndarray, channels: Channels, timing: Timing) -> Channels:
    """With left and right exchanged back, where they are exchanged."""
    if len(dry) != 2 or len(wet) != 2 or not swapped(dry, wet, timing.latency):
        return channels
    fault = Finding(
        "fault",
        "Left and right of the wet are exchanged.",
        "Exchange the cables and record again, or let `check --fix` exchange them.",
    )
    return Channels(channels.dry, channels.wet[::-1], (*channels.findings, fault))


def _opposed(
    dry: np.ndarray, wet: np.ndarray, channels: Channels, timing: Timing
) -> tuple[Finding, ...]:
    """One side turned over against the other."""
    if len(channels.dry) != 2 or timing.steps:
        return ()
    shift = round(timing.latency)
    first, last = max(0, -shift), min(dry.shape[1], wet.shape[1] - shift)
    signs = {
        float(dry[a, first:last] @ wet[b, first + shift : last + shift]) < 0
        for a, b in zip(channels.dry, channels.wet, strict=True)
    }
    what = "Left and right of the wet have opposite polarities."
    return (Finding("doubt", what, "Check the cables."),) if len(signs) == 2 else ()


def _incomplete(
    dry: np.ndarray, wet: np.ndarray, rate: int, marked: Marked | None, timing: Timing
) -> tuple[Finding, ...]:
    """A wet that stops early, markers that were not found."""
    stop = dry.shape[1] if marked is None else marked.content[1]
    missing = (stop + timing.latency - wet.shape[1]) / rate
    found: tuple[Finding, ...] = ()
    if missing > (0.5 if marked is None else 0.0):
        what = f"The wet ends {missing:.2f} s before the dry's content does."
        severity = "doubt" if marked is None else "fault"
        found = (Finding(severity, what, "Record again and stop later."),)
    lost = () if marked is None else marked.lost
    if lost:
        names = " and ".join(lost)
        what = f"In the wet the {names} was not found; drift and lost samples may be missed."
        found += (Finding("doubt", what, "Start recording before, and stop after the markers."),)
    return found


def _clipping(wet: np.ndarray, rate: int) -> float | None:
    place = first_clipping(wet)
    return None if place is None else place / rate


def _clipped_dry(dry: np.ndarray, rate: int) -> tuple[Finding, ...]:
    place = first_clipping(dry)
    if place is None:
        return ()
    what = f"The dry itself is clipped at {place / rate:.3f} s."
    return (Finding("fault", what, "Use music that is not clipped, at a lower level."),)


def _db(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-20)))
