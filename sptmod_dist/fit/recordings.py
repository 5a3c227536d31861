"""The pieces of a pair as files with a manifest, as any other recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.recording_checks import SILENCE
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.fit.cutting import Piece
from sptmod_dist.fit.pair import Pair


def sounds(pair: Pair, start: int, stop: int) -> bool:
    """Whether a piece would pass as a recording: neither side of it is silence."""
    sides = (pair.dry[:, start:stop], audio.remove_dc(pair.wet[:, start:stop]))
    return all(float(np.abs(side).max()) >= SILENCE for side in sides)


def write_recordings(
    folder: Path, pair: Pair, pieces: Sequence[Piece], device: str
) -> Manifest:
    """Write the pieces as WAV files of floats, which are exact, and last the manifest.

    Args:
        folder: where to; one with a manifest is complete and is left as it is.
        device: what was recorded, in words.
    """
    path = folder / "manifest.yaml"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        items = tuple(_write(folder, pair, piece) for piece in pieces)
        Manifest(path, pair.rate, device, (), items).write(path)
    return Manifest.read(path)


def _write(folder: Path, pair: Pair, piece: Piece) -> Item:
    dry, wet = folder / f"{piece.id}-dry.wav", folder / f"{piece.id}-wet.wav"
    for file, side in ((dry, pair.dry), (wet, pair.wet)):
        audio.write(file, side[:, piece.start : piece.stop], pair.rate, "FLOAT")
    return Item(piece.id, dry, None, wet, {}, piece.split)
