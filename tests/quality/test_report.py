"""The table, the sentences and the picture of any report, full or empty."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.picture import Curves, _mark, draw
from sptmod_dist.quality.report import (
    conclusion,
    findings_in_words,
    is_report,
    table,
    write_report,
)
from sptmod_dist.quality.take_report import Step, TakeReport

DOUBT = Finding("doubt", "The wet is turned over.", "Check the cables.")
FAULT = Finding("fault", "The wet is clipped at 1.000 s.", "Record again.")
NOTE = Finding("note", "It is late.")
FULL = TakeReport(
    "full",
    44100,
    latency=480.25,
    method="markers",
    drift_ppm=-3.21,
    polarity=-1,
    dc=(0.003,),
    level_db=-20.0,
    clipping_at=1.0,
    dropouts=(2.0, 3.0),
    steps=(Step(4.0, -64),),
    noise_db=-60.0,
    best_esr=1e-3,
    gain_db=(-20.0, 0.5),
    content=(100, 400_000),
    delays=tuple((float(n), 480.25) for n in range(9)),
    findings=(DOUBT, FAULT, NOTE),
)
EMPTY = TakeReport("empty", 44100, findings=(FAULT,))


def test_a_table_has_a_line_a_take_and_straight_columns():
    lines = table([FULL, EMPTY])
    assert lines[1].split() == [
        "full", "unfit", "480.25", "-3.2", "turned", "0.30", "-20.0", "to", "0.5", "-60.0", "-30.0"
    ]
    assert lines[2].split() == ["empty", "unfit", *["-"] * 7]
    assert lines[0].index("latency") + len("latency") == lines[1].index("480.25") + len("480.25")


def test_equal_findings_of_several_takes_stand_in_one_line_and_the_worst_come_first():
    reports = [TakeReport(f"t{n}", 44100, findings=(DOUBT, NOTE)) for n in range(5)]
    lines = findings_in_words([*reports, EMPTY], [DOUBT], notes=False)
    assert lines == [
        "fault: empty: The wet is clipped at 1.000 s. Record again.",
        "doubt: The wet is turned over. Check the cables.",
        "doubt: t0, t1, t2 and 2 more: The wet is turned over. Check the cables.",
    ]
    assert findings_in_words(reports, [], notes=True)[-1].startswith("note: t0, t1, t2 and 2 more")


def test_many_findings_are_cut_and_counted():
    reports = [
        TakeReport(f"t{n}", 1, findings=(Finding("doubt", f"Place {n}."),)) for n in range(40)
    ]
    lines = findings_in_words(reports, [], notes=True)
    assert len(lines) == 31
    assert lines[-1] == "… and 10 more in report.json"


@pytest.mark.parametrize(
    ("findings", "whole", "words"),
    [
        ((), (), "1 take: 1 sound; ready to train on."),
        ((DOUBT,), (), "1 take: 1 doubtful; look at the doubts before you train."),
        ((), (FAULT,), "1 take: 1 sound; not to be trained on before the faults are mended."),
    ],
)
def test_the_conclusion_is_the_worst_verdict(findings, whole, words):
    assert conclusion([TakeReport("t", 44100, findings=findings)], whole) == words


def test_the_report_can_be_read_by_programs(tmp_path):
    path = tmp_path / "report.json"
    write_report(path, "manifest.yaml", [FULL, EMPTY], [DOUBT])
    report = json.loads(path.read_text(), parse_constant=pytest.fail)  # no NaN
    assert report["format"] == "sptmod-check-1"
    assert (report["verdict"], report["findings"][0]["severity"]) == ("unfit", "doubt")
    assert report["takes"][0]["steps"] == [{"seconds": 4.0, "samples": -64}]
    assert is_report(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "sptmod-capture-1"}'])
def test_other_files_are_no_reports(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    assert not is_report(path)
    assert not is_report(tmp_path / "none.json")


@pytest.mark.parametrize("report", [FULL, EMPTY, TakeReport("sound", 44100)])
def test_any_report_can_be_drawn(tmp_path, report):
    seconds = np.linspace(0.05, 9, 90)
    curves = Curves(seconds, -20 - seconds, np.full(90, -120.0))
    for number, some in enumerate((curves, None)):
        draw(tmp_path / f"{number}.png", report, some)
        assert (tmp_path / f"{number}.png").stat().st_size > 3_000
    assert {path.name for path in tmp_path.iterdir()} == {"0.png", "1.png"}


@pytest.mark.parametrize("seconds", [-0.5, 0.0, 4.0, 9.9, 12.0])
def test_the_word_beside_a_mark_stays_inside_the_picture(seconds):
    figure = Figure(figsize=(12, 9), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(0, 10)
    _mark((axes, axes, axes), TakeReport("late", 44100, clipping_at=seconds))
    (word,) = axes.texts
    assert word.get_text().strip() == "first clipping"
    box, frame = word.get_window_extent(), axes.get_window_extent()
    assert frame.x0 <= box.x0 + 1 and box.x1 <= frame.x1 + 1
    assert frame.y0 <= box.y0 and box.y1 <= frame.y1
