"""How many samples go in where, so that a wanted number comes out: integers only, no torch.

A group of sub-sequences starts without any padding, so every convolution and every upsampler eats
samples at its start. This file plans the slices of the input and the crops inside the network that
make all the lengths meet. It knows kernel sizes, not weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GroupLengths:
    """The sums over a group: what whoever has `lengths` and `input_length` can tell."""

    lengths: tuple[int, ...]
    """Samples of output of each sub-sequence, `L_0 … L_{N-1}`."""
    input_length: int
    """Samples of input that the first sub-sequence needs, `L_0^in`."""

    @property
    def hop(self) -> int:
        """Samples of output in a group, `L_c`; sequences stand so far apart that outputs tile."""
        return sum(self.lengths)

    @property
    def target_start(self) -> int:
        """Samples of a sequence before its first wanted output."""
        return self.input_length - self.lengths[0]

    @property
    def sequence_length(self) -> int:
        """Samples of one sequence: `L_0^in + L_1 + … + L_{N-1}`."""
        return self.target_start + self.hop

    def n_sequences(self, samples: int) -> int:
        """How many whole sequences a recording of so many samples holds."""
        return max(0, (samples - self.target_start) // self.hop)


@dataclass(frozen=True)
class LengthPlan:
    """The slices and crops of a group's first sub-sequence (DAFx25 section 2.2, from our own sums).

    All numbers are samples. Starts count from the first input sample; every slice ends where the
    input ends, but for the lookback, which ends where the target starts. Crops are on the left.
    """

    target_length: int
    """Samples of output, `L_0`."""
    input_length: int
    """Samples of input that the output needs, `L_0^in`."""
    lookback_length: int
    """Samples that the state prediction network reads before the target; 0 without one."""
    modulation_start: int
    """Where the modulation path's input starts."""
    audio_start: int
    """Where the audio path's input starts."""
    lookback_start: int
    """Where the lookback starts."""
    modulation_crops: tuple[int, ...]
    """Cropped from block j's signal before the next modulation block (the last one's is unused)."""
    audio_crops: tuple[int, ...]
    """Cropped from block j's modulation before it meets the audio path."""

    @property
    def target_start(self) -> int:
        """Where the output starts."""
        return self.input_length - self.target_length


def plan_lengths(
    target_length: int,
    consumed: Sequence[int],
    pooling_size: int,
    lookback_length: int = 0,
) -> LengthPlan:
    """Plan the slices and crops for an output of `target_length` samples.

    From the last block backwards, `k` is the least number of frames whose pooled length feeds all
    that follows; what is too much is cropped on the left.

    Args:
        target_length: samples of output, at least 1.
        consumed: samples that each block's convolution consumes, `(kernel - 1) * dilation`.
        pooling_size: samples in a frame, `P`.
        lookback_length: samples for the state prediction network; 0 without one.

    Raises:
        ValueError: where `target_length` is not positive.
    """
    if target_length < 1:
        raise ValueError(f"target_length is {target_length}; it must be at least 1")
    n_blocks = len(consumed)
    modulation_crops = [0] * n_blocks
    audio_crops = [0] * n_blocks
    needed = target_length  # samples that the blocks after j want of block j, their crops included
    frames = 0
    for j in reversed(range(n_blocks)):
        later = n_blocks - j  # upsamplers from block j on, each of which eats one frame
        frames = later + -(-needed // pooling_size)
        modulation_crops[j] = (frames - later) * pooling_size - needed
        audio_crops[j] = (frames - 1) * pooling_size - target_length
        needed += modulation_crops[j] + consumed[j]
    modulation_start = target_length - consumed[0] - frames * pooling_size  # relative to time 0
    input_length = target_length + max(-modulation_start, 0, lookback_length)
    target_start = input_length - target_length
    return LengthPlan(
        target_length=target_length,
        input_length=input_length,
        lookback_length=lookback_length,
        modulation_start=target_start + modulation_start,
        audio_start=target_start,
        lookback_start=target_start - lookback_length,
        modulation_crops=tuple(modulation_crops),
        audio_crops=tuple(audio_crops),
    )


def lookback_samples(
    kernel_sizes: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    poolings: Sequence[int],
) -> int:
    """Samples that a stack of strided convolutions and poolings shrinks to exactly one frame."""
    n = 1
    for kernel, dilation, stride, pooling in reversed(
        list(zip(kernel_sizes, dilations, strides, poolings, strict=True))
    ):
        n = 1 + dilation * (kernel - 1) + stride * (pooling * n - 1)
    return n
