"""`sptmod-dist lengths`: the table has the plan's numbers, the drawing lies where it was wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toy import make_toy, write_config

from sptmod_dist import cli
from sptmod_dist.figures import lengths as drawing
from sptmod_dist.lengths_command import sample_rate
from sptmod_dist.model.config import PRESETS
from sptmod_dist.tbptt import Schedule

CONFIGS = Path(__file__).parents[1] / "launch" / "configs"


@pytest.fixture
def undrawn(monkeypatch):
    """The table alone; whoever asks gets the files that would have been drawn."""
    drawn = []
    monkeypatch.setattr(drawing, "draw", lambda paths, *_: drawn.extend(paths))
    return drawn


def numbers(text, title):
    """The numbers of the table's lines, which begins with a title and ends with an empty line."""
    lines = text[text.index(f"\n{title}") :].strip().split("\n\n")[0].splitlines()
    words = [re.findall(r"\d[\d,]*(?!\S)|-(?!\S)", line) for line in lines]
    return [[w if w == "-" else int(w.replace(",", "")) for w in row] for row in words if row]


def value(text, name):
    return int(re.search(rf"^{name} +(-?[\d,]+) ", text, re.M)[1].replace(",", ""))


@pytest.mark.parametrize("preset", ["sptmod24", "sptmod25", "tiny", "tcn"])
def test_the_table_is_the_plan(preset, capsys, undrawn):
    lengths = (16384, 4096, 8192)
    argv = ["lengths", "--model.preset", preset, "--lengths", str(list(lengths))]
    assert cli.main(argv) == 0
    text, model = capsys.readouterr().out, PRESETS[preset]()
    schedule, plan = Schedule(model, lengths), model.plan(lengths[0])
    assert value(text, "lookback") == plan.lookback_length
    assert value(text, "modulation path begins") == plan.modulation_start - plan.target_start
    assert value(text, "audio path begins") == plan.audio_start - plan.target_start
    assert value(text, "input of the first sub-sequence") == plan.input_length
    assert value(text, "sequence") == schedule.sequence_length
    assert value(text, "hop, output of a group") == schedule.hop == sum(lengths)
    assert value(text, "overlap of sequences") == schedule.sequence_length - schedule.hop
    assert value(text, "latency") == model.latency
    blocks = numbers(text, "modulation path\n")
    assert [row[1:3] for row in blocks] == [
        [k, d] for k, d in zip(model.kernel_sizes, model.dilations, strict=True)
    ]
    assert [row[3] - row[4] - row[6] for row in blocks] == [row[7] for row in blocks]
    assert [row[8] for row in blocks] == [*plan.modulation_crops[:-1], "-"]
    steering = [row[9] for row in blocks if row[9] != "-"]
    assert steering == list(plan.audio_crops[-len(steering) :])
    assert numbers(text, "sub-sequence  ") == [
        [0, plan.input_length, 16384, 0, 16384],
        [1, 4096, 4096, 16384, 20480],
        [2, 8192, 8192, 20480, 28672],
    ]
    assert ("state prediction network" in text) == (model.spn is not None)
    assert f"{plan.input_length / 44100:.4f} s" in text


def test_every_shipped_config_has_a_table_of_its_own_settings(capsys, undrawn):
    for config in sorted(set(CONFIGS.glob("*.yaml")) - set(CONFIGS.glob("study_*"))):
        assert cli.main(["lengths", str(config)]) == 0
        assert capsys.readouterr().out.startswith(f"{config.stem}: ")
    one = [str(CONFIGS / "sptmod25.yaml"), "--lengths", "[4096]"]
    assert cli.main(["lengths", *one]) == 0
    text = capsys.readouterr().out
    assert "lengths [4096]" in text and "54.33" in text, "54 times, as the guide says"
    assert "13 sequences a record     5.10" in text


def test_the_drawing_lies_where_it_was_wanted(tmp_path, monkeypatch, capsys, undrawn):
    monkeypatch.chdir(tmp_path)
    here = ["lengths", "--name", "m/n", "--model.preset", "tiny"]
    for more in ([], ["--out", "new/folder"], ["--out", "pictures/one.PNG"], ["--out", "b.svg"]):
        assert cli.main([*here, *more]) == 0
    assert [str(path) for path in undrawn] == [
        "m_n-lengths.svg",
        "m_n-lengths.png",
        "new/folder/m_n-lengths.svg",
        "new/folder/m_n-lengths.png",
        "pictures/one.PNG",
        "b.svg",
    ]
    assert Path("new/folder").is_dir() and Path("pictures").is_dir()
    assert capsys.readouterr().out.endswith("drawn in b.svg\n")


def test_seconds_are_at_the_rate_of_the_data_where_that_is_there(tmp_path, capsys, undrawn):
    config = make_toy(tmp_path, name="toy")
    assert sample_rate(config) == (8000, f"the rate of {config.data.train}")
    path = write_config(tmp_path, data={"train": str(tmp_path / "not there")})
    assert cli.main(["lengths", str(path)]) == 0
    assert "at 44100 Hz (assumed" in capsys.readouterr().out


WRONG = {
    ("--lengths", "[100]"): "lengths[0] is 100, shorter than the loss's longest window",
    ("--lenghts", "[4096]"): "there is no option --lenghts: did you mean --lengths?",
    ("missing.yaml",): "missing.yaml: cannot be read",
    ("--out", ""): "--out is empty",
    ("--model.channels", "[8, 8]"): "model.kernel_sizes has 4 values, but model.channels has 2",
}


@pytest.mark.parametrize(("argv", "sentence"), WRONG.items())
def test_what_is_wrong_is_one_sentence(argv, sentence, capsys, undrawn):
    assert cli.main(["lengths", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err and captured.err.count("\n") == 1
    assert not undrawn
