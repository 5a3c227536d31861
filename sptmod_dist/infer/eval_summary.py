"""The tables of an evaluation as rows of text: for the terminal, and for the report.

It knows results, not how they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sptmod_dist.infer.eval_names import (
    ALIASING,
    ESRS,
    FIGURES,
    WAY_TITLES,
    WAYS,
    Figure,
    written,
)
from sptmod_dist.infer.evaluation import (
    Evaluation,
    ItemResult,
    in_words,
    means,
    pooled_esrs,
    windows_means,
)
from sptmod_dist.metrics import ratio

_NAMED = 3
"""Worst items that the terminal names."""

Row = tuple[str, ...]


def summary(evaluation: Evaluation) -> str:
    """What the terminal shows: a row a figure, a column a way."""
    lines = [*aligned([("", *WAY_TITLES.values()), *summary_rows(evaluation)])]
    lines += ["", *windows_in_words(evaluation), esr_in_words(evaluation)]
    worst = map(_worst, evaluation.worst_first[:_NAMED])
    return "\n".join(
        [
            *lines,
            f"worst of {len(evaluation.items)} items, by their loss:",
            *worst,
            *(f"note: {note}" for note in evaluation.notes),
            f"checkpoint {evaluation.checkpoint}; report, figures and audio in {evaluation.folder}",
        ]
    )


def summary_rows(evaluation: Evaluation) -> Iterator[Row]:
    """A row a figure: its title, then the figure each way. Means over items, ESRs pooled."""
    averages, ratios = means(evaluation.items), pooled_esrs(evaluation.listening)
    for name, figure in FIGURES.items():
        if name in ratios:
            values = [ratios[name][way] for way in WAYS]
            yield title(figure, "pooled"), *(written(v, figure.digits) for v in values)
        elif name not in ESRS:
            yield title(figure), *(written(averages[way][name], figure.digits) for way in WAYS)
    if evaluation.aliasing:
        yield title(ALIASING), written(evaluation.worst_aliasing_db, ALIASING.digits), "-", "-"


def title(figure: Figure, *more: str) -> str:
    """A figure's title with its unit."""
    return ", ".join([figure.title, *more, *([figure.unit] if figure.unit else [])])


def pooled_note(evaluation: Evaluation) -> str:
    """Over what the rows of a summary are taken."""
    listening, count = len(evaluation.listening), len(evaluation.items)
    if listening == count:
        return "Pooled ESRs are ratios of sums over all items; all else are means over items."
    return (
        f"Pooled ESRs are ratios of sums over the {listening} items for listening (`clip-…`); all "
        f"else are means over all {count} items that have the figure."
    )


def windows_in_words(evaluation: Evaluation) -> list[str]:
    """WT, ST and their gap; nothing where no item is long enough."""
    windows = windows_means(evaluation.items)
    if windows is None:
        return ["no item is long enough for a window: no WT"]
    count = sum(item.windows is not None for item in evaluation.items)
    return [
        f"WT {written(windows.wt['total'], 4)}, ST {written(windows.st['total'], 4)} over the same "
        f"windows of {count} items: a gap of {written(windows.gap, 4)}"
    ]


def esr_in_words(evaluation: Evaluation) -> str:
    """The model beside the best static gain, in a sentence."""
    errors = evaluation.pooled
    model, static = (written(errors.esr[way], 4) for way in ("model", "static_gain"))
    share = written(ratio(errors.model, errors.static_gain), 3)
    return f"ESR {model} against {static} of the best static gain: {share} of it"


def aligned(rows: Sequence[Row]) -> Iterator[str]:
    """Columns under one another, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()


def _worst(item: ItemResult) -> str:
    setting = f" ({in_words(item.settings)})" if item.settings else ""
    return f"{written(item.error, 4):>12}  {item.id}{setting}"
