"""Streaming gives the same audio whatever the blocks and chunks, and never holds more than one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from models import LSTM, MODELS, batch
from torch import Tensor

from sptmod_dist.infer.stream import MOST_FRAMES, stream_blocks, stream_whole
from sptmod_dist.model import SPTMod, SPTModConfig
from sptmod_dist.model.sptmod import ModBlock

P = LSTM.pooling_size
T = 40 * P + 5


def model(config: SPTModConfig = LSTM) -> SPTMod:
    torch.manual_seed(1)
    return SPTMod(config)


def one_call(effect: SPTMod, x: Tensor, controls: Tensor) -> Tensor:
    """The definition: zeros after the end up to a whole frame, one pass, the end cut off."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % effect.config.pooling_size))
    y, _ = effect(padded, controls, state=effect.initial_state(len(controls)))
    return y[..., : x.shape[-1]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [1, P, 7 * P + 3, T, 10**9])
def test_streamed_equals_whole_at_any_chunk_size(name: str, chunk: int) -> None:
    effect = model(MODELS[name])
    x, _, controls = batch(effect.config, T)
    streamed = stream_whole(effect, x, controls, chunk=chunk)
    torch.testing.assert_close(streamed, one_call(effect, x, controls), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [1, P - 1, P, P + 1, 3 * P, T])
@pytest.mark.parametrize("sizes", [[1], [P], [P - 1, P + 1], [5, 0, 200, 1], [10**6]])
def test_streamed_equals_whole_for_any_blocks(length: int, sizes: list[int]) -> None:
    effect = model()
    x, _, controls = batch(LSTM, length)
    chunks = list(stream_blocks(effect, blocks_of(x, sizes), controls, chunk=4 * P))
    assert {chunk.shape[-1] for chunk in chunks[:-1]} <= {4 * P}
    joined = torch.cat(chunks, dim=-1)
    assert joined.shape == (3, LSTM.input_channels, length)
    torch.testing.assert_close(joined, one_call(effect, x, controls), atol=1e-6, rtol=0)


def blocks_of(x: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    start = i = 0
    while start < x.shape[-1]:
        yield x[..., start : start + sizes[i % len(sizes)]]
        start, i = start + sizes[i % len(sizes)], i + 1


def test_the_output_is_aligned_with_the_input() -> None:
    """Where the audio path multiplies by one and adds nothing, the audio comes back unmoved."""
    effect = model()
    for block in effect.blocks:
        assert isinstance(block, ModBlock)
        torch.nn.init.zeros_(block.to_audio.weight)
        block.to_audio.bias.data = torch.tensor([1.0, 0.0])
    x, _, controls = batch(LSTM, T)
    streamed = stream_whole(effect, x, controls, chunk=3 * P)
    # the state's zeros before time 0 are a gain of the bias too, so even the first frame is unmoved
    torch.testing.assert_close(streamed, x[:, :1], atol=1e-6, rtol=0)


def test_one_signal_runs_under_several_settings() -> None:
    effect = model()
    x, _, controls = batch(LSTM, T)
    together = stream_whole(effect, x[:1], controls)
    for row in range(3):
        alone = stream_whole(effect, x[:1], controls[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=0)


def test_a_chunk_comes_out_before_more_is_read_than_it_needs() -> None:
    read = 0

    def endless() -> Iterator[Tensor]:
        nonlocal read
        while True:
            read += 10
            yield torch.zeros(1, 1, 10)

    chunks = stream_blocks(model(), endless(), torch.zeros(1, 2), chunk=8 * P)
    assert read == 0
    for made in range(1, 6):
        next(chunks)
        assert read < 8 * P * made + 10


def test_chunks_stay_under_the_recurrent_layers_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    def note_length(effect, x, controls, state):  # type: ignore[no-untyped-def]
        lengths.append(x.shape[-1])
        return x, state

    monkeypatch.setattr("sptmod_dist.infer.stream._run", note_length)
    x = torch.zeros(1, 1, 70_000 * P)
    stream_whole(model(), x, torch.zeros(1, 2), chunk=10**9)
    assert lengths == [MOST_FRAMES * P, (70_000 - MOST_FRAMES) * P]


def test_nothing_in_gives_nothing_out() -> None:
    assert not list(stream_blocks(model(), [], torch.zeros(1, 2)))


def test_no_graph_grows_while_streaming() -> None:
    x, _, controls = batch(LSTM, T)
    assert not stream_whole(model(), x, controls, chunk=P).requires_grad
