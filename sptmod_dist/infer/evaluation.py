"""What an evaluation found: figures of each item and what follows for all of them.

Plain numbers; it knows nothing of models, audio or sets, nor how they are written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from sptmod_dist.data.controls import Control, Setting
from sptmod_dist.infer.eval_names import ESRS, FIGURES, WAYS, short
from sptmod_dist.metrics import Spurs, ratio

LISTENING, LEVELS = "clip-", "levels-"
"""Items so named are for listening and for the level curve; without any, all items serve."""


class Named(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str: ...


NamedItem = TypeVar("NamedItem", bound=Named)


@dataclass(frozen=True)
class Errors:
    """Energies of what each way leaves of the target, and of the target itself."""

    unprocessed: float
    static_gain: float
    model: float
    target: float

    @property
    def esr(self) -> dict[str, float]:
        """Error-to-signal ratios."""
        ways = ("unprocessed", "static_gain", "model")
        return {way: ratio(getattr(self, way), self.target) for way in ways}


@dataclass(frozen=True)
class Windows:
    """The loss's terms of an item that is long enough for the training's windows."""

    wt: dict[str, float]
    """Windowed target: in groups, from states that the SPN predicts."""
    st: dict[str, float]
    """Streamed target: from the item's start, no target seen."""
    whole: dict[str, float] = field(default_factory=dict)
    """Streamed target over the whole item."""

    @property
    def gap(self) -> float:
        """ST minus WT of the total loss: the exposure bias."""
        return self.st["total"] - self.wt["total"]


@dataclass(frozen=True)
class ItemResult:
    """How one item went."""

    id: str
    settings: dict[str, Setting]
    samples: int
    gain: float
    """The best static gain."""
    loss: dict[str, float]
    """The training loss's terms over the whole item, streamed; empty for an item that is too short
    for the loss's windows."""
    errors: Errors
    weighted: dict[str, Errors] = field(default_factory=dict)
    """The same energies pre-emphasised and A-weighted, by the name of their ESR."""
    figures: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Each way's figures by name, None where one does not exist."""
    windows: Windows | None = None
    """None for an item that is too short for one window."""
    aliasing_db: float | None = None
    """The model's worst on tones, under this item's setting."""

    @property
    def error(self) -> float:
        """The loss; the ESR where the item is too short for one."""
        return self.loss.get("total", self.errors.esr["model"])


@dataclass(frozen=True)
class Aliasing:
    """What steady tones become under one setting."""

    settings: dict[str, Setting]
    tones: dict[int, Spurs | None]
    """By their frequency in Hz; None where the model leaves nothing of the tone."""

    @property
    def worst_db(self) -> float | None:
        """Of the worst tone."""
        heard = [found.aliasing_db for found in self.tones.values() if found is not None]
        return max(heard, default=None)


@dataclass(frozen=True)
class Evaluation:
    """All items' results, and where they were written."""

    folder: Path
    checkpoint: str
    items: tuple[ItemResult, ...]
    source: str = ""
    """What was evaluated, in words."""
    fingerprint: str | None = None
    """Of the set of shards; None for a folder of pairs."""
    sample_rate: int = 44_100
    controls: tuple[Control, ...] = ()
    aliasing: tuple[Aliasing, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must know of the recordings, a sentence each."""

    @property
    def listening(self) -> tuple[ItemResult, ...]:
        """The items whose errors are pooled."""
        return tuple(chosen(self.items, LISTENING))

    @property
    def pooled(self) -> Errors:
        """Sums over the listening items; the static gain is each item's own."""
        return pooled(self.listening, "esr")

    @property
    def loss(self) -> float | None:
        """Mean total loss over all items."""
        return mean(item.loss.get("total") for item in self.items)

    @property
    def worst_first(self) -> tuple[ItemResult, ...]:
        """All items by their loss; by their ESR where one of them is too short for a loss."""
        by_loss = all(item.loss for item in self.items)

        def error(item: ItemResult) -> float:
            return _sortable(item.loss["total"] if by_loss else item.errors.esr["model"])

        return tuple(sorted(self.items, key=lambda item: -error(item)))

    @property
    def worst_aliasing_db(self) -> float | None:
        """Of all settings and tones."""
        heard = [found.worst_db for found in self.aliasing if found.worst_db is not None]
        return max(heard, default=None)

    def summary(self) -> str:
        """A compact table for people."""
        from sptmod_dist.infer.eval_summary import summary

        return summary(self)


def chosen(items: Iterable[NamedItem], prefix: str) -> list[NamedItem]:
    """Those whose id starts with the prefix; all, where none does."""
    items = list(items)
    return [item for item in items if item.id.startswith(prefix)] or items


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that exist. One that is not finite makes the mean so: nothing is hidden."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def means(items: Sequence[ItemResult]) -> dict[str, dict[str, float | None]]:
    """The mean of every figure over items, each way."""
    return {
        way: {
            name: mean(item.figures.get(way, {}).get(name) for item in items) for name in FIGURES
        }
        for way in WAYS
    }


def pooled(items: Sequence[ItemResult], kind: str) -> Errors:
    """Sums of energies over items.

    Args:
        kind: `esr`, or the name of a weighted one.
    """
    errors = [item.errors if kind == "esr" else item.weighted[kind] for item in items]
    columns = zip(*(asdict(one).values() for one in errors), strict=True)
    return Errors(*(math.fsum(column) for column in columns))


def pooled_esrs(items: Sequence[ItemResult]) -> dict[str, dict[str, float | None]]:
    """Every kind of ESR over the items' sums, each way."""
    kinds = [kind for kind in ESRS if all(kind == "esr" or kind in i.weighted for i in items)]
    return {
        kind: {way: _finite(value) for way, value in pooled(items, kind).esr.items()}
        for kind in kinds
    }


def windows_means(items: Sequence[ItemResult]) -> Windows | None:
    """The mean of each term over the items that have windows; None where none has."""
    there = [item.windows for item in items if item.windows is not None]
    if not there:
        return None
    wt, st = (
        {name: math.fsum(terms[name] for terms in column) / len(there) for name in column[0]}
        for column in ([w.wt for w in there], [w.st for w in there])
    )
    return Windows(wt, st)


def in_words(settings: Mapping[str, Setting]) -> str:
    """A setting of all controls in three digits each, such as `ratio 4, knee 2.57`."""
    return ", ".join(f"{name} {short(value)}" for name, value in settings.items())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sortable(value: float) -> float:
    return value if math.isfinite(value) else math.inf
