"""Hardware as a device: a folder with what people recorded and brought back, a file for each take.

`long_recording.py` is for one long file. It must not know of checks or sessions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio as audio_files
from sptmod_dist.capture.device import Wet
from sptmod_dist.capture.plan import Take
from sptmod_dist.errors import UserError

SUFFIXES = (".wav", ".flac", ".aif", ".aiff", ".w64", ".rf64", ".mp3", ".ogg", ".opus")
"""Those that lose something are read too, and doubted."""


class RecordedFiles:
    """A folder with a file for each take, whose name holds the take's id or its number.

    Args:
        folder: where the files are.
        takes: of the plan; those without a file are `missing`.
        about: what was recorded, for people.

    Raises:
        UserError: two files for a take, one file for two, a number that no take has, or no file
            for any.
    """

    latency: int | None = None
    by_hand = True

    def __init__(self, folder: str | Path, takes: Sequence[Take], about: str = "") -> None:
        self.folder, self._about = Path(folder), about
        self._files = _files_of(self.folder, takes)
        _check_left(self.folder, self._files, takes)
        self.missing = tuple(take for take in takes if take.id not in self._files)
        if len(self.missing) == len(takes):
            raise UserError(
                f"{folder} holds no recording whose name has a take's id or number; name them "
                f"like {takes[0].id}.wav."
            )

    def assignment(self) -> list[str]:
        """Which file is which take's, a line each."""
        return [f"{file.name} -> {name}" for name, file in self._files.items()]

    def check(self, takes: Sequence[Take]) -> None:
        """Open every file's header.

        Raises:
            UserError: a file that is no audio.
        """
        for take in takes:
            audio_files.info(self._files[take.id])

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        """Read the take's file."""
        file = self._files[take.id]
        return Wet(*audio_files.read(file), audio_files.info(file).subtype)

    def describe(self) -> str:
        """That people recorded it, and what they say it was."""
        return told(self._about)

    def fingerprint(self, take: Take) -> str:
        """The file as it is now."""
        return state_of(self._files[take.id])

    def close(self) -> None:
        """Nothing is left open."""


def _files_of(folder: Path, takes: Sequence[Take]) -> dict[str, Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in SUFFIXES)
    by_id = {take.id: [file for file in files if _has_id(file.stem, take.id)] for take in takes}
    named = {file for found in by_id.values() for file in found}
    letters = {_letters(take.id) for take in takes}
    left = [file for file in files if file not in named and _letters(file.stem) not in letters]
    chosen: dict[str, Path] = {}
    for take in takes:
        found = by_id[take.id] or [file for file in left if _number(file.stem) == take.number]
        if len(found) > 1:
            raise UserError(
                f"take {take.number} ({take.id}) has {len(found)} files in {folder}: "
                f"{', '.join(file.name for file in found)}; keep one there."
            )
        if found and found[0] in chosen.values():
            raise UserError(
                f"{folder / found[0].name} could be of several takes; name it by one take's id, "
                f"like {take.id}{found[0].suffix}."
            )
        if found:
            chosen[take.id] = found[0]
    return chosen


def _check_left(folder: Path, chosen: Mapping[str, Path], takes: Sequence[Take]) -> None:
    """Numbers count from 1: a file of take 0 means that all are counted otherwise."""
    numbers = {take.number for take in takes}
    for file in sorted(folder.iterdir()):
        number = _number(file.stem) if file.suffix.lower() in SUFFIXES else None
        if file not in chosen.values() and number == 0 and 0 not in numbers:
            raise UserError(
                f"{file} has the number 0 and takes are counted from 1: name the files by the "
                f"takes' ids, like {takes[0].id}{file.suffix}, or by their numbers in the plan."
            )


def _has_id(stem: str, name: str) -> bool:
    return re.search(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", stem, re.IGNORECASE) is not None


def _letters(name: str) -> str:
    """A name that has the letters of an id and is none is a mistake, not a take's number."""
    return re.sub(r"[\W\d_]+", "", name.casefold())


def _number(stem: str) -> int | None:
    """The one number in a name such as `take 12`; None for none and for several."""
    numbers = re.findall(r"\d+", stem)
    return int(numbers[0]) if len(numbers) == 1 else None


def told(about: str) -> str:
    """How recordings are described, in whatever files they came."""
    return f"recordings: {about}" if about.strip() else "recordings"


def state_of(path: Path) -> str:
    """A file as it is now: when it is replaced, this changes."""
    now = path.stat()
    return f"{path.name} {now.st_size} {now.st_mtime_ns}"
