"""Rendering: an audio file through a run's effect into another audio file, in constant memory.

The result has the source's rate, length and, where the container can hold it, sample format. The
file appears whole or not at all. This file knows runs and audio files, not how either is made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sptmod_dist.audio import AudioInfo, info, read_blocks, resample_blocks, write_blocks
from sptmod_dist.data.controls import Setting, normalised_vector, read_settings
from sptmod_dist.errors import UserError
from sptmod_dist.infer.load import Model, load_model
from sptmod_dist.infer.stream import stream_blocks

SUBTYPES = {
    ".wav": ("PCM_16", "PCM_24", "PCM_32", "FLOAT"),
    ".flac": ("PCM_16", "PCM_24"),
}
"""Containers that are written, and the sample formats that are kept in them."""

LARGEST_WAV = 2**32 - 2**20
"""Bytes: a WAV file counts its size in 32 bits."""


@dataclass(frozen=True)
class RenderReport:
    """What was written."""

    target: Path
    rate: int
    """Hz, of source and target."""
    model_rate: int
    """Hz, at which the model worked."""
    frames: int
    """Samples a channel."""
    channels: int
    subtype: str
    """libsndfile's name of the sample format."""
    clipped: int
    """Samples beyond full scale that an integer format could not hold."""
    elapsed: float
    """Seconds that it took."""

    def summary(self) -> str:
        """What a user wants to know, a fact a line."""
        seconds = self.frames / self.rate
        speed = seconds / max(self.elapsed, 1e-9)
        text = f"{self.target}: {seconds:.2f} s, {self.rate} Hz, {self.subtype}"
        text += f", rendered at {speed:.0f} times real time"
        if self.rate != self.model_rate:
            text += f"\nresampled to the model's {self.model_rate} Hz and back"
        if self.clipped:
            share = 100 * self.clipped / (self.frames * self.channels)
            text += (
                f"\n{self.clipped} samples ({share:.2g} %) lay beyond full scale and were clipped: "
                "a 32-bit float WAV as source keeps them"
            )
        return text


def render(
    run: Path,
    source: Path,
    target: Path,
    settings: Mapping[str, Setting],
    sidechain: Path | None = None,
    overwrite: bool = False,
    checkpoint: Literal["best", "last"] = "best",
) -> RenderReport:
    """Render a file through the effect that a run has learned.

    Args:
        run: the run's folder.
        source: audio of any length and rate, with as many channels as the model has.
        target: `.wav` or `.flac`.
        settings: a value for each of the model's controls, in its own unit, texts as people type
            them among them; none for a snapshot.
        sidechain: what steers the effect, where the model has a sidechain: as long as the source.
        overwrite: replace a target that exists.
        checkpoint: which of the run's.

    Raises:
        UserError: whatever does not fit, in one sentence; no target is written then.
    """
    _check_paths(source, target, sidechain, overwrite)
    return render_with(load_model(run, checkpoint), source, target, settings, sidechain)


def render_with(
    model: Model,
    source: Path,
    target: Path,
    settings: Mapping[str, Setting],
    sidechain: Path | None = None,
) -> RenderReport:
    """The same with a model at hand; a target that exists is replaced."""
    started = time.perf_counter()
    audio = info(source)
    vector = normalised_vector(model.controls, read_settings(model.controls, settings))
    _check_channels(model, source, audio, sidechain)
    subtype = _subtype(audio, target)
    blocks = _rendered(model, source, audio, sidechain, vector)
    clipped = write_blocks(target, blocks, audio.rate, audio.channels, subtype)
    return RenderReport(
        target=target,
        rate=audio.rate,
        model_rate=model.sample_rate,
        frames=audio.frames,
        channels=audio.channels,
        subtype=subtype,
        clipped=clipped,
        elapsed=time.perf_counter() - started,
    )


def _rendered(
    model: Model, source: Path, audio: AudioInfo, sidechain: Path | None, vector: list[float]
) -> Iterator[np.ndarray]:
    """The output [C, n], block by block, at the source's rate and exactly of its length."""
    blocks = resample_blocks(_inputs(source, sidechain), audio.rate, model.sample_rate)
    tensors = (torch.from_numpy(block)[None] for block in blocks)  # [1, C + S, n]
    streamed = stream_blocks(model.effect, tensors, torch.tensor(vector).reshape(1, -1))
    outputs = (block[0].float().numpy() for block in streamed)
    left = audio.frames  # resampling rounds lengths up, so there and back gives no fewer
    for block in resample_blocks(outputs, model.sample_rate, audio.rate):
        if not np.isfinite(block).all():
            raise UserError(f"{source} is too loud to be rendered (beyond 1e30): scale it down")
        yield block[:, :left]
        left -= block[:, :left].shape[1]


def _inputs(source: Path, sidechain: Path | None) -> Iterator[np.ndarray]:
    """Blocks [C + S, n] of the source with its sidechain below it."""
    if sidechain is None:
        yield from _finite_blocks(source)
        return
    for block in zip(_finite_blocks(source), _finite_blocks(sidechain), strict=True):
        yield np.concatenate(block)


def _finite_blocks(path: Path) -> Iterator[np.ndarray]:
    """A NaN would stay in the recurrent states and silence all that follows."""
    for block in read_blocks(path):
        if not np.isfinite(block).all():
            raise UserError(f"{path} holds samples that are not finite numbers: export it again")
        yield block


def _check_paths(source: Path, target: Path, sidechain: Path | None, overwrite: bool) -> None:
    """Everything about the target that can be known before a model is loaded."""
    if target.suffix.lower() not in SUBTYPES:
        raise UserError(
            f"{target} has the extension {target.suffix!r}: choose {' or '.join(SUBTYPES)}"
        )
    if not target.parent.is_dir():
        raise UserError(f"the folder {target.parent} of {target} does not exist: create it first")
    if target.is_dir():
        raise UserError(f"{target} is a folder: give the name of a file")
    for path in (source, sidechain):
        if path is not None and target.exists() and path.exists() and target.samefile(path):
            raise UserError(f"{target} is also read from: give the result another name")
    if os.path.lexists(target) and (target.is_symlink() or not target.is_file()):
        raise UserError(f"{target} is a link or no plain file: give the result another name")
    if target.exists() and not overwrite:
        raise UserError(f"{target} exists: add --overwrite to replace it, or choose another name")


def _check_channels(model: Model, source: Path, audio: AudioInfo, sidechain: Path | None) -> None:
    wanted = model.architecture.input_channels
    if audio.channels != wanted:
        raise UserError(
            f"{source} has {audio.channels} channels: this model takes {wanted}; render the "
            "channels that it takes as files of their own"
        )
    wanted = model.architecture.sidechain_channels
    if sidechain is None:
        if wanted:
            raise UserError("this model is steered by a sidechain: give its file with --sidechain")
        return
    if not wanted:
        raise UserError(f"this model has no sidechain: leave out --sidechain {sidechain}")
    _check_sidechain(sidechain, info(sidechain), audio, wanted)


def _check_sidechain(path: Path, steering: AudioInfo, audio: AudioInfo, channels: int) -> None:
    if steering.channels != channels:
        raise UserError(
            f"{path} has {steering.channels} channels: this model's sidechain takes {channels}"
        )
    for what, has, needs in (
        ("a rate of", f"{steering.rate} Hz", f"{audio.rate} Hz"),
        ("a length of", f"{steering.frames} samples", f"{audio.frames} samples"),
    ):
        if has != needs:
            raise UserError(f"{path} has {what} {has}, but the source has {needs}: make them equal")


def _subtype(audio: AudioInfo, target: Path) -> str:
    """The source's sample format where the container holds it; 32-bit floats for doubles."""
    wanted = "FLOAT" if audio.subtype == "DOUBLE" else audio.subtype
    subtype = wanted if wanted in SUBTYPES[target.suffix.lower()] else "PCM_24"
    width = 4 if subtype == "FLOAT" else int(subtype[-2:]) // 8
    if target.suffix.lower() == ".wav" and audio.frames * audio.channels * width > LARGEST_WAV:
        raise UserError(f"{target} would be larger than a WAV file can be (4 GiB): choose .flac")
    return subtype
