"""Hardware as a device: one long recording of all takes, split at the markers.

The takes stand in the plan's order, each between its two markers, with any silence around. It must
not know of checks or sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sptmod_dist import audio as audio_files
from sptmod_dist.capture.device import Wet
from sptmod_dist.capture.markers import Found, Layout, find_in_blocks
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.recorded import state_of, told
from sptmod_dist.errors import UserError
from sptmod_dist.names import listed

MARGIN_SECONDS = 0.25
"""Kept before and after what the layout says; a device's tail."""
_SHOWN = 8
"""Takes whose places are told."""
TOLERANCE = 2e-3
"""By which the distance of two markers may be off: a bad clock is far better."""
_SPARE = 8
"""Marker-like sounds that may be found beside the markers: talk, switches."""


class LongRecording:
    """One file with all takes in the plan's order, each between its markers.

    Args:
        path: of the recording.
        takes: that it holds, in order.
        layout: of the stimulus, at its rate.
        about: what was recorded, for people.

    Raises:
        UserError: another rate than the stimulus, or not two markers for each take.
    """

    latency: int | None = None
    by_hand = True
    missing: tuple[Take, ...] = ()

    def __init__(
        self, path: str | Path, takes: Sequence[Take], layout: Layout, about: str = ""
    ) -> None:
        self.path, self.layout, self._about = Path(path), layout, about
        header = audio_files.info(self.path)
        rate, self._subtype = header.rate, header.subtype
        if rate != layout.rate:
            raise UserError(
                f"{path} has {rate} Hz and the stimulus {layout.rate} Hz; record at "
                f"{layout.rate} Hz, or make the stimulus anew with --rate {rate}."
            )
        markers = _markers(self.path, rate, 2 * len(takes))
        starts = _starts(markers, takes, layout, self.path)
        self._starts = dict(zip((take.id for take in takes), starts, strict=True))

    def check(self, takes: Sequence[Take]) -> None:
        """Nothing: the markers were counted already."""

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        """Cut the take out, so that its marker lies where the stimulus has it."""
        margin = round(MARGIN_SECONDS * rate)
        first = self._starts[take.id] - self.layout.start_marker
        return Wet(_cut(self.path, first, audio.shape[1] + margin), rate, self._subtype)

    def describe(self) -> str:
        """That people recorded it, and what they say it was."""
        return told(self._about)

    def fingerprint(self, take: Take) -> str:
        """The file as it is now, and the place in it."""
        return f"{state_of(self.path)} {self._starts[take.id]}"

    def close(self) -> None:
        """Nothing is left open."""


@dataclass(frozen=True)
class _Pass:
    """Where one take was played: its markers, of which one may not have been found."""

    start: Found | None
    end: Found | None


def _markers(path: Path, rate: int, expected: int) -> list[Found]:
    """Of the loudest channel, in constant memory."""
    squares = sum(np.square(block).sum(axis=1) for block in audio_files.read_blocks(path))
    loudest = int(np.argmax(squares))
    blocks: Iterator[np.ndarray] = (block[loudest] for block in audio_files.read_blocks(path))
    return find_in_blocks(blocks, rate, expected + _SPARE)


def _starts(
    markers: Sequence[Found], takes: Sequence[Take], layout: Layout, path: Path
) -> list[int]:
    """Where each take's first marker begins.

    All are rounded with one offset: takes of one pass through a converter lie at one fraction of a
    sample, and none may fall on the other side of a half.
    """
    passes = _passes(markers, layout)
    whole = [found for found in passes if found.start and found.end]
    if len(whole) != len(takes):
        raise UserError(_complaint(passes, whole, takes, layout, path))
    places = np.array([found.start.position for found in whole if found.start])
    fraction = np.angle(np.exp(2j * np.pi * places).sum()) / (2 * np.pi)
    return [int(place) for place in np.rint(places - fraction)]


def _passes(markers: Sequence[Found], layout: Layout) -> list[_Pass]:
    """Markers a stimulus apart belong together; what is left is half of a take, or none."""
    distance = layout.end_marker - layout.start_marker
    reach = TOLERANCE * distance
    passes, left = [], list(markers)
    while left:
        first = left.pop(0)
        second = next(
            (m for m in left if abs(m.position - first.position - distance) <= reach), None
        )
        if second is not None:
            left = [marker for marker in left if marker.position > second.position]
        passes.append(_Pass(first, second))
    return passes


def _complaint(
    passes: Sequence[_Pass],
    whole: Sequence[_Pass],
    takes: Sequence[Take],
    layout: Layout,
    path: Path,
) -> str:
    """Which take lacks a marker, where that can be said."""
    fact = f"{path} holds {len(whole)} whole takes between two markers, of {len(takes)}"
    if len(passes) == len(takes):
        halves = [
            f"take {take.number} ({take.id}) lacks a marker near "
            f"{clock((found.start.position if found.start else 0) / layout.rate)}"
            for take, found in zip(takes, passes, strict=True)
            if not found.end
        ]
        return f"{fact}: {', '.join(halves)}; record {'it' if len(halves) == 1 else 'them'} again."
    if len(whole) > len(takes):
        return f"{fact} in the plan; cut out what was repeated, or check --takes."
    places = [found.start.position / layout.rate for found in whole if found.start]
    clocks = listed([clock(place) for place in places], _SHOWN)
    begin = f", which begin at {clocks}" if places else ""
    gap = _gap(places)
    after = "" if gap is None else f"; one seems to be missing after {clock(places[gap])}"
    return f"{fact}{begin}{after}; record what is missing, or say with --takes which it holds."


def _gap(places: Sequence[float]) -> int | None:
    """Behind which take the next one begins later by far than it usually does."""
    if len(places) < 3:
        return None
    apart = np.diff(places)
    widest = int(np.argmax(apart))
    return widest if apart[widest] > 1.6 * apart.min() else None


def _cut(path: Path, first: int, frames: int) -> np.ndarray:
    """A stretch of a file, `[C, frames]`, silent where it lies outside."""
    with soundfile.SoundFile(path) as file:
        begin, end = max(first, 0), min(first + frames, file.frames)
        file.seek(begin)
        found = file.read(end - begin, dtype="float32", always_2d=True).T
    return np.pad(found, ((0, 0), (begin - first, first + frames - end)))


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
