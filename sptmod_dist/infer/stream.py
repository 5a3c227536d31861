"""Streaming: audio of any length through the effect, as a listener uses it.

The state starts from zeros and is carried from chunk to chunk; no SPN, no target. Memory stays at
one chunk whatever the length. It knows nothing of files, runs or losses (DAFx25, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from sptmod_dist.model.sptmod import ModelState, SPTMod

CHUNK = 65_536
"""Samples a call: long enough that calls cost nothing, short enough for any memory."""

MOST_FRAMES = 65_534
"""cuDNN's recurrent layers fail at 65,536 steps and above; one frame a step."""


def stream_blocks(
    effect: SPTMod, blocks: Iterable[Tensor], controls: Tensor, chunk: int = CHUNK
) -> Iterator[Tensor]:
    """Run blocks of any sizes through the effect, lazily: a chunk comes out once it is full.

    The chunks that come out, joined, are as long as the blocks, joined, and aligned with them; they
    are the same audio at any chunk size. The end is padded with zeros to a whole frame and cut.

    Args:
        effect: its weights' device is where the work is done; the result comes back to the blocks'.
        blocks: consecutive pieces of one signal, full scale 1; empty ones are skipped.
        controls: normalised to 0…1. With several rows and blocks of one item, the same audio runs
            under each setting.
        chunk: samples a call, rounded to whole frames.

    Shape: blocks [1 or B, C + S, n], controls [B, n_params] -> each [B, C, n'], n' <= chunk.
    """
    like = next(effect.parameters())
    P = effect.config.pooling_size
    frames = min(max(1, chunk // P), MOST_FRAMES)
    state = effect.initial_state(controls.shape[0])
    controls = controls.to(like)
    for x in _rechunk(blocks, frames * P):
        y, state = _run(effect, x.to(like), controls, state)
        yield y.to(x.device)


def stream_whole(effect: SPTMod, x: Tensor, controls: Tensor, chunk: int = CHUNK) -> Tensor:
    """Run one whole signal through the effect, as `stream_blocks` does.

    Shape: x [1 or B, C + S, T], controls [B, n_params] -> [B, C, T], T > 0.
    """
    return torch.cat(list(stream_blocks(effect, [x], controls, chunk)), dim=-1)


@torch.inference_mode()
def _run(
    effect: SPTMod, x: Tensor, controls: Tensor, state: ModelState
) -> tuple[Tensor, ModelState]:
    """One call on [1 or B, C + S, n]: whole frames go in, n samples come out."""
    n, P = x.shape[-1], effect.config.pooling_size
    whole = pad(x.expand(controls.shape[0], -1, -1), (0, -n % P))
    y, state = effect(whole, controls, state=state)
    return y[..., :n], state


def _rechunk(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Cut and join blocks to chunks of `size`, the last shorter, holding no more than one."""
    held: list[Tensor] = []
    missing = size
    for block in blocks:
        for start, stop in _cuts(block.shape[-1], missing, size):
            held.append(block[..., start:stop])
            missing -= stop - start
            if not missing:
                yield torch.cat(held, dim=-1)
                held, missing = [], size
    if held:
        yield torch.cat(held, dim=-1)


def _cuts(length: int, first: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut `length` samples after the first `first`, then every `size`."""
    start, stop = 0, min(first, length)
    while start < length:
        yield start, stop
        start, stop = stop, min(stop + size, length)
