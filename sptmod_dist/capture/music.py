"""Music for a stimulus: which files of a folder serve, and excerpts of 4 s, drawn by a seed.

Of a file no more is read than the excerpt, so albums and hours of music are fine. It must not know
of devices or of what becomes of the excerpts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sptmod_dist import audio
from sptmod_dist.data.demo import CLIPS_FOLDER
from sptmod_dist.data.stimulus import EXCERPT_SECONDS
from sptmod_dist.errors import UserError
from sptmod_dist.names import listed

LEAST_SECONDS = 0.5
QUIET = 1e-3  # -60 dB: quieter than this is counted as silence
_TRIES = 16
_MARGIN_SECONDS = 0.05  # of context for the change of rate


@dataclass(frozen=True)
class MusicFile:
    """A file that is long enough, its rate in Hz, and its length in samples a channel."""

    path: Path
    rate: int
    frames: int


def find_music(folder: str | Path | None, say: Callable[[str], None] = print) -> list[MusicFile]:
    """The music in a folder and the folders inside it, by name.

    Args:
        folder: any files that libsndfile reads, at any rate; None takes the clips of the package.
        say: told of each file that is left out, and why.

    Raises:
        UserError: there is no such folder, or no music in it.
    """
    if folder is None:
        return [_open(path) for path in sorted(CLIPS_FOLDER.glob("*.flac"))]
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one that holds music files.")
    music = []
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts):
            try:
                music.append(_open(path))
            except UserError as error:
                say(f"Left out: {error}")
    if not music:
        raise UserError(
            f"{folder} holds no music of at least {LEAST_SECONDS:g} s; put WAV, FLAC, OGG or MP3 "
            "files there, or leave --music out."
        )
    return music


def require_rate(music: Sequence[MusicFile], rate: int) -> None:
    """Refuse a rate to which no file can be brought.

    Raises:
        UserError: all rates have too little in common with it.
    """
    rates = sorted({file.rate for file in music})
    for known in rates:
        try:
            audio.resample(np.zeros((1, 1), np.float32), known, rate)
            return
        except UserError:
            continue
    raise UserError(
        f"music at {listed([str(known) for known in rates])} Hz cannot be brought to {rate} Hz: "
        "the rates have too little in common; choose a usual rate, such as 44100 or 48000."
    )


def excerpts(
    music: Sequence[MusicFile],
    rate: int,
    seed: int,
    count: int = 10,
    say: Callable[[str], None] = print,
) -> list[np.ndarray]:
    """Draw excerpts of 4 s: the files in a random order, each in turn, from a random place.

    A file that is shorter goes round, as loops do. Silent places are drawn anew; stereo is mixed to
    mono, DC is taken out.

    Args:
        music: as `find_music` gives it.
        rate: in Hz, of the excerpts.
        seed: the same seed, rate and files give the same excerpts.
        say: told of each file in which no excerpt was found, and why.

    Shape:
        `count` times `[4 · rate]`

    Raises:
        UserError: no file has an excerpt that sounds.
    """
    draw = np.random.default_rng([seed, 4])  # apart from the events' seeds
    left = [music[number] for number in draw.permutation(len(music))]
    made: list[np.ndarray] = []
    while len(made) < count:
        turn = left[: count - len(made)]
        for file in turn:
            try:
                made.append(_excerpt(file, rate, draw))
            except UserError as error:
                say(f"Left out: {error}")
                left.remove(file)
        if not left:
            raise UserError(
                f"none of the {len(music)} music files in {music[0].path.parent} has 4 s that "
                "sound; give other music."
            )
    return made


def _open(path: Path) -> MusicFile:
    header = audio.info(path)
    if header.frames < LEAST_SECONDS * header.rate:
        raise UserError(
            f"{path} lasts {header.frames / header.rate:.2f} s; music needs {LEAST_SECONDS:g} s."
        )
    return MusicFile(path, header.rate, header.frames)


def _excerpt(file: MusicFile, rate: int, draw: np.random.Generator) -> np.ndarray:
    for candidate in _candidates(file, rate, draw):
        if _sounds(candidate, rate):
            return candidate
    raise UserError(f"{file.path} is silent where it was tried; leave it out or give louder music.")


def _candidates(file: MusicFile, rate: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Excerpts from places drawn at random."""
    length = round(EXCERPT_SECONDS * rate)
    spare = file.frames - round(EXCERPT_SECONDS * file.rate)
    for _ in range(_TRIES):
        place = float(draw.random())
        if spare >= 0:
            yield _part(file, round(place * spare), rate)[:length]
        else:
            whole = _part(file, 0, rate)
            start = int(place * len(whole))
            yield np.take(whole, np.arange(start, start + length), mode="wrap")


def _part(file: MusicFile, start: int, rate: int) -> np.ndarray:
    """Mono from sample `start` of the file on, 4 s or what there is, at `rate`."""
    margin = round(_MARGIN_SECONDS * file.rate)
    first = max(0, start - margin)
    length = round(EXCERPT_SECONDS * file.rate)
    stop = min(file.frames, start + length + margin)
    try:
        samples = soundfile.read(file.path, stop - first, first, dtype="float32", always_2d=True)[0]
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{file.path} is damaged ({error}); copy it again.") from error
    if len(samples) < stop - first or not np.isfinite(samples).all():
        raise UserError(f"{file.path} is damaged at {first / file.rate:.1f} s; copy it again.")
    mono = audio.remove_dc(samples.mean(axis=1, dtype=np.float32)[None])
    try:
        resampled = audio.resample(mono, file.rate, rate)[0]
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from error
    skipped = round((start - first) * rate / file.rate)
    return resampled[skipped : skipped + round(EXCERPT_SECONDS * rate)]


def _sounds(excerpt: np.ndarray, rate: int) -> bool:
    """Whether more than half of its quarter seconds are louder than silence."""
    piece = max(1, rate // 4)
    pieces = excerpt[: len(excerpt) // piece * piece].reshape(-1, piece)
    return float(np.mean(np.abs(pieces).max(axis=1) > QUIET)) > 0.5
