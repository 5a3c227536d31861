"""The two files of a fit: read, checked and aligned, or refused with the remedy.

It knows audio files and the check of takes, and not what becomes of the pair.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.errors import UserError
from sptmod_dist.quality.align import align
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.judge import lossy
from sptmod_dist.quality.picture import Curves, make_curves
from sptmod_dist.quality.take_check import check_take
from sptmod_dist.quality.take_report import TakeReport


@dataclass(frozen=True)
class Pair:
    """What went in and what came out, aligned to the sample and of one length."""

    dry: np.ndarray
    """[C, T]"""
    wet: np.ndarray
    """[C, T]"""
    rate: int
    """Hz."""
    report: TakeReport
    curves: Curves | None
    """For a picture."""


def read_pair(dry: Path, wet: Path, say: Callable[[str], None]) -> Pair:
    """Read, check and align two files.

    Args:
        dry: what went into the device.
        wet: what came out of it.
        say: told of each finding.

    Raises:
        UserError: a file cannot be read, or the pair is unfit to learn from.
    """
    if dry.resolve() == wet.resolve():
        raise UserError(f"{dry} is given twice: give what went in, then what came out")
    inside, rate = audio.read(dry)
    outside, wet_rate = audio.read(wet)
    report = check_take(inside, outside, rate, wet_rate, name=wet.name)
    report = replace(report, findings=(*report.findings, *lossy(audio.info(wet).subtype)))
    for finding in report.findings:
        say(f"{finding.severity}: {_in_words(finding)}")
    _refuse_faults(dry, wet, report)
    aligned = align(inside, outside, rate, report)
    curves = make_curves(inside, outside, rate, report)
    return Pair(aligned.dry, aligned.wet, rate, report, curves)


def _refuse_faults(dry: Path, wet: Path, report: TakeReport) -> None:
    faults = report.of("fault")
    if not faults:
        return
    others = f" (the first of {len(faults)} faults)" if len(faults) > 1 else ""
    raise UserError(
        f"{wet} cannot be learned from{others}: {_in_words(faults[0])}; "
        f"a picture and all figures: sptmod-dist check {shlex.join([str(dry), str(wet)])}"
    )


def _in_words(finding: Finding) -> str:
    """Both sentences as one."""
    what, remedy = (text.strip().rstrip(".") for text in (finding.what, finding.remedy))
    if remedy[1:2].islower():
        remedy = remedy[0].lower() + remedy[1:]
    return f"{what}: {remedy}" if remedy else what
