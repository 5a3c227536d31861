"""What several processes hear, brought together: that of one."""

from __future__ import annotations

from threading import Barrier, Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sptmod_dist.data.shard_index import Item
from sptmod_dist.data.shards import Sequence
from sptmod_dist.metrics import level_curve
from sptmod_dist.metrics.levels import frame_levels
from sptmod_dist.train import listening
from sptmod_dist.train.listening import Listener
from sptmod_dist.train.ranks import Ranks

RATE, ITEMS = 8000, 5


class Thronged(Ranks):
    """Ranks that are threads of this process; each exchange is one round of a barrier."""

    def __init__(self, rank, table, barrier):
        super().__init__(rank, barrier.parties, torch.device("cpu"))
        self._table, self._barrier = table, barrier

    def _exchange(self, mine):
        self._table[self.rank] = mine
        self._barrier.wait()
        everyone = list(self._table)
        self._barrier.wait()
        return everyone

    def gather(self, items):
        return [item for each in self._exchange(items) for item in each]

    def spread(self, values, source):
        return self._exchange(values.clone())[source]


@pytest.fixture(scope="module")
def items():
    """Recordings of different lengths, stereo with a sidechain, and what a model made of them."""
    random, found = np.random.default_rng(2), []
    for k in range(ITEMS):
        samples = 4000 + 700 * k
        x = random.normal(size=(3, samples)).astype(np.float32) * np.linspace(0.02, 0.4, samples)
        gain = 0.5 + 0.4 * np.sin(np.arange(samples) * k / 300)
        y = (x[:2] * gain).astype(np.float32)
        recording = Sequence(x.astype(np.float32), y, np.array([k % 3 / 2], np.float32))
        found.append((recording, torch.from_numpy(y * 0.9).double()))
    return found


def listener(ranks, items, count=3):
    about = [
        Item(f"i{k}", {}, recording.controls.tolist(), recording.output.shape[1], 1, 0, f"{k}")
        for k, (recording, _) in enumerate(items)
    ]
    geometry = SimpleNamespace(sample_rate=RATE, input_channels=2)
    return Listener(ranks, SimpleNamespace(items=about, geometry=geometry), count, 0.25)


def heard_by(ranks, items, rounds=2):
    """What is collected after two validations, of which the first is not shown."""
    ear = listener(ranks, items)
    for shift in range(rounds):
        for k in range(ranks.rank, ITEMS, ranks.world_size):
            recording, prediction = items[k]
            ear.hear(k, recording, prediction * (1 - 0.1 * shift))
        collected = ear.collect()
    return collected


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_any_number_of_processes_hears_what_one_hears(items, world_size):
    alone, curves = heard_by(Ranks(0, 1, torch.device("cpu")), items)
    found, barrier = [None] * world_size, Barrier(world_size)
    table = [None] * world_size

    def listen(rank):
        found[rank] = heard_by(Thronged(rank, table, barrier), items)

    threads = [Thread(target=listen, args=(rank,)) for rank in range(world_size)]
    [thread.start() for thread in threads]
    [thread.join(30) for thread in threads]
    assert len(alone) == 3 and len(curves) == ITEMS
    for together, shapes in found:
        assert [each.excerpt for each in together] == [each.excerpt for each in alone]
        for one, other in zip(alone, together, strict=True):
            for a, b in zip(one[1:], other[1:], strict=True):
                np.testing.assert_array_equal(a, b)
        assert list(shapes) == list(curves)
        for k in curves:
            np.testing.assert_array_equal(np.array(shapes[k]), np.array(curves[k]))


def test_what_is_heard_is_the_audio_of_the_last_validation(items):
    heard, curves = heard_by(Ranks(0, 1, torch.device("cpu")), items)
    for each in heard:
        recording, prediction = items[each.excerpt.item]
        part = slice(each.excerpt.start, each.excerpt.stop)
        np.testing.assert_array_equal(each.input, recording.input[:2, part])
        np.testing.assert_array_equal(each.target, recording.output[:, part])
        expected = (prediction * 0.9).float().numpy()[:, part]
        np.testing.assert_allclose(each.prediction, expected, rtol=1e-6)
    recording, prediction = items[0]
    steering = frame_levels(recording.input[2:], RATE)  # the sidechain steers
    model = frame_levels((prediction * 0.9).float().numpy(), RATE)
    np.testing.assert_allclose(np.array(curves[0].model), np.array(level_curve(steering, model)))


def test_an_excerpt_is_the_loudest_movement_of_its_setting(items):
    heard, _ = heard_by(Ranks(0, 1, torch.device("cpu")), items)
    assert [each.excerpt.item for each in heard] == [2, 3, 4]


def test_without_excerpts_nothing_is_kept(items):
    ear = listener(Ranks(0, 1, torch.device("cpu")), items, count=0)
    ear.hear(0, *items[0])
    assert not ear._slices and not ear._curves


def test_what_cannot_be_kept_ends_nothing(items, monkeypatch):
    def failing(*_):
        raise MemoryError("too long")

    ear = listener(Ranks(0, 1, torch.device("cpu")), items)
    monkeypatch.setattr(listening, "frame_levels", failing)
    ear.hear(0, *items[0])
    monkeypatch.undo()
    assert ear.collect() == ([], {})
