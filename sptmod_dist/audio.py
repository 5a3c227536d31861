"""Audio files and rates: read, write, resample, take out DC. All float32 `[C, T]`, full scale ±1.

This file must not know of models, data sets or training. Files go through libsndfile (torchaudio's
own reader needs another library and writes 16 bits where 24 were asked for); resampling is
torchaudio's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.resampling import import_torchaudio, resample, resample_blocks

__all__ = [
    "AudioInfo",
    "import_torchaudio",
    "info",
    "read",
    "read_blocks",
    "remove_dc",
    "resample",
    "resample_blocks",
    "write",
    "write_blocks",
    "write_unclipped",
]

BLOCK = 65_536  # frames: 1.5 s at 44.1 kHz
RATES = (1_000, 768_000)
"""Hz: what lies outside is a damaged header rather than a recording."""
_LOUDEST = 1.0 - 2.0**-23
"""What 24 bits hold."""
_UNKNOWN_LENGTH = 2**62  # what libsndfile says of a stream that states no length


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself: its rate in Hz, channels, frames (samples a channel), and
    libsndfile's names for container and sample format, such as `WAV` and `PCM_24`."""

    rate: int
    channels: int
    frames: int
    format: str
    subtype: str


def info(path: str | Path) -> AudioInfo:
    """Read a file's header.

    Raises:
        UserError: there is no such file, it is no audio that libsndfile reads, or it has no
            samples.
    """
    with _open(path) as file:
        return _info_of(file)


def read(path: str | Path) -> tuple[np.ndarray, int]:
    """Read a whole file.

    Returns:
        The samples, float32, and the rate in Hz. Integer formats are scaled to ±1; float formats
        come as they are, beyond ±1 and non-finite values included.

    Shape:
        `[C, T]`

    Raises:
        UserError: as `info`, and for a file that ends before its header says.
    """
    blocks = list(read_blocks(path))
    return np.concatenate(blocks, axis=1), info(path).rate


def read_blocks(path: str | Path, frames: int = BLOCK) -> Iterator[np.ndarray]:
    """Read a file of any length in pieces of at most `frames` samples, in constant memory.

    Shape:
        each block `[C, n]`, `0 < n <= frames`

    Raises:
        UserError: as `read`; the header's faults on the first block.
    """
    with _open(path) as file:
        left = file.frames
        while left > 0:
            block = _read_block(file, path, min(frames, left))
            left -= block.shape[1]
            yield block


def write(path: str | Path, audio: np.ndarray, rate: int, subtype: str = "PCM_24") -> int:
    """Write a whole file, under a temporary name until it is complete.

    Args:
        path: its suffix chooses the container: `.wav`, `.flac`, …
        audio: samples; an integer format clips what lies beyond full scale.
        rate: in Hz.
        subtype: libsndfile's name of the sample format: `PCM_16`, `PCM_24`, `FLOAT`, ….

    Shape:
        audio `[C, T]`

    Returns:
        How many samples were clipped: say so to the listener. 0 for a float format.

    Raises:
        UserError: the container is unknown, cannot hold `subtype`, or the file cannot be written.
    """
    return write_blocks(path, [audio], rate, audio.shape[0], subtype)


def write_unclipped(path: str | Path, audio: np.ndarray, rate: int) -> None:
    """As `write`: with 24 bits, or as floats where those would clip."""
    loud = float(np.abs(audio).max(initial=0.0)) > _LOUDEST
    write(path, audio, rate, "FLOAT" if loud else "PCM_24")


def write_blocks(
    path: str | Path,
    blocks: Iterable[np.ndarray],
    rate: int,
    channels: int,
    subtype: str = "PCM_24",
) -> int:
    """Write a file of any length from blocks, in constant memory; all else as `write`.

    The file appears under its name only when the last block is written, and not at all when
    `blocks` raises.

    Shape:
        each block `[channels, n]`
    """
    path = Path(path)
    _check_format(path, subtype)
    if not path.parent.is_dir():
        raise UserError(
            f"{path} cannot be written: the folder {path.parent} does not exist; create it first."
        )
    is_float = subtype in ("FLOAT", "DOUBLE")
    clipped = 0
    try:
        with atomic_write(path) as temporary:
            with soundfile.SoundFile(temporary, "w", rate, channels, subtype) as file:
                for block in blocks:
                    clipped += 0 if is_float else int(np.count_nonzero(np.abs(block) > 1.0))
                    file.write(np.ascontiguousarray(block.T))
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(
            f"{path} cannot be written ({_reason(error)}); check the place and the disk."
        ) from error
    return clipped


def remove_dc(audio: np.ndarray) -> np.ndarray:
    """Subtract each channel's mean, found in float64.

    Shape:
        `[C, T]` to `[C, T]`
    """
    mean = audio.mean(axis=1, keepdims=True, dtype=np.float64)
    return (audio - mean).astype(np.float32)


def _open(path: str | Path) -> soundfile.SoundFile:
    path = Path(path)
    if not path.is_file():
        what = "is no plain file" if path.exists() else "does not exist"
        raise UserError(f"{path} {what}; give an audio file (WAV, FLAC, …).")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file (0 bytes); give an audio file (WAV, FLAC, …).")
    try:
        file = soundfile.SoundFile(path)
    # TypeError: headerless .raw; UnicodeEncodeError: a name that is no text
    except (soundfile.LibsndfileError, OSError, TypeError, UnicodeEncodeError) as error:
        raise UserError(
            f"{path} cannot be read as audio ({_reason(error)}); "
            "give a WAV, FLAC or other file that libsndfile reads."
        ) from error
    if file.frames <= 0:
        file.close()
        raise UserError(f"{path} holds no samples; give an audio file that is not empty.")
    try:
        _check_header(file, path)
    except UserError:
        file.close()
        raise
    return file


def _check_header(file: soundfile.SoundFile, path: Path) -> None:
    """What libsndfile lets pass: impossible rates and lengths, and a WAV that was cut."""
    low, high = RATES
    if not low <= file.samplerate <= high:
        raise UserError(
            f"{path} states {file.samplerate} Hz, and only {low} to {high} Hz are read; "
            "export it again."
        )
    if file.frames >= _UNKNOWN_LENGTH:
        raise UserError(f"{path} does not state its length; encode or export it again.")
    stated = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    # A streamed WAV states a length near 2 or 4 GiB, which means that nobody knew it.
    if stated and int(stated[2]) < int(stated[1]) < 0x7FFFF000:
        raise UserError(f"{path} ends before the samples that its header states; copy it again.")


def _info_of(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def _read_block(file: soundfile.SoundFile, path: str | Path, frames: int) -> np.ndarray:
    try:
        block = file.read(frames, dtype="float32", always_2d=True).T
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path} is damaged ({_reason(error)}); copy or record it again."
        ) from error
    if block.shape[1] < frames:
        raise UserError(
            f"{path} ends before the {file.frames} samples that its header states; copy it again."
        )
    return np.ascontiguousarray(block)


def _check_format(path: Path, subtype: str) -> None:
    container = path.suffix[1:].upper()
    if container not in soundfile.available_formats():
        raise UserError(
            f"{path} cannot be written: no audio format has the suffix '{path.suffix}'; "
            "use .wav or .flac."
        )
    if not soundfile.check_format(container, subtype):
        known = ", ".join(soundfile.available_subtypes(container))
        raise UserError(
            f"{path} cannot be written: {container} has no sample format {subtype}; "
            f"use .wav or .flac, or one of {known}."
        )


def _reason(error: BaseException) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip().rstrip(".").split("\n")[0]
