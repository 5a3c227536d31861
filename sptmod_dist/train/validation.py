"""The validation loss, measured both ways (DAFx25, section 2.4).

WT, windowed target: as in training, in groups with the SPN, over all full windows of an item.
ST, streamed target: as in use, from an item's start to its end with states carried, no SPN and no
target seen. ST above WT is the SPN's exposure bias; ST is what a listener gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sptmod_dist.data.controls import Control, shown
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.losses import Loss, LossTerms
from sptmod_dist.model.effects import Effect
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.listening import Listener
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
    wt_by_sub_sequence: tuple[Terms, ...]
    """Windowed target, over each place in a group alone."""
    st_by_control: Terms
    """The total of `st` over the items of each bin of each control, see `control_bins`."""

    def scalars(self) -> dict[str, float]:
        """All of it by TensorBoard's tags."""
        found = {
            f"validation_{way}/{term}": value
            for way in ("wt", "st", "st_whole")
            for term, value in getattr(self, way).items()
        }
        for i, terms in enumerate(self.wt_by_sub_sequence):
            found |= {f"validation_wt_by_sub_sequence/{term}/{i}": v for term, v in terms.items()}
        found |= {f"validation_st_by_control/{bin}": v for bin, v in self.st_by_control.items()}
        found["validation_st/minus_wt"] = self.st["total"] - self.wt["total"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


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

    Shape: x [1, C + S, T], y [1, C, T], controls [1, n_params] ->
    [3 + N (WT, ST, ST whole, then WT of each sub-sequence), terms].
    """
    streamed = stream_whole(cast(Effect, networks["effect"]), x, controls)
    return streamed_terms(networks, schedule, loss, streamed, x, y, controls, windows_at_once)


def streamed_terms(
    networks: Mapping[str, nn.Module],
    schedule: Schedule,
    loss: Loss,
    streamed: Tensor,
    x: Tensor,
    y: Tensor,
    controls: Tensor,
    windows_at_once: int,
    alive: Callable[[], None] = lambda: None,
) -> Tensor:
    """As `item_terms`, of an item that is streamed already; `alive` is called now and then.

    Shape: streamed [1, C, T].
    """
    parts = []
    for row in _rows(x, y, controls, schedule, windows_at_once):
        alive()
        parts.append(_windowed(networks, schedule, loss, *row))
    windows = torch.cat(parts, dim=1)
    wt = windows.mean(1)  # [N, terms]
    pairs = zip(*(_sub_sequences(signal, schedule) for signal in (streamed, y)), strict=True)
    st = [_terms(loss, prediction, target) for prediction, target in pairs]
    whole = _terms(loss, streamed, y)
    return torch.stack([wt.mean(0), torch.cat(st).mean(0), whole.mean(0), *wt])


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
    """The terms of some windows, [N, K, terms]."""
    state, terms = None, []
    for sub in schedule.split(x, y, controls):
        step = forward(networks["effect"], networks.get("spn"), sub, state)
        state = step.state
        terms.append(_terms(loss, step.prediction, sub.target))
    return torch.stack(terms)


class Validator:
    """Spread the items over the ranks and bring their terms together, in the items' own order.

    The sum runs over the same numbers in the same order whatever the number of processes is.

    Args:
        items: a set of whole items.
        windows_at_once: rows of a windowed batch; bounds the memory.
        listener: hears each item that this rank streams.
    """

    def __init__(
        self,
        ranks: Ranks,
        items: ShardSet,
        schedule: Schedule,
        loss: Loss,
        windows_at_once: int,
        dtype: torch.dtype,
        listener: Listener,
    ) -> None:
        self._ranks, self._items, self._schedule, self._loss = ranks, items, schedule, loss
        self._windows_at_once, self._dtype, self._listener = windows_at_once, dtype, listener

    def run(
        self,
        networks: Mapping[str, nn.Module],
        look: Callable[[str], bool],
        alive: Callable[[], None],
    ) -> Validation | None:
        """Measure WT and ST over all items; every rank gets the same figures.

        Args:
            networks: `effect` and, where there is one, `spn`, plain and equal on every rank.
            look: told what comes next; says whether this rank was asked to stop.
            alive: called now and then while an item is worked at.

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
            table += self._round(networks, first + ranks.rank, alive)
        # Taken once: what follows from these figures is the same decision everywhere.
        return ranks.on_main(lambda: self._together(table))

    def _together(self, table: list[list[float]]) -> Validation:
        """Means over all items, in their order. Shape: table [items, (3 + N) * terms]."""
        names = LossTerms._fields
        means = [math.fsum(column) / len(table) for column in zip(*table, strict=True)]
        rows = [means[i : i + len(names)] for i in range(0, len(means), len(names))]
        wt, st, st_whole, *parts = (dict(zip(names, row, strict=True)) for row in rows)
        by_control: dict[str, list[float]] = {}
        for item, terms in zip(self._items.items, table, strict=True):
            for bin in control_bins(self._items.geometry.controls, item.controls):
                by_control.setdefault(bin, []).append(terms[len(names) + names.index("total")])
        bins = {bin: math.fsum(by_control[bin]) / len(by_control[bin]) for bin in by_control}
        return Validation(wt, st, st_whole, tuple(parts), dict(sorted(bins.items())))

    def _round(
        self, networks: Mapping[str, nn.Module], mine: int, alive: Callable[[], None]
    ) -> list[list[float]]:
        """One item on each rank, as far as there are any; the terms of all of them, in order."""
        items = range(mine, min(mine + 1, len(self._items.items)))
        with torch.no_grad():
            terms = self._ranks.together(lambda: [self._item(networks, k, alive) for k in items])
        return self._ranks.gather(terms)

    def _item(
        self, networks: Mapping[str, nn.Module], index: int, alive: Callable[[], None]
    ) -> list[float]:
        item = self._items.item(index)
        x, y, controls = (
            torch.as_tensor(a)[None].to(self._ranks.device, self._dtype)
            for a in (item.input, item.output, item.controls)
        )
        streamed = stream_whole(cast(Effect, networks["effect"]), x, controls)
        self._listener.hear(index, item, streamed[0])
        at_once = self._windows_at_once
        terms = streamed_terms(
            networks, self._schedule, self._loss, streamed, x, y, controls, at_once, alive
        )
        return terms.flatten().tolist()


THIRDS = ("low", "middle", "high")


def control_bins(controls: Sequence[Control], vector: Sequence[float]) -> list[str]:
    """For each control `NAME/BIN`: the position of a switch, or the third of its range that a
    setting lies in, on the control's own scale.

    Args:
        controls: of the device.
        vector: where each stands, 0 … 1.
    """
    return [
        f"{control.name}/{_position(control, place)}"
        for control, place in zip(controls, vector, strict=True)
    ]


def _position(control: Control, place: float) -> str:
    if control.scale == "list":
        return shown(control.at(place))
    return THIRDS[min(int(len(THIRDS) * place), len(THIRDS) - 1)]
