"""The drawing of a length plan: every bar is where the plan says, and its bytes repeat."""

from __future__ import annotations

import pytest
from matplotlib.image import imread
from models import MODELS, TCNS

from sptmod_dist.figures.lengths import block_bars, draw
from sptmod_dist.tbptt import Schedule

ALL = {**MODELS, **TCNS}
LENGTH = 100


@pytest.mark.parametrize("name", ALL)
def test_bars_begin_and_end_where_the_plan_says(name):
    config = ALL[name]
    plan, bars = config.plan(LENGTH), list(block_bars(config, LENGTH))
    starts = [bar.pieces[0].start for bar in bars if bar.name.startswith("block")]
    assert starts[0] == plan.modulation_start - plan.target_start
    assert all(bar.pieces[-1].stop == LENGTH for bar in bars), "all end where the output ends"
    for bar in bars:
        for piece, after in zip(bar.pieces, bar.pieces[1:], strict=False):
            assert piece.start <= piece.stop == after.start
    for bar in bars:
        if bar.name.endswith("audio"):
            assert bar.pieces[-1].start == 0, "what modulates the audio begins with it"
    kept = [bar.pieces[-1].start for bar in bars if bar.name.startswith("block")]
    assert kept[:-1] == starts[1:], "what is kept is what the next block gets"


def test_the_same_plan_gives_the_same_bytes_of_svg_and_no_date(tmp_path):
    config = MODELS["lstm"]
    schedule = Schedule(config, (LENGTH, 32, 48))
    first, second, other = (tmp_path / f"{name}.svg" for name in "abc")
    draw([first], "one", config, schedule, 44_100)
    draw([second], "one", config, schedule, 44_100)
    draw([other], "one", config, Schedule(config, (LENGTH, 48, 32)), 44_100)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    assert b"<dc:date>" not in first.read_bytes()


@pytest.mark.parametrize("name", ["no_spn_conditioned", "tcn", "snapshot_of_one_block"])
def test_models_without_lookback_or_controls_are_drawn(tmp_path, name):
    config = ALL[name]
    path, name = tmp_path / "a.png", "a $name$ that " + "is long " * 20
    draw([path], name, config, Schedule(config, (9, *[16] * 9)), 8_000)
    picture = imread(path)
    assert picture.shape[1] == 1400 and picture.std() > 0.05
