"""A length plan block by block: what each one receives, consumes, emits, and what is cropped.

For tables and drawings; nothing of the network's own work uses it. Each model's config says how its
blocks follow from its plan. Integers only, no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sptmod_dist.model.lengths import LengthPlan


@dataclass(frozen=True)
class BlockRow:
    """One block of the path that steers the audio, in samples. All ends are the target's end."""

    kernel: int
    dilation: int
    receives: int
    """Samples that go in."""
    consumed: int
    """Samples that the convolution eats, `(k - 1) * d`."""
    frames: int | None
    """Frames that the rest is pooled to; None where nothing is pooled."""
    lost: int
    """Samples of the first frame, which the upsampler eats; 0 where nothing is pooled."""
    emits: int
    """Samples that come out, to the next block and to the audio path."""
    signal_crop: int | None
    """Cropped before the next block; None after the last one."""
    audio_crop: int | None
    """Cropped before the audio path; None where the block steers no audio itself."""


@dataclass(frozen=True)
class LookbackRow:
    """One block of the state prediction network, in samples and then frames."""

    kernel: int
    dilation: int
    stride: int
    pooling: int
    receives: int
    emits: int


def block_rows(
    plan: LengthPlan,
    kernel_sizes: Sequence[int],
    dilations: Sequence[int],
    frame: int = 0,
    each_steers: bool = True,
) -> tuple[BlockRow, ...]:
    """Walk from the plan's input through all blocks.

    Args:
        plan: of the model.
        frame: samples that a block pools and whose first it loses, `P`; 0 where it pools nothing.
        each_steers: every block steers the audio; else the last alone does.
    """
    last, found = len(kernel_sizes) - 1, []
    receives = plan.input_length - plan.modulation_start
    for j, (kernel, dilation) in enumerate(zip(kernel_sizes, dilations, strict=True)):
        consumed = (kernel - 1) * dilation
        emits = receives - consumed - frame
        found.append(
            BlockRow(
                kernel,
                dilation,
                receives,
                consumed,
                (receives - consumed) // frame if frame else None,
                frame,
                emits,
                plan.modulation_crops[j] if j < last else None,
                plan.audio_crops[j] if each_steers or j == last else None,
            )
        )
        receives = emits - plan.modulation_crops[j]
    return tuple(found)


def lookback_rows(
    length: int,
    kernel_sizes: Sequence[int],
    dilations: Sequence[int],
    strides: Sequence[int],
    poolings: Sequence[int],
) -> Iterator[LookbackRow]:
    """Walk from the lookback through the blocks that shrink it to one frame."""
    columns = zip(kernel_sizes, dilations, strides, poolings, strict=True)
    for kernel, dilation, stride, pooling in columns:
        emits = ((length - dilation * (kernel - 1) - 1) // stride + 1) // pooling
        yield LookbackRow(kernel, dilation, stride, pooling, length, emits)
        length = emits
