"""What validation hears, kept for showing: excerpts of the streamed items, and their level curves.

Each process hears its own items; rank 0 gets what it shows of them, and only when something is
shown. Which stretches these are, `excerpts.py` decides; drawing them is the matter of `showing.py`.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sptmod_dist.data.shards import Sequence, ShardSet
from sptmod_dist.metrics.levels import LevelCurve, frame_levels, gain_of_levels, level_curve
from sptmod_dist.train.excerpts import Excerpt, Moment, busiest, choose
from sptmod_dist.train.ranks import Ranks

logger = logging.getLogger("sptmod_dist")


class Heard(NamedTuple):
    """An excerpt as it went in, as the device makes it, and as the model does: [C, n] each."""

    excerpt: Excerpt
    input: np.ndarray
    target: np.ndarray
    prediction: np.ndarray


class Curves(NamedTuple):
    """Level curves of a whole item, the device's and the model's."""

    target: LevelCurve
    model: LevelCurve


class _Levels(NamedTuple):
    """Of an item's frames, [K] each: what the recordings alone say."""

    steering: np.ndarray
    target: LevelCurve


class Listener:
    """Hears every validation on each rank, and brings together what is shown.

    Args:
        ranks: item k is heard by rank k modulo their number.
        items: what is validated.
        count: excerpts; with 0 it is deaf.
        seconds: of each.
    """

    def __init__(self, ranks: Ranks, items: ShardSet, count: int, seconds: float) -> None:
        self._ranks, self.items = ranks, items
        self.count, self.seconds, self.rate = count, seconds, items.geometry.sample_rate
        self._chosen: list[Excerpt] | None = None
        self._moments: dict[int, Moment] = {}
        self._levels: dict[int, _Levels] = {}
        self._slices: dict[int, np.ndarray] = {}  # [3, C, n]
        self._curves: dict[int, Curves] = {}

    def hear(self, index: int, recording: Sequence, streamed: Tensor) -> None:
        """Keep what may be shown of an item; no training ends by it. Shape: streamed [C, T]."""
        if not self.count:
            return
        try:
            self._keep(index, recording, streamed)
        except Exception as error:
            self._slices.pop(index, None)
            self._curves.pop(index, None)
            logger.warning("item %d is not shown (%s: %s)", index, type(error).__name__, error)

    def _keep(self, index: int, recording: Sequence, streamed: Tensor) -> None:
        target = recording.output
        plain, steering = recording.input[: len(target)], recording.input[len(target) :]
        prediction = streamed.float().cpu().numpy()
        if index not in self._moments:
            self._look_at(index, plain, steering if len(steering) else plain, target)
        if self._chosen is None or index in (excerpt.item for excerpt in self._chosen):
            start, stop, _ = self._moments[index]
            three = [signal[:, start:stop] for signal in (plain, target, prediction)]
            self._slices[index] = np.stack(three).astype(np.float32)
        levels = self._levels[index]
        model = level_curve(levels.steering, frame_levels(prediction, self.rate))
        self._curves[index] = Curves(levels.target, model)

    def _look_at(
        self, index: int, plain: np.ndarray, steering: np.ndarray, target: np.ndarray
    ) -> None:
        """What the recordings alone say, once."""
        before, after, steers = (frame_levels(a, self.rate) for a in (plain, target, steering))
        gain = gain_of_levels(before, after)
        self._moments[index] = busiest(gain, target.shape[1], self.rate, self.seconds)
        self._levels[index] = _Levels(steers, level_curve(steers, after))

    def collect(self) -> tuple[list[Heard], dict[int, Curves]]:
        """The excerpts of the validation that was just heard, on every rank; all must call it.

        Returns:
            The excerpts in the items' order, and the level curves of all items by their place.
        """
        if self._chosen is None:
            everywhere = dict(self._ranks.gather(list(self._moments.items())))
            self._chosen = choose(everywhere, self.items.items, self.count)
            mine = {excerpt.item for excerpt in self._chosen} & set(self._slices)
            self._slices = {item: self._slices[item] for item in mine}
        curves = dict(self._ranks.gather(list(self._curves.items())))
        return [self._heard(excerpt) for excerpt in self._chosen], dict(sorted(curves.items()))

    def _heard(self, excerpt: Excerpt) -> Heard:
        channels = self.items.geometry.input_channels
        shape = (3, channels, excerpt.stop - excerpt.start)
        mine = self._slices.get(excerpt.item)
        signals = torch.zeros(shape) if mine is None else torch.from_numpy(mine)
        owner = excerpt.item % self._ranks.world_size
        return Heard(excerpt, *self._ranks.spread(signals, owner).numpy())
