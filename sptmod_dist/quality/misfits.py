"""Takes against their settings: which are exchanged, which stand elsewhere, which controls move.

Takes are rows of features in dB, settings rows of numbers from 0 to 1. It knows nothing of audio.
"""

from __future__ import annotations

import numpy as np

from sptmod_dist.quality.settings_fit import Components, Fit, Settings, components

LEAST_TAKES = 6
"""Fewer do not tell what is usual."""
MOVES_DB = 0.05
"""RMS by which takes must differ before anything is said to move."""
SURE, SURE_A_TAKE = 12.0, 0.2
"""By how much the log probability of all takes must grow when one is left out or two are exchanged,
and by how much more for each take, since each then becomes more probable."""
OFF_DB, OFF_PART = 0.5, 0.5
"""By how many dB, and by which part of the usual difference between takes, these must be off."""
_TELLS = 2.0
"""By how much it must fall when a control that does something is unknown."""
TAKES_A_CONTROL = 8
"""Fewer for each control that is turned tell little of it."""
_SUSPECTS, _TRIED = 8, 4
_SHIFTED = 0.5
"""Of the variance that the settings of the take before or after must explain more."""


def shift_of(vectors: np.ndarray, parts: Components) -> int:
    """1 or -1 where the settings of the next take, or the one before, explain far more.

    Shape:
        vectors `[N, n]`, in the order of recording
    """
    if vectors.shape[1] == 0 or len(vectors) < 2 * LEAST_TAKES:
        return 0
    values = parts.values[:, :1]
    explained = {
        step: float(Settings(np.roll(vectors, -step, axis=0)).fit(values).explained[0])
        for step in (0, 1, -1)
    }
    best = max((1, -1), key=lambda step: explained[step])
    return best if explained[best] > max(explained[0], 0.0) + _SHIFTED else 0


class Misfits:
    """Exchanged pairs first, then single takes that are off, each left out before the next.

    What is found makes all other takes by far more probable: `exchanged` pairs and single ones
    that are `off`. `left` are the rest, in the right places from then on.

    Shape:
        vectors `[N, n]`, features `[N, F]`
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
        tried = [(0.0, (0, 0))]
        for pair in sorted(gains, key=lambda pair: -gains[pair])[:_TRIED]:
            gain = self.settings.fit(_swapped(parts.values, pair)).evidence - fit.evidence
            if gain > max(self._without(fit, number)[0] for number in pair):
                tried.append((gain, pair))
        gain, best = max(tried)
        if gain < self._sure():
            return False
        self.features = _swapped(self.features, best)
        self.exchanged.append(best)
        return True

    def _sure(self) -> float:
        return SURE + SURE_A_TAKE * len(self.left)

    def _without(self, fit: Fit, number: int) -> tuple[float, Settings]:
        """By how much the others are more probable alone, and their settings."""
        others = self.settings.without(number)
        alone = others.fit(np.delete(fit.values, number, axis=0)).evidence
        return alone - fit.evidence * (1 - 1 / len(fit.values)), others

    def _apart(self, pair: tuple[int, int]) -> float:
        """By how many dB two takes differ."""
        return _rms(self.features[pair[0]] - self.features[pair[1]])

    def _leave_out(self) -> bool:
        parts = components(self.features[self.left], MOVES_DB)
        if parts.values.shape[1] == 0 or len(self.left) < LEAST_TAKES:
            return False
        fit = self.settings.fit(parts.values)
        least = max(OFF_DB, OFF_PART * _rms(parts.sizes, 1))
        tried = []
        for number in np.argsort(-fit.scores())[:_TRIED].tolist():
            if _rms(fit.errors[number] * parts.sizes, 1) > least:
                tried.append((*self._without(fit, number), number))
        if not tried or max(gain for gain, _, _ in tried) < self._sure():
            return False
        _, others, worst = max(tried, key=lambda one: one[0])
        self.off.append(self.left.pop(worst))
        self.settings = others
        return True


def moves(number: int, search: Misfits, turned: int) -> bool:
    """Whether a control does something: by takes that differ in it alone, else by how much less
    probable the takes are where it is unknown. Too few takes tell nothing: then it does.

    Args:
        number: of the control.
        search: after which the takes are in their places.
        turned: how many controls were turned in all.
    """
    vectors, features = search.settings.vectors, search.features[search.left]
    rest = np.delete(vectors, number, axis=1)
    alone = [
        _rms(features[a] - features[b])
        for a in range(len(vectors))
        for b in np.flatnonzero((rest[:a] == rest[a]).all(axis=1))
        if vectors[a, number] != vectors[b, number]
    ]
    if alone:
        return max(alone) > MOVES_DB
    if len(vectors) < TAKES_A_CONTROL * turned:
        return True
    values = components(features, MOVES_DB).values
    known, unknown = search.settings.fit(values), Settings(rest).fit(values)
    return known.evidence > unknown.evidence + _TELLS


def _swapped(rows: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    made = rows.copy()
    made[list(pair)] = rows[list(pair[::-1])]
    return made


def _rms(values: np.ndarray, count: int | None = None) -> float:
    return float(np.sqrt(np.square(values).sum() / (count or values.size)))
