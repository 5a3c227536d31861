"""What only all takes together tell: swapped and doubled takes, controls that move nothing.

Takes are compared by their sketches: each one's gains are predicted from its settings and the other
takes. It must not know of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.settings_fit import Components, Settings, components
from sptmod_dist.quality.sketch import WINDOWS_A_SECOND, Sketch
from sptmod_dist.quality.take_report import TakeReport

LEAST_TAKES = 6
"""Fewer do not tell what is usual."""
SHARED_SECONDS = 4
"""Of the dry that all takes have in common at their beginning, to be compared moment by moment."""
MOVES_DB = 0.05
"""RMS by which takes must differ before anything is said to move."""
SURE, OFF_DB = 25.0, 0.5
"""By how much the log probability of all takes must grow when a take is left out or two are
exchanged, and by how many dB these must be off."""
_TELLS = 2.0
"""By how much it must fall when a control that does something is unknown."""
_SUSPECTS, _TRIED = 8, 4
_FITTING = 4.0
"""Typical distances by which takes may be off in their right places."""
_SHIFTED = 0.5
"""Of the variance that the settings of the take before or after must explain more."""
_SHOWN = 5


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
    found = [*_copies(sound), *_latencies(sound), *_polarities(sound)]
    features = _features(sound) if len(sound) >= LEAST_TAKES else None
    if features is None:
        return tuple(found)
    vectors = np.array([entry.vector for entry in sound]).reshape(len(sound), -1)
    parts = components(features, MOVES_DB)
    if parts.values.shape[1] == 0:
        return (*found, *_stands_still(controls))
    names = [entry.name for entry in sound]
    return (
        *found,
        *_misfits(names, vectors, parts, features),
        *_inert(controls, vectors, parts, features, [entry.sketch for entry in sound]),
    )


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
                f"{_listed([entry.name for entry in group])} hold the same audio, sample by "
                "sample, under different settings.",
                "Record anew what was copied; it is in order where the device does nothing there.",
            )
        elif len(group) > 1:
            yield Finding(
                "doubt",
                f"{_listed([entry.name for entry in group])} hold the same audio, sample by "
                "sample.",
                "Leave out all but one, so that none is trained on and tested as well.",
            )


def _latencies(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Takes whose latency differs from that of nearly all."""
    late = np.array([entry.report.latency for entry in entries])
    if len(late) < LEAST_TAKES:
        return
    usual = float(np.median(late))
    others = np.flatnonzero(np.abs(late - usual) > 1.0)
    if 0 < len(others) <= len(late) // 5:
        yield Finding(
            "doubt",
            f"{_listed([entries[n].name for n in others])} {_have(others)} another latency "
            f"({late[others[0]]:.1f} samples) than the rest ({usual:.1f}).",
            "Listen to the beginnings; it is in order where recordings were started by hand.",
        )


def _polarities(entries: Sequence[Entry]) -> Iterator[Finding]:
    turned = [entry.name for entry in entries if entry.report.polarity < 0]
    if 0 < len(turned) < len(entries):
        yield Finding(
            "doubt",
            f"{len(turned)} of {len(entries)} takes are turned over: {_listed(turned)}.",
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


def _misfits(
    names: Sequence[str], vectors: np.ndarray, parts: Components, features: np.ndarray
) -> Iterator[Finding]:
    """Takes that sound unlike what their settings and the others let expect."""
    shift = _shift(vectors, parts)
    if shift:
        yield Finding(
            "fault",
            f"The takes fit the settings of the take {'after' if shift > 0 else 'before'} them, "
            "from the first to the last.",
            "Look for a take that is missing or doubled near the beginning, and name them anew.",
        )
        return
    search = _Search(vectors, features)
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
            f"{_listed(which)} {'do' if len(which) > 1 else 'does'} not sound as the settings and "
            "the other takes let expect.",
            "Listen, compare with the plan, and record again if a knob stood elsewhere.",
        )


def _shift(vectors: np.ndarray, parts: Components) -> int:
    """1 or -1 where the settings of the next take, or the one before, explain far more."""
    if vectors.shape[1] == 0 or len(vectors) < 2 * LEAST_TAKES:
        return 0
    values = parts.values[:, :1]
    explained = {
        step: float(Settings(np.roll(vectors, -step, axis=0)).fit(values).explained[0])
        for step in (0, 1, -1)
    }
    best = max((1, -1), key=lambda step: explained[step])
    return best if explained[best] > max(explained[0], 0.0) + _SHIFTED else 0


class _Search:
    """Exchanged pairs first, then single takes that are off, each left out before the next.

    What is found makes all other takes by far more probable.
    """

    def __init__(self, vectors: np.ndarray, features: np.ndarray) -> None:
        self.settings, self.features = Settings(vectors), features.copy()
        self.exchanged: list[tuple[int, int]] = []
        self.off: list[int] = []
        self.left = list(range(len(vectors)))
        most = len(vectors) // 8 + 1
        while len(self.exchanged) < most and self._exchange():
            pass
        while len(self.off) < most and self._leave_out():
            pass
        self.off.sort()

    def _exchange(self) -> bool:
        parts = components(self.features, MOVES_DB)
        fit = self.settings.fit(parts.values)
        suspects = np.argsort(-fit.scores())[:_SUSPECTS].tolist()
        pairs = {(min(a, b), max(a, b)) for a in suspects for b in range(len(self.left)) if a != b}
        likely = [pair for pair in pairs if self._apart(pair) > OFF_DB]
        gains = {pair: fit.evidence_of(_swapped(parts.values, pair)) for pair in sorted(likely)}
        tried = []
        for pair in sorted(gains, key=lambda pair: -gains[pair])[:_TRIED]:
            after = self.settings.fit(_swapped(parts.values, pair))
            if max(after.scores()[list(pair)]) < _FITTING:
                tried.append((after.evidence - fit.evidence, pair))
        gain, best = max(tried, default=(0.0, (0, 0)))
        if gain < SURE:
            return False
        self.features = _swapped(self.features, best)
        self.exchanged.append(best)
        return True

    def _apart(self, pair: tuple[int, int]) -> float:
        """By how many dB two takes differ."""
        return _rms(self.features[pair[0]] - self.features[pair[1]])

    def _leave_out(self) -> bool:
        parts = components(self.features[self.left], MOVES_DB)
        if parts.values.shape[1] == 0 or len(self.left) < LEAST_TAKES:
            return False
        fit = self.settings.fit(parts.values)
        share = fit.evidence / len(self.left)
        tried = []
        for number in np.argsort(-fit.scores())[:_TRIED].tolist():
            others = self.settings.without(number)
            gain = others.fit(np.delete(parts.values, number, axis=0)).evidence - fit.evidence
            if _rms(fit.errors[number] * parts.sizes, 1) > OFF_DB:
                tried.append((gain + share, number, others))
        gain, worst, others = max(tried, key=lambda one: one[0], default=(0.0, 0, self.settings))
        if gain < SURE:
            return False
        self.off.append(self.left.pop(worst))
        self.settings = others
        return True


def _swapped(rows: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    made = rows.copy()
    made[list(pair)] = rows[list(pair[::-1])]
    return made


def _rms(values: np.ndarray, count: int | None = None) -> float:
    return float(np.sqrt(np.square(values).sum() / (count or values.size)))


def _inert(
    controls: Sequence[str],
    vectors: np.ndarray,
    parts: Components,
    features: np.ndarray,
    sketches: Sequence[Sketch | None],
) -> Iterator[Finding]:
    """Controls without which the takes can be told as well."""
    turned = [n for n in range(len(controls)) if np.ptp(vectors[:, n]) > 0]
    still = [controls[n] for n in turned if not _moves(n, vectors, parts, features)]
    if still and len(still) == len(turned):
        yield Finding(
            "doubt",
            "What differs between the takes does not follow any control.",
            "Check that the takes are in the plan's order and that the controls reach the device.",
        )
    elif still:
        yield Finding(
            "doubt",
            f"{_listed(still)} {'move' if len(still) > 1 else 'moves'} nothing that can be told.",
            "Check the connection; leave out a control that does nothing.",
        )


def _moves(
    number: int, vectors: np.ndarray, parts: Components, features: np.ndarray
) -> bool:
    """Whether a control does something: by takes that differ in it alone, else by how much worse
    the takes are told without it."""
    rest = np.delete(vectors, number, axis=1)
    pairs = [
        (a, b)
        for a in range(len(vectors))
        for b in range(a)
        if vectors[a, number] != vectors[b, number] and np.array_equal(rest[a], rest[b])
    ]
    if pairs:
        return max(_rms(features[a] - features[b]) for a, b in pairs) > MOVES_DB
    known, unknown = (Settings(known).fit(parts.values) for known in (vectors, rest))
    return known.evidence > unknown.evidence + _TELLS


def _have(some: np.ndarray) -> str:
    return "have" if len(some) > 1 else "has"


def _listed(names: Sequence[str]) -> str:
    """The names as a sentence has them, the first few of many."""
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
