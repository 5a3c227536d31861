"""The validation loss, measured both ways (DAFx25, section 2.4).

WT, windowed target: as in training, in groups with the SPN, over all full windows of an item.
ST, streamed target: as in use, from an item's start to its end with states carried, no SPN and no
target seen. ST above WT is the SPN's exposure bias; ST is what a listener gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sptmod_dist.data.shards import ShardSet
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.losses import Loss, LossTerms
from sptmod_dist.model.effects import Effect
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.ranks import Ranks

Terms = dict[str, float]


@dataclass(frozen=True)
class Validation:
    """Loss terms, means over windows and then over items."""

    wt: Terms
    """Windowed target, over all full windows."""
    st: Terms
    """Streamed target, over the same windows."""
    st_whole: Terms
    """Streamed target, over whole items."""


def item_terms(
    networks: Mapping[str, nn.Module],
    schedule: Schedule,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    controls: Tensor,
    windows_at_once: int,
) -> Tensor:
    """The terms of one item, each way.

    Shape: x [1, C + S, T], y [1, C, T], controls [1, n_params] -> [3 (WT, ST, ST whole), terms].
    """
    streamed = stream_whole(cast(Effect, networks["effect"]), x, controls)
    rows = _rows(x, y, controls, schedule, windows_at_once)
    wt = [_windowed(networks, schedule, loss, *row) for row in rows]
    pairs = zip(*(_sub_sequences(signal, schedule) for signal in (streamed, y)), strict=True)
    st = [_terms(loss, prediction, target) for prediction, target in pairs]
    whole = _terms(loss, streamed, y)
    return torch.stack([torch.cat(wt).mean(0), torch.cat(st).mean(0), whole.mean(0)])


def _terms(loss: Loss, prediction: Tensor, target: Tensor) -> Tensor:
    """Each row's terms, [B, terms], in float64 so that sums over many windows stay exact."""
    return torch.stack(loss.per_item(prediction, target), dim=-1).double()


def _windows(signal: Tensor, length: int, hop: int) -> Tensor:
    """All full windows of one item as rows: [1, c, T] -> [K, c, length]."""
    return signal[0].unfold(-1, length, hop).transpose(0, 1)


def _sub_sequences(signal: Tensor, schedule: Schedule) -> tuple[Tensor, ...]:
    """The parts that the windows' outputs tile: [1, C, T] -> N times [K, C, L_i]."""
    n_windows = schedule.n_sequences(signal.shape[-1])
    start, hop = schedule.target_start, schedule.hop
    outputs = _windows(signal[..., start : start + n_windows * hop], hop, hop)
    return outputs.split(schedule.lengths, -1)


def _rows(
    x: Tensor, y: Tensor, controls: Tensor, schedule: Schedule, at_once: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    windows = [_windows(s, schedule.sequence_length, schedule.hop).split(at_once) for s in (x, y)]
    for inputs, targets in zip(*windows, strict=True):
        yield inputs, targets, controls.expand(len(inputs), -1)


def _windowed(
    networks: Mapping[str, nn.Module],
    schedule: Schedule,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    controls: Tensor,
) -> Tensor:
    state, terms = None, []
    for sub in schedule.split(x, y, controls):
        step = forward(networks["effect"], networks.get("spn"), sub, state)
        state = step.state
        terms.append(_terms(loss, step.prediction, sub.target))
    return torch.cat(terms)


class Validator:
    """Spread the items over the ranks and bring their terms together, in the items' own order.

    The sum runs over the same numbers in the same order whatever the number of processes is.

    Args:
        items: a set of whole items.
        windows_at_once: rows of a windowed batch; bounds the memory.
    """

    def __init__(
        self,
        ranks: Ranks,
        items: ShardSet,
        schedule: Schedule,
        loss: Loss,
        windows_at_once: int,
        dtype: torch.dtype,
    ) -> None:
        self._ranks, self._items, self._schedule, self._loss = ranks, items, schedule, loss
        self._windows_at_once, self._dtype = windows_at_once, dtype

    def run(
        self, networks: Mapping[str, nn.Module], look: Callable[[str], bool]
    ) -> Validation | None:
        """Measure WT and ST over all items; every rank gets the same figures.

        Args:
            networks: `effect` and, where there is one, `spn`, plain and equal on every rank.
            look: told what comes next; says whether this rank was asked to stop.

        Returns:
            The figures; None when a rank was asked to stop before they were complete.

        Raises:
            UserError: an item cannot be read, on whatever rank.
        """
        ranks, count = self._ranks, len(self._items.items)
        table: list[list[float]] = []
        for first in range(0, count, ranks.world_size):
            asked = look(f"validating from item {first} on")
            if ranks.share(torch.tensor([float(asked)])).any():
                return None
            table += self._round(networks, first + ranks.rank)
        # Taken once: what follows from these figures is the same decision everywhere.
        means = ranks.on_main(lambda: [math.fsum(c) / len(table) for c in zip(*table, strict=True)])
        names = LossTerms._fields
        rows = [means[i : i + len(names)] for i in range(0, len(means), len(names))]
        return Validation(*(dict(zip(names, row, strict=True)) for row in rows))

    def _round(self, networks: Mapping[str, nn.Module], mine: int) -> list[list[float]]:
        """One item on each rank, as far as there are any; the terms of all of them, in order."""
        items = range(mine, min(mine + 1, len(self._items.items)))
        with torch.no_grad():
            terms = self._ranks.together(lambda: [self._item(networks, k) for k in items])
        return self._ranks.gather(terms)

    def _item(self, networks: Mapping[str, nn.Module], index: int) -> list[float]:
        item = self._items.item(index)
        x, y, controls = (
            torch.as_tensor(a)[None].to(self._ranks.device, self._dtype)
            for a in (item.input, item.output, item.controls)
        )
        terms = item_terms(
            networks, self._schedule, self._loss, x, y, controls, self._windows_at_once
        )
        return terms.flatten().tolist()
