"""Streaming gives the same audio whatever the blocks and chunks, and never holds more than one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import LSTM, MODELS, TCNS, batch
from processes import ROOT
from tiny_run import SNAPSHOT, make_run
from torch import Tensor

from sptmod_dist.data.controls import Control
from sptmod_dist.infer.stream import MOST_FRAMES, Stream, stream_blocks, stream_whole
from sptmod_dist.model import (
    Effect,
    ModelConfig,
    SPTMod,
    build_effect,
    gain_tcn,
    sptmod24,
    sptmod25,
)
from sptmod_dist.model.sptmod import ModBlock

P = LSTM.pooling_size
T = 40 * P + 5
EFFECTS = MODELS | TCNS
SIZES = [[1], [7], [64], [441], [512], [4096], [3, 0, 700, 1, 64, 5000]]


def model(config: ModelConfig = LSTM) -> Effect:
    torch.manual_seed(1)
    return build_effect(config)


def one_call(effect: Effect, x: Tensor, controls: Tensor) -> Tensor:
    """The definition: zeros after the end up to a whole frame, one pass, the end cut off."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % effect.config.frame))
    y, _ = effect(padded, controls, state=effect.initial_state(len(controls)))
    return y[..., : x.shape[-1]]


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("chunk", [1, P, 7 * P + 3, T, 10**9])
def test_streamed_equals_whole_at_any_chunk_size(name: str, chunk: int) -> None:
    effect = model(EFFECTS[name])
    x, _, controls = batch(effect.config, T)
    streamed = stream_whole(effect, x, controls, chunk=chunk)
    torch.testing.assert_close(streamed, one_call(effect, x, controls), atol=1e-6, rtol=0)


@pytest.mark.parametrize("length", [1, P - 1, P, P + 1, 3 * P, T])
@pytest.mark.parametrize("sizes", [[1], [P], [P - 1, P + 1], [5, 0, 200, 1], [10**6]])
def test_streamed_equals_whole_for_any_blocks(length: int, sizes: list[int]) -> None:
    effect = model()
    x, _, controls = batch(LSTM, length)
    blocks = stream_blocks(effect, blocks_of(x, sizes), controls, chunk=4 * P)
    joined = torch.cat(list(blocks), dim=-1)
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


def test_what_is_read_comes_out_but_for_the_latency() -> None:
    read = made = 0

    def endless() -> Iterator[Tensor]:
        nonlocal read
        while True:
            read += 10
            yield torch.zeros(1, 1, 10)

    chunks = stream_blocks(model(), endless(), torch.zeros(1, 2), chunk=8 * P)
    assert read == 0
    for _ in range(20):
        made += next(chunks).shape[-1]
        assert read == made + LSTM.latency


def test_chunks_stay_under_the_recurrent_layers_limit() -> None:
    lengths: list[int] = []

    class Noting(SPTMod):
        def forward(self, x, controls, state):  # type: ignore[no-untyped-def,override]
            lengths.append(x.shape[-1])
            return x, state

    x = torch.zeros(1, 1, 70_000 * P)
    stream_whole(Noting(LSTM), x, torch.zeros(1, 2), chunk=10**9)
    assert lengths[:2] == [MOST_FRAMES * P, (70_000 - MOST_FRAMES) * P]


def test_nothing_in_gives_nothing_out() -> None:
    assert not list(stream_blocks(model(), [], torch.zeros(1, 2)))


def test_no_graph_grows_while_streaming() -> None:
    x, _, controls = batch(LSTM, T)
    assert not stream_whole(model(), x, controls, chunk=P).requires_grad


@pytest.mark.parametrize("preset", [sptmod24, sptmod25, gain_tcn])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("turning", [False, True])
def test_blocks_of_any_size_and_turned_controls_give_the_offline_result(
    preset: Callable[[int], ModelConfig], sizes: list[int], turning: bool
) -> None:
    """Offline: frames under one setting in one call, the state carried on from call to call."""
    effect = model(preset(2))
    length = 300 if max(sizes) < 64 else 12_000
    x, _, controls = batch(effect.config, length, rows=2)
    stream, settings = Stream(effect, controls), Settings(effect, turning)
    y = [stream.process(block) for block in settings.turned(stream, blocks_of(x, sizes))]
    y.append(stream.process(torch.zeros(2, 1, stream.latency)))
    joined = torch.cat(y, dim=-1)
    assert [block.shape[-1] for block in y[:-1]] == [n.shape[-1] for n in blocks_of(x, sizes)]
    assert not joined[..., : stream.latency].any()
    expected = settings.offline(x, controls)
    torch.testing.assert_close(joined[..., stream.latency :], expected, atol=1e-6, rtol=0)


class Settings:
    """Turns the controls before each block, and notes the last sample until which each holds."""

    def __init__(self, effect: Effect, turning: bool) -> None:
        self.effect, self.turning = effect, turning
        self.ends: list[tuple[int, Tensor]] = []

    def turned(self, stream: Stream, blocks: Iterator[Tensor]) -> Iterator[Tensor]:
        stop = 0
        for number, block in enumerate(blocks):
            if self.turning:
                stream.controls = stream.controls + (-0.1) ** (number % 3 + 1)
            stop += block.shape[-1]
            self.ends.append((stop, stream.controls))
            yield block

    def offline(self, x: Tensor, controls: Tensor) -> Tensor:
        frame, effect = self.effect.config.frame, self.effect
        x = torch.nn.functional.pad(x, (0, -x.shape[-1] % frame))
        state, parts, start = effect.initial_state(len(x)), [], 0
        for end, controls in [*self.ends[:-1], (x.shape[-1], self.ends[-1][1])]:
            stop = end // frame * frame
            if stop > start:
                y, state = effect(x[..., start:stop], controls, state=state)
                parts.append(y)
            start = max(start, stop)
        return torch.cat(parts, dim=-1)[..., : self.ends[-1][0]]


def test_a_stream_that_is_reset_begins_again() -> None:
    x, _, controls = batch(LSTM, T)
    stream = Stream(model(), controls)
    first = stream.process(x)
    assert not torch.equal(stream.process(x), first)
    stream.reset()
    assert torch.equal(stream.process(x), first)


@pytest.mark.parametrize("preset", [sptmod25, gain_tcn])
def test_what_a_stream_holds_does_not_grow(preset: Callable[[int], ModelConfig]) -> None:
    stream = Stream(model(preset(0)))

    def held() -> int:
        tensors = [stream._waiting, stream._ready, *stream._state.tails]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    block = torch.zeros(1, 1, 100)
    most = max(held() for _ in range(64) if stream.process(block) is not None)
    assert max(held() for _ in range(200) if stream.process(block) is not None) <= most
    stream.process(torch.zeros(1, 1, 40 * P + 100))  # a long block is not kept
    assert held() <= most


def test_a_number_that_is_none_stays_until_the_stream_is_reset() -> None:
    stream, block = Stream(model(sptmod25(0))), torch.zeros(1, 1, 100)
    silent = stream.process(block)
    stream.process(block * torch.nan)
    assert not stream.process(block).isfinite().any()
    stream.reset()
    assert torch.equal(stream.process(block), silent)


@pytest.mark.parametrize("controls", [torch.zeros(2, 3), torch.zeros(2), None], ids=str)
def test_controls_that_do_not_fit_are_refused(controls: Tensor | None) -> None:
    with pytest.raises(ValueError, match="they must be"):
        Stream(model(), controls)


def test_controls_cannot_be_turned_for_another_number_of_signals() -> None:
    stream = Stream(model(), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="of 1 rows, not 3"):
        stream.controls = torch.zeros(1, 2)


def test_the_guide_s_python_runs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", replace(SNAPSHOT, n_params=1), [Control("ratio", 1, 4)])
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("runs/demo", str(run)), names)
    assert names["y"].shape == (1, 1, 512) and names["stream"].latency == SNAPSHOT.latency


@pytest.mark.parametrize("shape", [(3, 1, 64), (2, 2, 64), (64,), (1, 64)])
def test_blocks_of_other_rows_or_channels_are_refused(shape: tuple[int, ...]) -> None:
    stream = Stream(model(), torch.zeros(2, LSTM.n_params))
    with pytest.raises(ValueError, match="it must be .2, 1, n."):
        stream.process(torch.zeros(shape))


def test_a_stream_of_several_rows_stays_one_of_several() -> None:
    stream = Stream(model(), torch.zeros(2, LSTM.n_params))
    stream.process(torch.zeros(2, 1, 5))
    with pytest.raises(ValueError, match="it must be"):
        stream.process(torch.zeros(1, 1, 5))
