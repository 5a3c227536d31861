"""How samples are stored: float32, 24-bit and 16-bit PCM arrays, FLAC. Bytes from audio and back.

Full scale is ±1; an integer of n bits is divided by 2^(n-1). Bytes are never trusted: nothing but
numbers is made of them. It knows no files, no tar and no index; the formats are described in
shards/README.md.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soundfile

Buffer = bytes | bytearray | memoryview

_FLAC_BITS = 24
_FLAC_CHANNELS = 8


@dataclass(frozen=True)
class SampleFormat(ABC):
    """A way to store audio `[rows, T]` in the bytes of a member of a tar file."""

    name: str
    """In settings and in the index."""
    suffix: str
    """Of a member's name."""
    width: int
    """Bytes a sample, row after row at a member's end; 0 where no byte range is a stretch."""

    @abstractmethod
    def encode(self, audio: np.ndarray, sample_rate: int) -> bytes:
        """The bytes of a member.

        Args:
            audio: float32; an integer format takes what is in -1 … 1 and rounds to the nearest,
                +1 itself to the largest integer.
            sample_rate: in Hz, for a format that states it.

        Shape:
            audio `[rows, T]`

        Raises:
            ValueError: samples above full scale or not finite, too many channels, or a rate that
                the format cannot hold.
        """

    @abstractmethod
    def decode(self, data: Buffer, rows: int, samples: int) -> np.ndarray:
        """The audio in the bytes of a member, float32 `[rows, samples]`.

        Raises:
            ValueError: they hold anything else.
        """


@dataclass(frozen=True)
class PlainFormat(SampleFormat):
    """An array in a .npy file, which every byte range of its last bytes is a stretch of."""

    dtype: str
    """Of the array; 24-bit samples are three bytes each, the least significant first."""

    @property
    def is_memory(self) -> bool:
        """Whether stored bytes are float32 in memory as they stand, so that none need decoding."""
        return self.dtype == "<f4" and np.dtype(self.dtype).isnative

    def encode(self, audio: np.ndarray, sample_rate: int) -> bytes:
        """See `SampleFormat`."""
        if self.dtype == "<f4":
            stored = np.ascontiguousarray(audio, dtype="<f4")
        elif self.dtype == "<i2":
            stored = _quantised(audio, 16).astype("<i2")
        else:
            words = _quantised(audio, 24).astype("<i4")
            stored = words.view(np.uint8).reshape(*words.shape, 4)[..., :3]
        header = _header(self.dtype, self._shape(*audio.shape))
        return header + stored.tobytes()

    def decode(self, data: Buffer, rows: int, samples: int) -> np.ndarray:
        """See `SampleFormat`."""
        start = len(data) - rows * samples * self.width
        if start <= 0:
            raise ValueError(f"its {len(data)} bytes are too few for {rows} x {samples} samples")
        self.check_header(memoryview(data)[:start], rows, samples)
        out = np.empty((rows, samples), np.float32)
        self.decode_into(memoryview(data)[start:], out.reshape(-1))
        return out

    def check_header(self, header: Buffer, rows: int, samples: int) -> None:
        """Refuse bytes before the samples that are no header of such an array.

        Raises:
            ValueError: they are anything else.
        """
        shape = self._shape(rows, samples)
        if header == _header(self.dtype, shape):
            return
        stream = io.BytesIO(header)  # another writer pads its headers otherwise
        try:
            np.lib.format.read_magic(stream)
            found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        except Exception as error:  # numpy lets its parser's errors of many kinds out
            raise ValueError(f"its header cannot be read, {type(error).__name__}") from None
        if found != shape or fortran or dtype != np.dtype(self.dtype):
            raise ValueError(f"it holds {dtype} {found} where the index has {self.dtype} {shape}")
        if stream.tell() != len(header):
            raise ValueError("its samples do not follow its header")

    def decode_into(self, raw: Buffer, out: np.ndarray) -> None:
        """Turn stored bytes into samples.

        Args:
            raw: a stretch, `width * n` bytes.
            out: float32, filled.

        Shape:
            out `[n]`
        """
        if self.width == 3:
            _decode_24(raw, out)
            return
        np.copyto(out, np.frombuffer(raw, dtype=self.dtype, count=len(out)), casting="same_kind")
        if self.width == 2:
            out *= np.float32(2.0**-15)

    def _shape(self, rows: int, samples: int) -> tuple[int, ...]:
        return (rows, samples, 3) if self.width == 3 else (rows, samples)


@dataclass(frozen=True)
class FlacFormat(SampleFormat):
    """A FLAC stream of 24 bits, at most eight channels."""

    def encode(self, audio: np.ndarray, sample_rate: int) -> bytes:
        """See `SampleFormat`."""
        if len(audio) > _FLAC_CHANNELS:
            raise ValueError(f"it has {len(audio)} channels, and FLAC holds {_FLAC_CHANNELS}")
        words = _quantised(audio, _FLAC_BITS).astype(np.int32) << (32 - _FLAC_BITS)
        stream = io.BytesIO()
        try:
            soundfile.write(stream, words.T, sample_rate, f"PCM_{_FLAC_BITS}", format="FLAC")
        except soundfile.LibsndfileError as error:
            raise ValueError(f"FLAC cannot hold it at {sample_rate} Hz ({error})") from None
        return stream.getvalue()

    def decode(self, data: Buffer, rows: int, samples: int) -> np.ndarray:
        """See `SampleFormat`."""
        out = np.empty((rows, samples), np.float32)
        self.decode_stretch(data, samples, 0, out)
        return out

    def decode_stretch(self, data: Buffer, samples: int, start: int, out: np.ndarray) -> None:
        """Decode a part of a stream, and no more of it than needed.

        Args:
            data: the whole member.
            samples: in the whole stream.
            start: the first sample wanted.
            out: float32, filled.

        Shape:
            out `[rows, n]`

        Raises:
            ValueError: it is no FLAC, or not of these rows and samples.
        """
        rows, count = out.shape
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                found = (file.format, file.subtype, file.channels, file.frames)
                if found != ("FLAC", f"PCM_{_FLAC_BITS}", rows, samples):
                    raise ValueError(f"it holds {found} where the index has FLAC {rows, samples}")
                file.seek(start)
                audio = file.read(count, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise ValueError(f"it cannot be decoded, {str(error).rstrip('.')}") from None
        if len(audio) != count:
            raise ValueError("it ends early")
        out[...] = audio.T


FORMATS: dict[str, SampleFormat] = {
    "float32": PlainFormat("float32", "npy", 4, "<f4"),
    "pcm24": PlainFormat("pcm24", "npy", 3, "|u1"),
    "pcm16": PlainFormat("pcm16", "npy", 2, "<i2"),
    "flac": FlacFormat("flac", "flac", 0),
}
"""By their names."""


def to_float32(stored: np.ndarray) -> np.ndarray:
    """What a .npy member of any sample format holds, as audio: for readers that decode it alone.

    Args:
        stored: as numpy or webdataset read it: float32, int16, or the bytes of 24-bit samples.

    Shape:
        stored `[rows, T]`, or `[rows, T, 3]` for bytes; the result `[rows, T]`
    """
    if stored.dtype == np.int16:
        return stored.astype(np.float32) * np.float32(2.0**-15)
    if stored.dtype != np.uint8:
        return stored.astype(np.float32, copy=False)
    out = np.empty(stored.shape[:2], np.float32)
    _decode_24(stored.tobytes(), out.reshape(-1))
    return out


def _quantised(audio: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers in floats; scaling by a power of two is exact."""
    if not np.all(np.abs(audio) <= 1.0):
        peak = np.max(np.abs(audio))
        raise ValueError(f"it peaks at {peak:.6g}, and integer samples end at 1")
    full = 2.0 ** (bits - 1)
    return np.minimum(np.rint(audio.astype(np.float32, copy=False) * np.float32(full)), full - 1)


def _decode_24(raw: Buffer, out: np.ndarray) -> None:
    """Each sample is the low three bytes of a word that starts at it; the last has no fourth."""
    n = len(out)
    words = np.ndarray(n - 1, "<i4", raw, strides=(3,))
    shifted = np.left_shift(words, 8)
    np.copyto(out[:-1], shifted, casting="same_kind")  # exact: 24 bits fit
    out[-1] = int.from_bytes(bytes(raw[3 * n - 3 : 3 * n]), "little", signed=True) << 8
    out *= np.float32(2.0**-31)


@lru_cache(maxsize=256)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    about = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()
