"""A plan as a table and a sheet: what is written is read, nonsense is refused by its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist.capture.controls_file import read_controls, write_controls
from sptmod_dist.capture.plan import Plan, Take
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.data.item_tables import FIELDS
from sptmod_dist.errors import UserError

CONTROLS = """\
format: sptmod-controls-1
controls:
  - {name: threshold, minimum: -8, maximum: 4, unit: dB, default: -4}
  - {name: attack, minimum: 0.1, maximum: 30, scale: log, unit: ms}
  - {name: ratio, positions: [3, 4, 6, 10], unit: ":1", default: 4}
  - {name: knee, positions: [hard, "so-ft <b>"], default: hard}
"""


@pytest.fixture
def controls(tmp_path: Path) -> Path:
    path = tmp_path / "controls.yaml"
    path.write_text(CONTROLS)
    return path


def plan(controls: Path, *arguments: str) -> Plan:
    session = controls.parent / "session"
    assert main(["plan", arguments[0], str(controls), str(session), *arguments[1:]]) == 0
    return Plan.read(session)


def test_what_is_written_is_read(controls: Path) -> None:
    made = plan(controls, "lhs", "--items", "40", "--seed", "5")
    made.write(controls.parent / "again")
    again = Plan.read(controls.parent / "again")
    assert (again.controls, again.takes) == (made.controls, made.takes)
    for name in ("controls.yaml", "plan.csv", "sheet.html"):
        files = [controls.parent / folder / name for folder in ("session", "again")]
        one, other = (file.read_text().replace(file.parent.name, "") for file in files)
        assert one == other
    write_controls(controls.parent / "c.yaml", made.controls)
    assert read_controls(controls.parent / "c.yaml") == made.controls == read_controls(controls)


def test_the_published_grid(controls: Path) -> None:
    levels = ["--levels", "threshold=4,0,-4,-8", "--levels", "ratio=3,4,6,10"]
    made = plan(controls, "grid", *levels, "--control", "attack=5", "--control", "knee=hard")
    assert len(made.takes) == 16 and {take.stimulus for take in made.takes} == {0}
    assert {take.settings["attack"] for take in made.takes} == {5.0}
    found = {(take.settings["threshold"], take.settings["ratio"]) for take in made.takes}
    assert found == {(t, r) for t in (4, 0, -4, -8) for r in (3, 4, 6, 10)}


def test_a_snapshot_has_one_setting_and_a_stimulus_of_its_own_for_each_item(controls: Path) -> None:
    made = plan(controls, "snapshot", "--items", "5", "--control", "attack=1", "--seed", "7")
    assert [take.stimulus for take in made.takes] == [7, 8, 9, 10, 11]
    assert all(take.settings == made.takes[0].settings for take in made.takes)
    assert made.takes[0].settings == {"threshold": -4, "attack": 1, "ratio": 4, "knee": "hard"}


def test_controls_that_are_held_stay_and_the_others_are_spread(controls: Path) -> None:
    made = plan(controls, "lhs", "--items", "20", "--control", "ratio=6")
    assert {take.settings["ratio"] for take in made.takes} == {6.0}
    attack = next(control for control in made.controls if control.name == "attack")
    places = [attack.normalise(take.settings["attack"]) for take in made.takes]
    assert sorted(np.floor(np.array(places) * 20)) == list(range(20))


def test_a_device_without_controls_is_planned_too(tmp_path: Path) -> None:
    (tmp_path / "controls.yaml").write_text("format: sptmod-controls-1\ncontrols: []\n")
    made = plan(tmp_path / "controls.yaml", "snapshot", "--items", "3")
    assert made.takes[2] == Take(3, "item-002", 2, {})


def test_the_sheet_shows_what_to_turn_and_hides_nothing(controls: Path) -> None:
    made = plan(controls, "lhs", "--items", "12")
    sheet = (made.folder / "sheet.html").read_text()
    assert sheet.count("&#9744;") == 12 and "http" not in sheet
    assert "so-ft &lt;b&gt;" in sheet and "<b>so-ft" not in sheet.replace("<b>so-ft &lt;b", "")
    first = next(row for row in sheet.split("<tr>") if "item-000" in row)
    assert first.count("<b>") == 4, "all is to be set for the first take"


def test_the_sheet_tells_a_person_how_to_play_it_and_has_room_for_notes(controls: Path) -> None:
    held = ["--control", "attack=2", "--control", "knee=so-ft <b>"]
    made = plan(controls, "lhs", "--items", "12", "--seed", "5", *held)
    sheet = (made.folder / "sheet.html").read_text()
    assert "<h1>session: 12 takes</h1>" in sheet
    assert all(f"<td>{word}" in sheet for word in ("Device", "Date", "Level sent"))
    assert "Knobs and switches that this page does not name" in sheet
    assert "Set what stays: <b>attack 2 ms, knee so-ft &lt;b&gt;</b>." in sheet
    assert "<th>attack" not in sheet and "<th>threshold (dB)</th>" in sheet
    for told in ("session/stimulus/stimulus-N.wav", "--seed 5", "markers", "-6 dB", "item-011.wav",
                 "capture session play all.wav", "capture session recordings"):  # fmt: skip
        assert told in sheet, told


def test_seeds_that_differ_are_on_the_sheet(controls: Path) -> None:
    made = plan(controls, "snapshot", "--items", "3", "--control", "attack=1", "--seed", "7")
    sheet = (made.folder / "sheet.html").read_text()
    assert "sptmod-dist stimulus session/stimulus --seed 7 --count 3</code> makes them" in sheet


def test_a_plan_says_what_was_planned_where_it_is_and_what_comes_next(
    controls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(controls, "grid", "--levels", "threshold=4,0", "--control", "attack=1")
    said = capsys.readouterr().out
    assert "Planned 16 takes (grid): turning threshold, ratio and knee; attack 1 ms stays." in said
    for name in ("plan.csv", "controls.yaml", "sheet.html"):
        assert str(made.folder / name) in said
    assert f"Next: `sptmod-dist capture {made.folder} plugin" in said and "play all.wav" in said


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda t: t.replace("take,id", "take,name"), "has the column 'name', and controls.yaml no"),
    (lambda t: t.replace(",knee,", ",neck,"), "has the column 'neck', and controls.yaml no"),
    (lambda t: t.replace("\n2,", "\n7,"), "line 3: take is 7, and 2 comes here"),
    (lambda t: t.replace("item-001", "item-000"), "line 3: id 'item-000' stands twice"),
    (lambda t: t.replace("item-001", "../etc"), "line 3: id '../etc' is no plain name"),
    (lambda t: t.replace(",hard,", ",harder,", 1), "'harder' is none of its positions"),
    (lambda t: t.replace(",4,hard", ",5,hard", 1), "'ratio' = 5.0 is none of its positions"),
    (lambda t: t.replace(",-4,", ",400,", 1), "'threshold' = 400 is outside its range"),
    (lambda t: t.replace(",-4,", ",-3,", 1), "threshold_normalised is 0.333333, and threshold -3"),
    (lambda t: t.replace(",-4,", ",x,", 1), "'x' is not a finite number"),
    (lambda t: t.replace("2,item-001,1", "2,item-001,-1"), "stimulus is '-1'"),
    (lambda t: t.replace("2,item-001,1,", "2,item-001,1,9,"), "line 3 has 12 cells under 11"),
    (lambda t: t.splitlines()[0] + "\n", "lists no takes"),
    (lambda t: "", "has no column 'take'"),
    (lambda t: t + '"', "save it as CSV anew"),
])
def test_a_table_that_was_edited_into_nonsense_is_refused_by_its_line(
    controls: Path, change: Callable[[str], str], sentence: str
) -> None:
    made = plan(controls, "snapshot", "--items", "3", "--control", "attack=1")
    table = made.folder / "plan.csv"
    text = table.read_text()
    assert change(text) != text
    table.write_text(change(text))
    with pytest.raises(UserError) as refused:
        Plan.read(made.folder)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["snapshot"], "control 'attack' has no default: give --control attack=VALUE"),
    (["snapshot", "--control", "atack=1"], "did you mean attack"),
    (["snapshot", "--control", "attack"], "give NAME=VALUE"),
    (["snapshot", "--control", "attack=100"], "outside its range"),
    (["snapshot", "--levels", "ratio=3"], "--levels belongs to a grid"),
    (["grid", "--items", "3"], "a grid has as many as its --levels make"),
    (["grid", "--levels", "ratio=3,3", "--control", "attack=1"], "a value stands twice"),
    (["grid", "--levels", "ratio=3,5", "--control", "attack=1"], "none of its positions"),
    (["grid", "--levels", "rato=3,4", "--control", "attack=1"], "did you mean ratio"),
    (["grid", "--levels", "ratio=3,4", "--control", "ratio=3"], "contradict each other"),
    (["lhs", "--items", "0"], "there must be 1 to 4,000"),
    (["lhs", "--seed", "-1"], "--seed is -1"),
    (["lhs", "--control", "kneee=1"], "did you mean knee"),
    (["cube"], "invalid choice"),
])
def test_what_cannot_be_planned_is_a_sentence_and_writes_nothing(
    controls: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session = controls.parent / "session"
    assert main(["plan", arguments[0], str(controls), str(session), *arguments[1:]]) == 2
    assert sentence in capsys.readouterr().err
    assert not session.exists()


def test_a_plan_is_not_written_over_unasked(
    controls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(controls, "lhs", "--items", "3")
    before = (made.folder / "plan.csv").read_bytes()
    for given in (controls, made.folder / "controls.yaml"):
        assert main(["plan", "lhs", str(given), str(made.folder), "--seed", "1"]) == 2
        assert "holds a plan already; add --overwrite" in capsys.readouterr().err
    assert (made.folder / "plan.csv").read_bytes() == before
    plan(controls, "lhs", "--items", "3", "--seed", "1", "--overwrite")
    assert (made.folder / "plan.csv").read_bytes() != before


@pytest.mark.parametrize(("text", "sentence"), [
    ("format: x\ncontrols: []\n", "format is 'x'"),
    ("format: sptmod-controls-1\ncontrols: 3\n", "'controls' must be a list"),
    ("format: sptmod-controls-1\n", "lacks the key 'controls'"),
    ("format: sptmod-controls-1\ncontrols: [{name: a}]\n", "lacks the key 'minimum'"),
])
def test_a_file_of_controls_that_is_none_is_refused(
    tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        read_controls(tmp_path / "c.yaml")
    assert sentence in str(refused.value)


def test_a_setting_may_be_edited_and_what_follows_from_it_left_empty(controls: Path) -> None:
    made = plan(controls, "snapshot", "--items", "2", "--control", "attack=1")
    table = made.folder / "plan.csv"
    place = f"{made.controls[0].normalise(-4):.6f}"
    text = table.read_text().replace(",-4,", ",-3,", 1).replace(f",{place},", ",,", 1)
    table.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert [take.settings["threshold"] for take in Plan.read(made.folder).takes] == [-3, -4]


def test_a_table_without_normalised_columns_is_read(controls: Path) -> None:
    made = plan(controls, "lhs", "--items", "3")
    rows = [line.split(",")[:7] for line in (made.folder / "plan.csv").read_text().splitlines()]
    (made.folder / "plan.csv").write_text("sep=,\n" + "\n".join(map(",".join, rows)))
    assert Plan.read(made.folder).takes == made.takes


def test_texts_that_look_like_numbers_stay_texts_from_the_command_line_on(tmp_path: Path) -> None:
    write_controls(tmp_path / "c.yaml", [Control("m", scale="list", positions=("1", "01", "-1_0"))])
    made = plan(tmp_path / "c.yaml", "grid", "--levels", "m=01,-1_0,1")
    assert [take.settings["m"] for take in made.takes] == ["01", "-1_0", "1"]
    fixed = plan(tmp_path / "c.yaml", "snapshot", "--control", "m=01", "--overwrite")
    assert fixed.takes[0].settings == {"m": "01"}


def test_values_of_a_hypercube_are_round_and_exact_in_the_table(controls: Path) -> None:
    made = plan(controls, "lhs", "--items", "40")
    for name, digits in (("threshold", 4), ("attack", 3)):
        values = [take.settings[name] for take in made.takes]
        assert all(len(f"{value}".strip("-").replace(".", "")) <= digits for value in values)


def test_a_file_of_controls_in_the_session_keeps_its_comments(controls: Path) -> None:
    session = controls.parent / "session"
    session.mkdir()
    mine = "# the grey one\n" + CONTROLS
    (session / "controls.yaml").write_text(mine)
    assert main(["plan", "lhs", str(session / "controls.yaml"), str(session), "--items", "3"]) == 0
    assert (session / "controls.yaml").read_text() == mine


def test_another_file_of_controls_is_not_written_over_unasked(
    controls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = controls.parent / "session"
    session.mkdir()
    (session / "controls.yaml").write_text(CONTROLS.replace("30", "40"))
    assert main(["plan", "lhs", str(controls), str(session), "--items", "3"]) == 2
    assert "plan with it, or add --overwrite" in capsys.readouterr().err
    assert "40" in (session / "controls.yaml").read_text()
    assert main(["plan", "lhs", str(controls), str(session), "--items", "3", "--overwrite"]) == 0
    assert "40" not in (session / "controls.yaml").read_text()


def test_a_plan_is_replaced_whole_or_not_at_all(
    controls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(controls, "lhs", "--items", "3")
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sptmod_dist.capture.plan.write_controls", full)
    controls_now = (replace(made.controls[0], unit="dBu"), *made.controls[1:])
    with pytest.raises(OSError):
        Plan(made.folder, controls_now, made.takes[:1]).write(made.folder)
    assert before == {path.name: path.read_bytes() for path in made.folder.iterdir()}


@pytest.mark.parametrize("name", ["take", "id", "stimulus", "a_normalised", *FIELDS[1:]])
def test_a_control_with_the_name_of_another_column_is_refused(tmp_path: Path, name: str) -> None:
    controls = (Control("a", 0, 1), Control(name, 0, 1))
    with pytest.raises(UserError, match=f"another column '{name}'"):
        Plan(tmp_path, controls, (Take(1, "x", 0, {"a": 0.5, name: 0.5}),)).write(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_default_is_a_setting() -> None:
    with pytest.raises(UserError, match="outside its range"):
        Control("a", 0, 1, default=2)
