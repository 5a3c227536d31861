"""What an evaluation found: energies and loss for each item, pooled figures, table and JSON.

Plain numbers; it knows nothing of models, audio or sets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sptmod_dist.data.controls import Setting
from sptmod_dist.files import atomic_write
from sptmod_dist.metrics import ratio

FORMAT = "sptmod-evaluation-1"
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
class ItemResult:
    """How one item went."""

    id: str
    settings: dict[str, Setting]
    samples: int
    gain: float
    """The best static gain."""
    loss: dict[str, float]
    """The training loss's terms over the whole item."""
    errors: Errors


@dataclass(frozen=True)
class Evaluation:
    """All items' results, and where they were written."""

    folder: Path
    checkpoint: str
    items: tuple[ItemResult, ...]

    @property
    def listening(self) -> tuple[ItemResult, ...]:
        """The items that the summary is about."""
        return tuple(chosen(self.items, LISTENING))

    @property
    def pooled(self) -> Errors:
        """Sums over the listening items; the static gain is each item's own."""
        columns = zip(*(asdict(item.errors).values() for item in self.listening), strict=True)
        return Errors(*(math.fsum(column) for column in columns))

    @property
    def loss(self) -> float:
        """Mean total loss over all items."""
        return math.fsum(item.loss["total"] for item in self.items) / len(self.items)

    def summary(self) -> str:
        """A table of ESRs, an item a line, then all together."""
        listening, pooled = self.listening, self.pooled
        width = max(len(name) for name in ("together", *(item.id for item in listening)))
        rows = [f"{'ESR':<{width}}  unprocessed  static gain      model  model/gain"]
        rows += [_row(item.id, item.errors, width) for item in listening]
        rows += [_row("together", pooled, width)]
        share = ratio(pooled.model, pooled.static_gain)
        rows += [
            f"ESR {pooled.esr['model']:.4f} against {pooled.esr['static_gain']:.4f} of the best "
            f"static gain: {share:.3f} of it",
            f"mean loss over all {len(self.items)} items: {self.loss:.4f} (checkpoint "
            f"{self.checkpoint}); level curve and audio in {self.folder}",
        ]
        return "\n".join(rows)


def chosen(items: Iterable[NamedItem], prefix: str) -> list[NamedItem]:
    """Those whose id starts with the prefix; all, where none does."""
    items = list(items)
    return [item for item in items if item.id.startswith(prefix)] or items


def write_json(path: Path, evaluation: Evaluation, fingerprint: str) -> None:
    """Write all figures; `fingerprint` is the set's."""
    report = {
        "format": FORMAT,
        "checkpoint": evaluation.checkpoint,
        "set_fingerprint": fingerprint,
        "listening_items": [item.id for item in evaluation.listening],
        "esr": evaluation.pooled.esr,
        "loss": evaluation.loss,
        "items": [asdict(item) | {"esr": item.errors.esr} for item in evaluation.items],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_finite(report), indent=1, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """The same with null for what JSON cannot hold: NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(name: str, errors: Errors, width: int) -> str:
    esr = errors.esr
    share = ratio(errors.model, errors.static_gain)
    columns = f"{esr['unprocessed']:11.4f}  {esr['static_gain']:11.4f}  {esr['model']:9.4f}"
    return f"{name:<{width}}  {columns}  {share:10.3f}"
