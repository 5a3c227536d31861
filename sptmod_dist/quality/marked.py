"""The markers of a take: where they are in the dry and in the wet, and what lies between them.

It must not know of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sptmod_dist.capture.markers import SURE, Found, Layout, find_markers, layout

NEAR_SECONDS = 3.0
"""How far from where the dry has it a marker is looked for before all of the wet is searched."""
TOLERANCE = 5e-3
"""By which the distance of two markers may be off: lost samples and bad clocks are less."""


@dataclass(frozen=True)
class Marked:
    """The markers of a take: `dry` has two; `wet` has those that answer them, None where lost."""

    layout: Layout
    dry: tuple[Found, Found]
    wet: tuple[Found | None, Found | None]

    @property
    def delays(self) -> tuple[float | None, float | None]:
        """By how many samples each marker of the wet is late."""
        first, second = (
            None if out is None else out.position - into.position
            for into, out in zip(self.dry, self.wet, strict=True)
        )
        return first, second

    @property
    def distance(self) -> float:
        """Of the dry's markers, in samples."""
        return self.dry[1].position - self.dry[0].position

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the markers that the wet lacks."""
        names = ("start marker", "end marker")
        return tuple(
            name for name, found in zip(names, self.wet, strict=True) if found is None
        )

    @property
    def content(self) -> tuple[int, int]:
        """The content's first sample in the dry, and the one after its last."""
        moved = round(self.dry[0].position) - self.layout.start_marker
        return self.layout.content_start + moved, self.layout.content_stop + moved

    @property
    def repeats(self) -> tuple[int, ...]:
        """Where in the dry the passage that is played three times begins."""
        moved = round(self.dry[0].position) - self.layout.start_marker
        return tuple(start + moved for start in self.layout.repeats)


def find_marked(dry: np.ndarray, wet: np.ndarray, rate: int) -> Marked | None:
    """The markers of both, or None where the dry has no two.

    Shape:
        dry `[T]`, wet `[T']`: one channel of each
    """
    pair = _dry_markers(dry, rate)
    if pair is None:
        return None
    start, end = (round(found.position) for found in pair)
    plan = layout(rate, 0)
    plan = layout(rate, end - start - (plan.end_marker - plan.start_marker))
    first = _near(wet, start, rate)
    moved = 0 if first is None else round(first.position) - start
    second = _near(wet, end + moved, rate)
    if first is None or second is None or not _fit(first, second, end - start):
        first, second = _anywhere(wet, end - start, rate)
    return Marked(plan, pair, (first, second))


def _dry_markers(dry: np.ndarray, rate: int) -> tuple[Found, Found] | None:
    """At the ends, as a stimulus has them, else anywhere; only with room for content between."""
    reach = round(NEAR_SECONDS * rate)
    found = [_only(dry[:reach], rate, 0), _only(dry[-reach:], rate, max(0, len(dry) - reach))]
    pair = [marker for marker in found if marker is not None]
    if len(dry) < 2 * reach or len(pair) < 2:
        pair = find_markers(dry, rate)
    if len(pair) != 2:
        return None
    plan = layout(rate, 0)
    room = round(pair[1].position - pair[0].position) - (plan.end_marker - plan.start_marker)
    return (pair[0], pair[1]) if room > 0 else None


def _only(piece: np.ndarray, rate: int, start: int) -> Found | None:
    """The one marker of a piece that begins at `start`."""
    found = find_markers(piece, rate)
    if len(found) != 1:
        return None
    return Found(found[0].position + start, found[0].strength, found[0].polarity)


def _near(wet: np.ndarray, place: int, rate: int) -> Found | None:
    reach = round(NEAR_SECONDS * rate)
    first = max(0, place - reach)
    return _only(wet[first : max(first, place + reach)], rate, first)


def _fit(first: Found, second: Found, distance: int) -> bool:
    return abs(second.position - first.position - distance) <= TOLERANCE * distance


def _anywhere(wet: np.ndarray, distance: int, rate: int) -> tuple[Found | None, Found | None]:
    """The two markers of the whole wet that are as far apart as they should be; failing that, the
    strongest alone, as that which its place in the file suggests."""
    found = find_markers(wet, rate, expected=4)
    pairs = [
        (first, second) for first in found for second in found if _fit(first, second, distance)
    ]
    if pairs:
        return max(pairs, key=lambda pair: min(marker.strength for marker in pair))
    if not found:
        return None, None
    sure = [marker for marker in found if marker.strength >= SURE]
    if len(sure) == 2 and 0.5 < (sure[1].position - sure[0].position) / distance < 2:
        return sure[0], sure[1]  # much was lost between
    alone = max(found, key=lambda marker: marker.strength)
    return (alone, None) if alone.position < len(wet) / 2 else (None, alone)
