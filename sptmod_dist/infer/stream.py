"""Streaming: audio of any length through the effect, as a listener uses it.

The state starts from zeros and is carried from block to block; no SPN, no target. Memory stays at
one chunk whatever the length. It knows nothing of files, runs or losses (DAFx25, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from sptmod_dist.model.effects import Effect

CHUNK = 65_536
"""Samples a call: long enough that calls cost nothing, short enough for any memory."""

MOST_FRAMES = 65_534
"""cuDNN's recurrent layers fail at 65,536 steps and above; one frame a step."""


class Stream:
    """One signal, or a batch of them, block by block through an effect, as in a plug-in.

    What comes out is as long as what goes in and late by `latency` samples, whatever the blocks'
    sizes; `latency` zeros at the end bring the rest. Joined and without the first `latency`
    samples it is the same audio as that of one call over the whole signal.

    Args:
        effect: its weights' device is where the work is done.
        controls: normalised to 0…1; None for an effect without controls.
        chunk: samples a call of the effect at most, rounded to whole frames.

    Shape: controls [B, n_params].

    Raises:
        ValueError: controls that do not fit to the effect.
    """

    def __init__(self, effect: Effect, controls: Tensor | None = None, chunk: int = CHUNK) -> None:
        self._effect = effect
        self._like = next(effect.parameters())
        frame = effect.config.frame
        self._chunk = min(max(1, chunk // frame), MOST_FRAMES) * frame
        self._controls = self._fitting(self._like.new_zeros(1, 0) if controls is None else controls)
        self.reset()

    @property
    def latency(self) -> int:
        """Samples by which the output is late, `P - 1`: a frame's end decides on its start."""
        return self._effect.config.latency

    @property
    def controls(self) -> Tensor:
        """[B, n_params]. New ones hold from the next block on; a frame that lies in two blocks
        takes those of the second."""
        return self._controls

    @controls.setter
    def controls(self, controls: Tensor) -> None:
        if len(controls) != len(self._controls):
            raise ValueError(f"controls are of {len(controls)} rows, not {len(self._controls)}")
        self._controls = self._fitting(controls)

    def _fitting(self, controls: Tensor) -> Tensor:
        n_params = self._effect.config.n_params
        if controls.ndim != 2 or controls.shape[1] != n_params:
            raise ValueError(f"controls are {tuple(controls.shape)}; they must be (B, {n_params})")
        return controls.to(self._like)

    def reset(self) -> None:
        """Forget all audio: the next block is the first."""
        config, rows = self._effect.config, self._controls.shape[0]
        self._state = self._effect.initial_state(rows)
        self._waiting = self._like.new_zeros(1, config.signal_channels, 0)
        self._ready = self._like.new_zeros(rows, config.input_channels, self.latency)

    @torch.inference_mode()
    def process(self, x: Tensor) -> Tensor:
        """The next block; it may be empty.

        Args:
            x: full scale is 1; the sidechain's channels come after the audio's. One row serves
                every row of the controls. A NaN or infinite sample stays in the state, and all
                that follows is NaN, until `reset`.

        Shape: x [1 or B, C + S, n] -> [B, C, n], on the device of x; all blocks of one stream have
        as many rows.

        Raises:
            ValueError: other rows or channels.
        """
        channels, rows = self._effect.config.signal_channels, len(self._controls)
        fits = len(x) == rows or len(x) == 1 == len(self._waiting)
        if x.ndim != 3 or x.shape[1] != channels or not fits:
            raise ValueError(f"x is {tuple(x.shape)}; it must be ({rows}, {channels}, n)")
        n, frame = x.shape[-1], self._effect.config.frame
        new = x.to(self._like)
        signal = torch.cat([self._waiting.expand(len(new), -1, -1), new], dim=-1)
        whole = signal.shape[-1] // frame * frame
        ready = [self._ready, *self._run(signal[..., :whole])]
        output = torch.cat(ready, dim=-1)
        # Copies: views would keep the whole block alive.
        self._waiting = signal[..., whole:].clone()
        self._ready = output[..., n:].clone()
        return output[..., :n].to(x.device)

    def _run(self, signal: Tensor) -> Iterator[Tensor]:
        """Whole frames, a chunk at a time."""
        rows = self._controls.shape[0]
        for start in range(0, signal.shape[-1], self._chunk):
            x = signal[..., start : start + self._chunk].expand(rows, -1, -1)
            y, self._state = self._effect(x, self._controls, state=self._state)
            yield y


def stream_blocks(
    effect: Effect, blocks: Iterable[Tensor], controls: Tensor, chunk: int = CHUNK
) -> Iterator[Tensor]:
    """Run blocks of any sizes through the effect, lazily, with the latency taken out.

    What comes out, joined, is as long as the blocks, joined, and aligned with them; it is the same
    audio at any chunk size. The end is padded with zeros to a whole frame and cut.

    Args:
        effect: its weights' device is where the work is done; the result comes back to the blocks'.
        blocks: consecutive pieces of one signal, full scale 1; empty ones are skipped.
        controls: normalised to 0…1. With several rows and blocks of one item, the same audio runs
            under each setting.
        chunk: as in `Stream`.

    Shape: blocks [1 or B, C + S, n], controls [B, n_params] -> each [B, C, n'].
    """
    stream = Stream(effect, controls, chunk)
    early, rest = stream.latency, None
    for x in blocks:
        y = stream.process(x)
        missing = min(early, y.shape[-1])
        early -= missing
        if missing < y.shape[-1]:
            yield y[..., missing:]
        rest = x.new_zeros(len(x), x.shape[1], stream.latency)
    if rest is not None:
        yield stream.process(rest)[..., early:]


def stream_whole(effect: Effect, x: Tensor, controls: Tensor, chunk: int = CHUNK) -> Tensor:
    """Run one whole signal through the effect, as `stream_blocks` does.

    Shape: x [1 or B, C + S, T], controls [B, n_params] -> [B, C, T], T > 0.
    """
    return torch.cat(list(stream_blocks(effect, [x], controls, chunk)), dim=-1)
