"""Takes of a set are told apart by what they sound like, not by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import qmc

from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.set_check import Entry, check_set
from sptmod_dist.quality.sketch import make_sketch
from sptmod_dist.quality.take_report import TakeReport

RATE = 4000
SECONDS = 8
CONTROLS = ("threshold", "ratio")


def dry_of(seed: int = 0) -> np.ndarray:
    """Noise whose level steps every quarter of a second. `[1, T]`"""
    random = np.random.default_rng(seed)
    levels = 10 ** (np.repeat(random.uniform(-40, 0, 4 * SECONDS), RATE // 4) / 20)
    return (levels * random.uniform(-1, 1, SECONDS * RATE))[None].astype(np.float32)


def compress(dry: np.ndarray, threshold: float, ratio: float) -> np.ndarray:
    """A gain by the level of each tenth of a second; settings from 0 to 1."""
    frames = dry.reshape(-1, RATE // 10)
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-9)
    over = np.maximum(level - (-35 + 30 * threshold), 0)
    gain = -over * (1 - 1 / (1.5 + 8 * ratio))
    return (frames * 10 ** (gain[:, None] / 20)).reshape(1, -1).astype(np.float32)


def places(count: int = 24, seed: int = 0) -> np.ndarray:
    """Settings, `[count, 2]`."""
    return qmc.LatinHypercube(2, rng=seed).random(count)


def entries_of(
    settings: np.ndarray, played: Sequence[int] | None = None, stimuli: bool = False
) -> list[Entry]:
    """Takes that state `settings`, of which the device had those of the row `played`.

    Args:
        stimuli: whether each take has another dry.
    """
    made = []
    for number, row in enumerate(played or range(len(settings))):
        dry = dry_of(number if stimuli else 0)
        noise = 1e-4 * np.random.default_rng(number).standard_normal(dry.shape)
        wet = (compress(dry, *settings[row]) + noise).astype(np.float32)
        report = TakeReport(f"item-{number:03}", RATE, latency=100.0, method="markers")
        made.append(Entry(report, make_sketch(dry, wet, RATE), tuple(settings[number])))
    return made


def order(*exchanged: tuple[int, int], count: int = 24) -> list[int]:
    """Rows in order, but for exchanged ones."""
    rows = list(range(count))
    for a, b in exchanged:
        rows[a], rows[b] = rows[b], rows[a]
    return rows


def only(findings: tuple[Finding, ...]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stimuli", [False, True])
def test_takes_that_fit_their_settings_are_left_alone(seed, stimuli):
    assert check_set(entries_of(places(seed=seed), stimuli=stimuli), CONTROLS) == ()


@pytest.mark.parametrize("stimuli", [False, True])
def test_an_exchanged_pair_is_named(stimuli):
    settings = places()
    reduction = settings[:, 1] - settings[:, 0]
    a, b = int(np.argmin(reduction)), int(np.argmax(reduction))
    found = only(check_set(entries_of(settings, order((a, b)), stimuli), CONTROLS))
    assert found.severity == "fault"
    first, second = sorted((a, b))
    assert found.what.startswith(f"item-{first:03} and item-{second:03} seem to be exchanged")


def test_two_exchanged_pairs_are_both_named():
    settings = places()
    ranks = np.argsort(settings[:, 0] - settings[:, 1]).tolist()
    pairs = [(ranks[0], ranks[-1]), (ranks[1], ranks[-2])]
    found = check_set(entries_of(settings, order(*pairs)), CONTROLS)
    assert [finding.severity for finding in found] == ["fault", "fault"]
    for a, b in (sorted(pair) for pair in pairs):
        assert any(f"item-{a:03} and item-{b:03}" in finding.what for finding in found)


def test_a_take_under_another_setting_is_named():
    settings = places()
    settings[5], settings[9] = (0.1, 0.9), (0.9, 0.1)
    rows = order()
    rows[5] = 9
    found = only(check_set(entries_of(settings, rows), CONTROLS))
    assert found.severity == "doubt"
    assert found.what.startswith("item-005 does not sound as")


@pytest.mark.parametrize(("step", "word"), [(1, "after"), (-1, "before")])
def test_takes_that_are_off_by_one_are_told(step, word):
    rows = np.roll(np.arange(24), -step).tolist()
    found = only(check_set(entries_of(places(), rows), CONTROLS))
    assert found.severity == "fault"
    assert f"fit the settings of the take {word} them" in found.what


def test_a_control_that_moves_nothing_is_doubted_and_the_others_are_not():
    entries = [
        replace(entry, vector=(*entry.vector, float(extra)))
        for entry, extra in zip(
            entries_of(places()), np.random.default_rng(9).uniform(size=24), strict=True
        )
    ]
    found = only(check_set(entries, (*CONTROLS, "knee")))
    assert (found.severity, found.what) == ("doubt", "knee moves nothing that can be told.")


def test_a_grid_tells_by_neighbours_which_control_moves_nothing():
    grid = np.array([(a, b) for a in (0.0, 0.5, 1.0) for b in (0.0, 0.5, 1.0)])
    entries = entries_of(grid * (1, 0))
    entries = [
        replace(entry, vector=tuple(row)) for entry, row in zip(entries, grid, strict=True)
    ]
    few, found = check_set(entries, CONTROLS)
    assert few.what.startswith("9 takes that turn 2 controls are too few")
    assert found.what == "ratio moves nothing that can be told."


def test_a_device_that_no_control_moves_is_a_fault():
    settings = places()
    still = entries_of(np.full_like(settings, 0.5))
    entries = [
        replace(entry, vector=tuple(row)) for entry, row in zip(still, settings, strict=True)
    ]
    found = only(check_set(entries, CONTROLS))
    assert found.severity == "fault"
    assert "no control moves anything" in found.what


def test_a_control_that_was_never_turned_is_not_blamed():
    settings = places()
    settings[:, 1] = 0.5
    assert check_set(entries_of(settings), CONTROLS) == ()


def test_the_same_audio_under_two_settings_is_named():
    entries = entries_of(places())
    copy = replace(entries[3], report=entries[4].report, vector=entries[4].vector)
    found = check_set([*entries[:4], copy, *entries[5:]], CONTROLS)
    assert found[0].severity == "doubt"
    assert found[0].what == (
        "item-003 and item-004 hold the same audio, sample by sample, under different settings."
    )


def test_copies_under_one_setting_are_named_too():
    entries = entries_of(np.full((8, 2), 0.4), stimuli=True)
    copy = replace(entries[3], report=entries[4].report)
    found = only(check_set([*entries[:4], copy, *entries[5:]], CONTROLS))
    assert found.what == "item-003 and item-004 hold the same audio, sample by sample."


def test_another_latency_than_the_rest_is_named():
    entries = entries_of(places())
    late = replace(entries[2], report=replace(entries[2].report, latency=164.0))
    found = only(check_set([*entries[:2], late, *entries[3:]], CONTROLS))
    assert "item-002 has another latency (164.0 samples) than the rest (100.0)" in found.what


def test_latencies_that_all_differ_are_in_order():
    entries = [
        replace(entry, report=replace(entry.report, latency=1000.0 * number))
        for number, entry in enumerate(entries_of(places()))
    ]
    assert check_set(entries, CONTROLS) == ()


def test_takes_that_are_turned_over_among_others_are_named():
    entries = entries_of(places())
    turned = replace(entries[7], report=replace(entries[7].report, polarity=-1))
    found = only(check_set([*entries[:7], turned, *entries[8:]], CONTROLS))
    assert found.what == "1 of 24 takes are turned over: item-007."


def test_of_a_snapshot_the_take_with_a_turned_knob_is_named():
    settings = np.full((12, 2), 0.4)
    settings[8] = (0.1, 0.9)
    entries = [replace(entry, vector=()) for entry in entries_of(settings, stimuli=True)]
    found = only(check_set(entries, ()))
    assert found.what.startswith("item-008 does not sound as")


def test_of_few_takes_it_is_said_that_they_tell_little():
    entries = entries_of(places(3))
    found = only(check_set([*entries, replace(entries[0], sketch=None)], CONTROLS))
    assert found.severity == "note"
    assert found.what.startswith("3 takes that turn 2 controls are too few to tell surely")
    assert check_set(entries_of(places(16)), CONTROLS) == ()
    assert check_set(entries_of(np.full((3, 2), 0.5)), CONTROLS) == ()
    assert check_set([], CONTROLS) == ()
