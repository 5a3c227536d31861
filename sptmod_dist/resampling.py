"""Changing a signal's rate, whole or in blocks, by torchaudio; and importing torchaudio.

It must not know of files; `audio.py` offers these functions beside reading and writing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sptmod_dist.errors import UserError

_LEAST = 16_384  # input samples: smaller blocks are gathered, for speed
_MAX_KERNEL = 32_000_000  # values, 128 MB: 147:160 needs 45,000, 44,100:44,101 would need 2e9


def resample(audio: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the rate of a whole signal by a Kaiser-windowed sinc of 64 zero crossings a side.

    The signal counts as silent before its start and after its end. Delay is zero.

    Args:
        audio: float32 samples.
        from_rate, to_rate: in Hz; equal rates give `audio` back.

    Shape:
        `[C, T]` to `[C, ceil(T · to_rate / from_rate)]`

    Raises:
        UserError: the rates have so little in common that the filter would not fit in memory.
    """
    if from_rate == to_rate:
        return audio
    return _Resampler(from_rate, to_rate).apply(audio)


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int
) -> Iterator[np.ndarray]:
    """Change the rate of a signal that comes in blocks, in constant memory.

    The blocks that come out, joined, are `resample` of the blocks that went in, joined, up to
    rounding. They need not be of the sizes that went in.

    Shape:
        each block `[C, n]`, any `n`

    Raises:
        UserError: as `resample`.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    yield from _Resampler(from_rate, to_rate).stream(blocks)


def import_torchaudio() -> ModuleType:
    """Import torchaudio, also where its native library cannot load beside a CPU-only torch.

    torchaudio's wheels on the index are built for CUDA, so that beside a CPU-only torch the import
    raises OSError. Its Python functions need no native library; with a stand-in for the loader they
    all work.

    Raises:
        UserError: torchaudio is missing, or does not fit this (CUDA) torch.
    """
    try:
        import torchaudio
    except ModuleNotFoundError as error:
        raise UserError("torchaudio is not installed: pip install torchaudio.") from error
    except (ImportError, OSError, RuntimeError) as error:
        if torch.version.cuda is not None or torch.version.hip is not None:
            raise UserError(
                f"torchaudio does not fit torch {torch.__version__} ({error}); "
                "install the torchaudio of the same release and CUDA version."
            ) from error
        sys.modules["torchaudio._extension"] = _torchaudio_stand_in()
        import torchaudio
    return torchaudio


def _torchaudio_stand_in() -> ModuleType:
    module: Any = ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False
    module._IS_ALIGN_AVAILABLE = False
    module.fail_if_no_align = lambda function: function
    return module


class _Resampler:
    """One pair of rates. `orig` input samples make `new` output samples: a *unit* of the polyphase
    filter."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        divisor = math.gcd(from_rate, to_rate)
        self.orig, self.new = from_rate // divisor, to_rate // divisor
        crossings, rolloff = 64, 0.9476
        width = math.ceil(crossings * self.orig / (min(self.orig, self.new) * rolloff))
        if self.new * (2 * width + self.orig) > _MAX_KERNEL:
            raise UserError(
                f"{from_rate} Hz cannot be resampled to {to_rate} Hz: the rates have too little in "
                "common; convert the file to a usual rate first."
            )
        self.context = math.ceil(width / self.orig) + 1  # units that the filter reaches each way
        import_torchaudio()
        from torchaudio.transforms import Resample

        self.filter = Resample(
            self.orig,
            self.new,
            resampling_method="sinc_interp_kaiser",
            lowpass_filter_width=crossings,
            rolloff=rolloff,
            beta=14.769656459379492,
        )

    def apply(self, audio: np.ndarray) -> np.ndarray:
        return self.filter(torch.from_numpy(np.ascontiguousarray(audio, np.float32))).numpy()

    def stream(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        least = (2 * self.context + math.ceil(_LEAST / self.orig)) * self.orig
        pieces: list[np.ndarray] = []
        held = received = made = 0
        for block in blocks:
            if not pieces:
                pieces, held = [self._silence(block, self.context)], self.context * self.orig
            pieces.append(block)
            held, received = held + block.shape[1], received + block.shape[1]
            if held >= least:
                done, rest = self._units(np.concatenate(pieces, axis=1))
                pieces, held, made = [rest], rest.shape[1], made + done.shape[1]
                yield done
        if received:
            pieces.append(self._silence(pieces[0], self.context + 1))
            left = -(-received * self.new // self.orig) - made
            yield self._units(np.concatenate(pieces, axis=1))[0][:, :left]

    def _units(self, buffer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each unit of `buffer` that has its context on both sides, and what the next ones need."""
        units = buffer.shape[1] // self.orig - 2 * self.context
        made = self.apply(buffer[:, : (units + 2 * self.context) * self.orig])
        first = self.context * self.new
        return made[:, first : first + units * self.new], buffer[:, units * self.orig :]

    def _silence(self, like: np.ndarray, units: int) -> np.ndarray:
        return np.zeros((like.shape[0], units * self.orig), np.float32)
