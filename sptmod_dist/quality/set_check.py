"""What only all takes together tell: swapped and doubled takes, controls that move nothing.

Takes are compared by their sketches: each one's gains are predicted from its settings and the other
takes. It must not know of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sptmod_dist.names import listed
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.misfits import (
    LEAST_TAKES,
    MOVES_DB,
    TAKES_A_CONTROL,
    Misfits,
    moves,
    shift_of,
)
from sptmod_dist.quality.settings_fit import components
from sptmod_dist.quality.sketch import WINDOWS_A_SECOND, Sketch
from sptmod_dist.quality.take_report import TakeReport

SHARED_SECONDS = 4
"""Of the dry that all takes have in common at their beginning, to be compared moment by moment."""


@dataclass(frozen=True)
class Entry:
    """A take of a set: its report, its sketch (None where it is unfit), its place in the space of
    the controls."""

    report: TakeReport
    sketch: Sketch | None
    vector: tuple[float, ...]

    @property
    def name(self) -> str:
        """Of the take."""
        return self.report.name


def check_set(entries: Sequence[Entry], controls: Sequence[str]) -> tuple[Finding, ...]:
    """Compare the takes of a set.

    Args:
        entries: in the order in which they were recorded, unfit ones too.
        controls: their names, in the order of the vectors.
    """
    sound = [entry for entry in entries if entry.sketch is not None]
    found = [*_copies(sound), *_latencies(sound), *_polarities(sound), *_few(sound, controls)]
    features = _features(sound) if len(sound) >= LEAST_TAKES else None
    if features is None:
        return tuple(found)
    vectors = np.array([entry.vector for entry in sound]).reshape(len(sound), -1)
    parts = components(features, MOVES_DB)
    if parts.values.shape[1] == 0:
        return (*found, *_stands_still(controls))
    shift = shift_of(vectors, parts)
    if shift:
        return (*found, _shifted(shift))
    search = Misfits(vectors, features)
    names = [entry.name for entry in sound]
    return (*found, *_misfits(names, search), *_inert(controls, search))


def _copies(entries: Sequence[Entry]) -> Iterator[Finding]:
    """The same recording under several settings."""
    groups: dict[bytes, list[Entry]] = {}
    for entry in entries:
        assert entry.sketch is not None
        groups.setdefault(entry.sketch.wet, []).append(entry)
    for group in groups.values():
        if len({entry.vector for entry in group}) > 1:
            yield Finding(
                "doubt",
                f"{listed([entry.name for entry in group])} hold the same audio, sample by "
                "sample, under different settings.",
                "Record anew what was copied; it is in order where the device does nothing there.",
            )
        elif len(group) > 1:
            yield Finding(
                "doubt",
                f"{listed([entry.name for entry in group])} hold the same audio, sample by "
                "sample.",
                "Leave out all but one, so that none is trained on and tested as well.",
            )


def _few(entries: Sequence[Entry], controls: Sequence[str]) -> Iterator[Finding]:
    """What so many takes cannot tell."""
    vectors = np.array([entry.vector for entry in entries]).reshape(len(entries), len(controls))
    turned = int(np.count_nonzero(np.ptp(vectors, axis=0))) if len(entries) > 1 else 0
    enough = max(LEAST_TAKES, TAKES_A_CONTROL * turned)
    if turned and len(entries) < enough:
        yield Finding(
            "note",
            f"{len(entries)} takes that turn {turned} control{'s' * (turned > 1)} are too few to "
            "tell surely whether takes are exchanged or a knob stood elsewhere.",
            f"From {enough} takes on it is told; listen to some.",
        )


def _latencies(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Takes whose latency differs from that of nearly all."""
    late = np.array([entry.report.latency for entry in entries])
    if len(late) < LEAST_TAKES:
        return
    usual = float(np.median(late))
    others = np.flatnonzero(np.abs(late - usual) > 1.0).tolist()
    if 0 < len(others) <= len(late) // 5:
        yield Finding(
            "doubt",
            f"{listed([entries[n].name for n in others])} {_have(others)} another latency "
            f"({late[others[0]]:.1f} samples) than the rest ({usual:.1f}).",
            "Listen to the beginnings; it is in order where recordings were started by hand.",
        )


def _polarities(entries: Sequence[Entry]) -> Iterator[Finding]:
    turned = [entry.name for entry in entries if entry.report.polarity < 0]
    if 0 < len(turned) < len(entries):
        yield Finding(
            "doubt",
            f"{len(turned)} of {len(entries)} takes are turned over: {listed(turned)}.",
            "Record all with the same cables, or turn them with `check --fix --polarity`.",
        )


def _features(entries: Sequence[Entry]) -> np.ndarray | None:
    """Rows that can be compared: gains over the time that all have in common, else level curves.
    `[N, F]`"""
    sketches = [entry.sketch for entry in entries if entry.sketch is not None]
    shared = 0
    for seconds in zip(*(sketch.seconds for sketch in sketches), strict=False):
        if len(set(seconds)) > 1:
            break
        shared += 1
    if shared >= SHARED_SECONDS:
        count = min(shared * WINDOWS_A_SECOND, *(len(sketch.gains) for sketch in sketches))
        return np.stack([sketch.gains[:count].ravel() for sketch in sketches]).astype(float)
    curves = np.stack([sketch.curve.ravel() for sketch in sketches])
    known = np.isfinite(curves).all(axis=0)
    return curves[:, known] if known.sum() >= 4 else None


def _stands_still(controls: Sequence[str]) -> Iterator[Finding]:
    if controls:
        yield Finding(
            "fault",
            "All takes sound alike: no control moves anything.",
            "Check that the controls reach the device, and that its threshold is reached.",
        )


def _misfits(names: Sequence[str], search: Misfits) -> Iterator[Finding]:
    """Takes that sound unlike what their settings and the others let expect."""
    for first, second in search.exchanged:
        yield Finding(
            "fault",
            f"{names[first]} and {names[second]} seem to be exchanged: each fits the settings of "
            "the other.",
            "Listen to both, and exchange their files or record them again.",
        )
    if search.off:
        which = [names[number] for number in search.off]
        yield Finding(
            "doubt",
            f"{listed(which)} {'do' if len(which) > 1 else 'does'} not sound as the settings and "
            "the other takes let expect.",
            "Listen, compare with the plan, and record again if a knob stood elsewhere.",
        )


def _shifted(shift: int) -> Finding:
    return Finding(
        "fault",
        f"The takes fit the settings of the take {'after' if shift > 0 else 'before'} them, from "
        "the first to the last.",
        "Look for a take that is missing or doubled near the beginning, and name them anew.",
    )


def _inert(controls: Sequence[str], search: Misfits) -> Iterator[Finding]:
    """Controls without which the takes can be told as well."""
    vectors = search.settings.vectors
    turned = [n for n in range(len(controls)) if np.ptp(vectors[:, n]) > 0]
    still = [controls[n] for n in turned if not moves(n, search, len(turned))]
    if still and len(still) == len(turned):
        yield Finding(
            "doubt",
            "What differs between the takes does not follow any control.",
            "Check that the takes are in the plan's order and that the controls reach the device.",
        )
    elif still:
        yield Finding(
            "doubt",
            f"{listed(still)} {'move' if len(still) > 1 else 'moves'} nothing that can be told.",
            "Check the connection; leave out a control that does nothing.",
        )


def _have(some: Sequence[int]) -> str:
    return "have" if len(some) > 1 else "has"
