"""Stimulus files: the 96 s source between markers, for one seed, as WAV and as a picture.

`stimulus-SEED.wav`, 24 bits, one channel. The same rate, seed and music give the same bytes. It
must not know of devices, plans or what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.capture.markers import PASSAGE_SECONDS, Layout, layout, marker, surround
from sptmod_dist.capture.music import MusicFile, excerpts, find_music, require_rate
from sptmod_dist.capture.stimulus_picture import draw
from sptmod_dist.data.stimulus import (
    EXCERPT_SECONDS,
    SECTIONS,
    SOURCE_SECONDS,
    falling_excerpts,
    source_signal,
)
from sptmod_dist.errors import UserError

RATES = (8_000, 384_000)
"""Hz: below, the 1000 Hz tone and the events lack room; above, no converter works."""


def stimulus_layout(rate: int) -> Layout:
    """Where the parts of every stimulus of this rate lie."""
    return layout(rate, SOURCE_SECONDS * rate)


def stimulus_path(folder: str | Path, seed: int) -> Path:
    """The file of one seed."""
    return Path(folder) / f"stimulus-{seed}.wav"


def make_stimulus(
    rate: int, seed: int, music: Sequence[MusicFile], say: Callable[[str], None] = print
) -> np.ndarray:
    """The samples of one stimulus, at most ±1.

    Args:
        rate: in Hz.
        seed: decides the excerpts' order and places and all events.
        music: as `find_music` gives it.
        say: told of files that do not serve.

    Shape:
        `[stimulus_layout(rate).total]`
    """
    clips = excerpts(music, rate, seed, say=say)
    content = source_signal(clips, rate, seed)
    whole = surround(content, rate, _loudest(falling_excerpts(clips[:1], rate, 1), rate))
    return np.clip(whole, -1.0, 1.0)  # a peak of 0 dB may be 1 + 1e-7 by rounding


def write_stimuli(
    folder: str | Path,
    rate: int,
    seeds: Iterable[int],
    music_folder: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Write the stimulus of each seed, and beside each its picture, `stimulus-SEED.png`.

    Args:
        folder: made if it is missing.
        rate: in Hz.
        seeds: one file each.
        music_folder: for the excerpts; None takes the clips of the package.
        overwrite: whether files that are there may be replaced.
        say: called with each line of progress.

    Returns:
        The WAV files, in the order of the seeds.

    Raises:
        UserError: a rate that does not serve, files that are there already, or no music.
    """
    low, high = RATES
    if not low <= rate <= high:
        raise UserError(f"a stimulus at {rate} Hz is not possible; choose {low} to {high} Hz.")
    paths = {seed: stimulus_path(folder, seed) for seed in seeds}
    if not overwrite:
        _refuse_existing(paths.values())
    music = find_music(music_folder, say)
    require_rate(music, rate)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for seed, path in paths.items():
        samples = make_stimulus(rate, seed, music, say)
        audio.write(path, samples[None], rate, "PCM_24")
        title = f"{path.name}: seed {seed}, {rate} Hz; levels in dB of full scale"
        draw(path.with_suffix(".png"), samples, rate, sections(rate), title)
        say(f"Wrote {path}: {len(samples) / rate:.1f} s at {rate} Hz, picture beside it.")
    return list(paths.values())


def sections(rate: int) -> list[tuple[str, float, float]]:
    """The parts of a stimulus: name, begin and end in seconds."""
    plan = stimulus_layout(rate)
    content = plan.content_start / rate
    end = (plan.repeats[-1] + plan.repeat_length) / rate
    length = len(marker(rate)) / rate
    return [
        ("marker", plan.start_marker / rate, plan.start_marker / rate + length),
        *((name, content + first, content + last) for name, first, last in SECTIONS),
        ("repeats", plan.repeats[0] / rate, end),
        ("marker", plan.end_marker / rate, plan.end_marker / rate + length),
    ]


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        for file in (path, path.with_suffix(".png")):
            if file.exists():
                raise UserError(f"{file} exists already; add --overwrite to replace it.")


def _loudest(excerpt: np.ndarray, rate: int) -> np.ndarray:
    """That whole second of an excerpt in which most sounds."""
    length = round(PASSAGE_SECONDS * rate)
    parts = [
        excerpt[start : start + length]
        for start in range(0, round(EXCERPT_SECONDS * rate) - length + 1, length)
    ]
    return max(parts, key=lambda part: float(np.mean(np.square(part, dtype=np.float64))))
