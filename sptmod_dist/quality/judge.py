"""What the measurements of a take mean, in plain words: faults, doubts and notes with remedies.

The limits stand here. It must not know of audio.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.take_report import TakeReport

DRIFT = {"markers": (0.25, 2.0), "correlation": (1.0, 4.0)}
"""Samples by which the latency may change from the first to the last before it is doubted, and
before a model would learn the clock; windows tell it less exactly than markers."""
OFFSET = (0.001, 0.05)
QUIET_DB = -50.0
NOISE = (0.01, 0.5)
DROPOUTS = 1.0
"""A second: more are a fault."""
STEADY_DB = 0.1
BYPASSED_DB = 0.01
FRACTION = 0.1
_USE_MARKERS = "Play what `sptmod-dist stimulus` makes: its markers tell the delay exactly."
_CLIPPED = "The wet is clipped, first at"
GROWS = 0.1
"""dB of gain a dB of level: from here on the wet is as the dry of a compressor would be."""


def judge(report: TakeReport, frames: int, peak: float) -> tuple[Finding, ...]:
    """The findings that follow from a report's figures.

    Args:
        report: complete but for the findings.
        frames: length of the dry.
        peak: of the wet.
    """
    faulty = (_timing, _steps, _drift, _clipping, _dropouts, _noise)
    rest = (_polarity, _gain, _latency, _offset)
    found = [finding for rule in (*faulty, *rest) for finding in rule(report, frames)]
    return tuple(found + list(_quiet(peak)))


def decibels(share: float) -> str:
    """A ratio of energies in words."""
    return f"{10 * math.log10(share):.0f} dB" if share > 1e-14 else "below -140 dB"


def _timing(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.method == "whole":
        yield Finding(
            "doubt",
            "Hardly a moment of the wet tells its delay, as in steady tones; drift and lost "
            "samples may be missed.",
            _USE_MARKERS,
        )


def _steps(report: TakeReport, frames: int) -> Iterator[Finding]:
    remedy = "Record again with larger audio buffers and nothing else running."
    for step in report.steps[:3]:
        what = "were lost" if step.samples < 0 else "came twice or were put in"
        count = abs(step.samples)
        yield Finding(
            "fault", f"Near {step.seconds:.2f} s {count} samples {what}.", remedy
        )
    if len(report.steps) > 3:
        more = len(report.steps) - 3
        yield Finding("fault", f"At {more} more places samples were lost or doubled.", remedy)


def _drift(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.steps or report.method not in DRIFT:
        return
    samples = report.drift_ppm * 1e-6 * frames
    doubt, fault = DRIFT[report.method]
    if abs(samples) > doubt:
        yield Finding(
            "fault" if abs(samples) > fault else "doubt",
            f"The wet's clock runs apart by {report.drift_ppm:+.2f} ppm: "
            f"{abs(samples):.1f} samples from the first to the last.",
            "Play and record with one converter, or let one clock drive both.",
        )


def _clipping(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.clipping_at is not None:
        yield Finding(
            "fault",
            f"{_CLIPPED} {report.clipping_at:.3f} s.",
            "Record again at a lower level, or export without clipping.",
        )


def may_clip(report: TakeReport) -> TakeReport:
    """The same where a flat wave at full scale may be the device's own: a doubt, no fault."""
    return replace(report, findings=tuple(map(_softened, report.findings)))


def _softened(finding: Finding) -> Finding:
    if not finding.what.startswith(_CLIPPED):
        return finding
    remedy = "It is in order where the device does so; else lower its output."
    return Finding("doubt", finding.what, remedy)


def _dropouts(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.dropouts:
        count = len(report.dropouts)
        places = ", ".join(f"{place:.3f} s" for place in report.dropouts[:3])
        more = f" and at {count - 3} more places" if count > 3 else ""
        yield Finding(
            "fault" if count > DROPOUTS * frames / report.rate else "doubt",
            f"The wet drops out at {places}{more} while the dry goes on.",
            "Listen there; record again with larger audio buffers if it is no gate.",
        )


def _noise(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.best_esr is None or report.best_esr <= NOISE[0]:
        return
    source = "Repeats differ" if report.noise_from == "repeats" else "There is noise in silence"
    yield Finding(
        "fault" if report.best_esr > NOISE[1] else "doubt",
        f"{source}: no model can come below an ESR of {decibels(report.best_esr)}.",
        "Lower the noise, raise the level, or switch off what moves by itself (LFO, chorus).",
    )


def _polarity(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.polarity < 0:
        yield Finding(
            "doubt",
            "The wet's polarity is turned over.",
            "Check the cables; a model learns it either way, and `check --fix FOLDER --polarity` "
            "turns it back.",
        )


def _gain(report: TakeReport, frames: int) -> Iterator[Finding]:
    if report.gain_db is None:
        return
    low, high = report.gain_db
    if high - low > STEADY_DB:
        return
    if max(abs(low), abs(high)) < BYPASSED_DB:
        yield Finding(
            "doubt",
            "The wet is the dry: the device does nothing.",
            "Check that it is not bypassed and that its threshold is reached.",
        )
    else:
        what = f"The device does not move: its gain stays at {(low + high) / 2:.1f} dB."
        yield Finding("note", what, "Check the threshold if it should compress.")


def _latency(report: TakeReport, frames: int) -> Iterator[Finding]:
    left = report.latency - round(report.latency)
    early = report.latency < -0.5
    if early and (report.gain_slope or 0.0) > GROWS:
        yield Finding(
            "doubt",
            f"The wet is early by {-report.latency:.1f} samples and its gain grows with the level, "
            "as if dry and wet were exchanged.",
            "Give first what went in; an expander whose wet was cut is in order.",
        )
    elif early:
        yield Finding(
            "note",
            f"The wet is early by {-report.latency:.1f} samples.",
            "It was probably cut; the dry's beginning is cut by as much.",
        )
    if abs(left) > FRACTION:
        yield Finding(
            "note",
            f"Whole samples removed, {left:+.2f} of a sample of latency is left.",
            "A model learns it as a filter; `check --fix FOLDER --fraction` removes it.",
        )


def _offset(report: TakeReport, frames: int) -> Iterator[Finding]:
    worst = max(map(abs, report.dc), default=0.0)
    if worst > OFFSET[0]:
        yield Finding(
            "doubt" if worst > OFFSET[1] else "note",
            f"The wet has an offset (DC) of {100 * worst:.1f} % of full scale.",
            "It is removed on the way to training; a large one costs headroom.",
        )


def lossy(subtype: str) -> tuple[Finding, ...]:
    """What there is to say of a wet's sample format, as libsndfile names it."""
    names = {"MPEG_LAYER_III": "MP3", "VORBIS": "Ogg Vorbis", "OPUS": "Ogg Opus"}
    if subtype not in names:
        return ()
    what = f"The wet was stored as {names[subtype]}, which leaves out what is hard to hear."
    return (Finding("doubt", what, "Record WAV or FLAC: a model would learn the loss."),)


def _quiet(peak: float) -> Iterator[Finding]:
    level = 20 * math.log10(max(peak, 1e-10))
    if level < QUIET_DB:
        yield Finding(
            "doubt",
            f"The wet is very quiet: its peak is at {level:.0f} dB.",
            "Raise the recording level.",
        )
