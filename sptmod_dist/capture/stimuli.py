"""The stimuli of a session: made where they are missing, read once, by seed.

It must not know of devices or takes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sptmod_dist import audio
from sptmod_dist.capture.markers import Layout, layout
from sptmod_dist.capture.stimulus_files import stimulus_path, write_stimuli
from sptmod_dist.errors import UserError

DEFAULT_RATE = 44_100
_KEPT = 2
"""Stimuli in memory: takes with the same one mostly follow each other."""


class Stimulus(NamedTuple):
    """A stimulus's samples, `[1, T]`, and the sum of its file."""

    audio: np.ndarray
    digest: str


class Stimuli:
    """The stimulus files of a folder; any thread may ask for one.

    Args:
        folder: holds `stimulus-SEED.wav` for each of `seeds`.
        seeds: that are needed.

    Raises:
        UserError: one is missing, has more than one channel, or rates differ.
    """

    def __init__(self, folder: str | Path, seeds: Iterable[int]) -> None:
        self._folder = Path(folder)
        self.paths = {seed: stimulus_path(folder, seed) for seed in sorted(set(seeds))}
        self.rate = _common_rate(self.paths.values())
        self._kept: OrderedDict[int, Stimulus] = OrderedDict()
        self._digests: dict[int, str] = {}
        self._lock = threading.Lock()

    def layout(self) -> Layout:
        """Where the parts of each of them lie: all are equally long between their markers.

        Raises:
            UserError: they are not.
        """
        frames = {audio.info(path).frames for path in self.paths.values()}
        around = layout(self.rate, 0).total
        if len(frames) > 1 or min(frames) <= around:
            folder = next(iter(self.paths.values())).parent
            raise UserError(
                f"the stimuli in {folder} are not of one length with markers around; make them "
                "with the command stimulus, or record a file a take."
            )
        return layout(self.rate, frames.pop() - around)

    def digest(self, seed: int) -> str:
        """The sum of a file, needed or not; nothing where it is missing."""
        path = stimulus_path(self._folder, seed)
        if seed not in self._digests:
            read = path.read_bytes() if path.exists() else None
            self._digests[seed] = "" if read is None else hashlib.sha256(read).hexdigest()
        return self._digests[seed]

    def read(self, seed: int) -> Stimulus:
        """One stimulus."""
        with self._lock:
            if seed not in self._kept:
                samples, _ = audio.read(self.paths[seed])
                self._kept[seed] = Stimulus(samples, self.digest(seed))
            self._kept.move_to_end(seed)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[seed]


def make_missing(
    folder: str | Path,
    seeds: Iterable[int],
    rate: int | None = None,
    music: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Stimuli:
    """The stimuli of a folder, after those that are not there have been made.

    Args:
        folder: made if it is missing.
        seeds: that are needed.
        rate: in Hz; None: that of the files that are there, or 44100.
        music: a folder of music for new ones; None: the clips of the package.
        say: called with each line of progress.

    Raises:
        UserError: files that are there have another rate, or as `write_stimuli`.
    """
    paths = {seed: stimulus_path(folder, seed) for seed in sorted(set(seeds))}
    there = [path for path in paths.values() if path.exists()]
    if there:
        found = _common_rate(there)
        if rate not in (None, found):
            raise UserError(
                f"{there[0]} has {found} Hz and --rate says {rate}; leave --rate out, or name "
                "another folder with --stimulus."
            )
        rate = found
    missing = [seed for seed, path in paths.items() if not path.exists()]
    if missing:
        write_stimuli(folder, rate or DEFAULT_RATE, missing, music, say=say)
    return Stimuli(folder, paths)


def _common_rate(paths: Iterable[Path]) -> int:
    rates: dict[int, Path] = {}
    for path in paths:
        told = audio.info(path)
        if told.channels != 1:
            raise UserError(f"{path} has {told.channels} channels; mix it down to one.")
        rates.setdefault(told.rate, path)
    if len(rates) > 1:
        (one, first), (other, second), *_ = rates.items()
        raise UserError(
            f"{first} has {one} Hz and {second} {other} Hz; make all stimuli at one rate."
        )
    return next(iter(rates))
