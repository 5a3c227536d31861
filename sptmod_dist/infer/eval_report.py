"""An evaluation for people: `report.md`, to be read in a minute, with figures.

It knows results, not how they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from sptmod_dist.infer.eval_bins import Bin, bins
from sptmod_dist.infer.eval_names import (
    ALIASING,
    ESRS,
    FIGURES,
    LOSS_TERMS,
    WAY_TITLES,
    written,
)
from sptmod_dist.infer.eval_summary import (
    Row,
    esr_in_words,
    pooled_note,
    summary_rows,
    title,
    windows_in_words,
)
from sptmod_dist.infer.evaluation import (
    Aliasing,
    Evaluation,
    ItemResult,
    in_words,
    means,
    pooled_esrs,
    windows_means,
)

WORST = 10
_MEANS = ("loss", "gain_error_db", "gain_error_p95_db", "attack_error_ms", "release_error_ms")
"""Figures of the model in tables of many rows."""


def write_report(path: Path, evaluation: Evaluation, figures: Mapping[str, str]) -> None:
    """Write the report.

    Args:
        path: of the file, in the folder of the figures.
        evaluation: the results.
        figures: captions by file name.
    """
    path.write_text("\n".join(_lines(evaluation, figures)) + "\n", encoding="utf-8")


def _lines(evaluation: Evaluation, figures: Mapping[str, str]) -> Iterator[str]:
    seconds = sum(item.samples for item in evaluation.items) / evaluation.sample_rate
    yield "# Evaluation"
    yield ""
    yield (
        f"Checkpoint `{evaluation.checkpoint}` on {evaluation.source}: {len(evaluation.items)} "
        f"items, {seconds:.0f} s at {evaluation.sample_rate} Hz, streamed from start to end as in "
        "use."
    )
    yield ""
    yield f"{esr_in_words(evaluation)}. {_sentence(windows_in_words(evaluation))}"
    yield ""
    for note in evaluation.notes:
        yield from [f"Note: {_plain(note)}.", ""]
    yield from table([("", *WAY_TITLES.values()), *summary_rows(evaluation)])
    yield ""
    yield pooled_note(evaluation) + _MEANING
    yield from _both_ways(evaluation)
    for control in evaluation.controls:
        yield from _by_control(control.name, bins(control, evaluation.items))
    yield from _worst(evaluation)
    yield from _on_tones(evaluation.aliasing)
    yield from _figures(figures)
    yield from ["", "Every figure of every item is in [items.csv](items.csv), and all of this in"]
    yield "[evaluation.json](evaluation.json)."


_MEANING = (
    " The gain is the level of the output over that of the input in frames of 10 ms whose input is "
    "audible. Attack and release errors are differences of the time to 63 % of the way, on tones "
    "that step; steps missed are those at which the device's gain moves and the model's does not. "
    "\"-\": there is nothing to measure it on."
)


def _both_ways(evaluation: Evaluation) -> Iterator[str]:
    """Windowed and streamed target, term by term."""
    windows = windows_means(evaluation.items)
    if windows is None:
        return
    yield from ["", "## Windowed and streamed target", ""]
    rows = []
    for name, term in LOSS_TERMS.items():
        wt, st, digits = windows.wt[term], windows.st[term], FIGURES[name].digits
        rows.append((FIGURES[name].title, *(written(v, digits) for v in (wt, st, st - wt))))
    yield from table([("", "WT", "ST", "ST − WT"), *rows])
    yield from ["", "WT: in groups as in training, from states that the SPN predicts; ST: in use."]


def _by_control(name: str, parts: Sequence[Bin]) -> Iterator[str]:
    yield from ["", f"## By {_plain(name)}", ""]
    head = (_plain(name), "items", *_figure_titles(), "ST − WT", "ESR, pooled", "of static gain")
    yield from table([head, *(_part(part) for part in parts)])


def _part(part: Bin) -> Row:
    model, windows = means(part.items)["model"], windows_means(part.items)
    esr = pooled_esrs(part.items)["esr"]
    return (
        _plain(part.label),
        str(len(part.items)),
        *(written(model[name], FIGURES[name].digits) for name in _MEANS),
        written(windows.gap if windows else None, 4),
        *(written(esr[way], ESRS["esr"].digits) for way in ("model", "static_gain")),
    )


def _worst(evaluation: Evaluation) -> Iterator[str]:
    worst = evaluation.worst_first[:WORST]
    few = len(evaluation.items) <= WORST
    yield from ["", "## Items, worst first" if few else f"## The {WORST} worst items", ""]
    yield from table([("item", "setting", *_figure_titles(), "ESR"), *map(_item, worst)])


def _item(item: ItemResult) -> Row:
    model = item.figures["model"]
    return (
        _plain(item.id),
        _plain(in_words(item.settings)) or "-",
        *(written(model[name], FIGURES[name].digits) for name in _MEANS),
        written(model["esr"], ESRS["esr"].digits),
    )


def _figure_titles() -> Iterator[str]:
    return (title(FIGURES[name]) for name in _MEANS)


def _on_tones(found: Sequence[Aliasing]) -> Iterator[str]:
    if not found:
        return
    tones = list(found[0].tones)
    yield from ["", "## Beside steady tones", ""]
    yield from table([("setting", *(f"{hertz} Hz" for hertz in tones)), *map(_tones, found)])
    yield from [
        "",
        "Aliasing and harmonics in dB of the tone (−12 dB of full scale): power where there should "
        "be none, and power at the harmonics below half the sample rate.",
    ]


def _tones(found: Aliasing) -> Row:
    cells = (
        "-"
        if spurs is None
        else f"{written(spurs.aliasing_db, ALIASING.digits)}, {written(spurs.harmonics_db, 1)}"
        for spurs in found.tones.values()
    )
    return (_plain(in_words(found.settings)) or "the only one", *cells)


def _figures(figures: Mapping[str, str]) -> Iterator[str]:
    yield from ["", "## Figures"]
    for name, caption in figures.items():
        yield from ["", f"![{_plain(caption)}]({quote(name)})"]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown; all columns but the first to the right."""
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"
    for row in body:
        yield f"| {' | '.join(row)} |"


def _plain(text: str) -> str:
    """Text from anywhere that must not become markup."""
    return "".join(f"\\{c}" if c in "\\|`*_[]<>#" else c for c in " ".join(text.split()))


def _sentence(lines: Sequence[str]) -> str:
    text = " ".join(lines)
    return f"{text[0].upper()}{text[1:]}."
