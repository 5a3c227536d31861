"""Excerpts: where the gain moves most, one of each setting first, by the data alone."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.data.shard_index import Item
from sptmod_dist.train.excerpts import Moment, busiest, choose, in_words

RATE = 1000  # a frame has 10 samples


def test_the_stretch_with_the_most_movement_is_found_wherever_it_is():
    for begins in (0, 37, 80):
        gain = np.zeros(100)
        gain[begins : begins + 20 : 2] = -6.0
        moment = busiest(gain, 1000, RATE, 0.2)
        assert abs(moment.start - 10 * begins) <= 10 and moment.stop - moment.start == 200
        assert moment.movement == pytest.approx(6.0 * np.count_nonzero(np.diff(gain)), rel=0.06)


def test_of_equal_stretches_the_first_is_taken_and_silence_does_not_move():
    gain = np.full(100, np.nan)
    assert busiest(gain, 1000, RATE, 0.2) == Moment(0, 200, 0.0)
    gain[50], gain[51] = -3.0, -5.0  # from silence to sound is no movement of the gain
    moment = busiest(gain, 1000, RATE, 0.2)
    assert moment.movement == 2.0 and moment.start <= 500 <= moment.stop - 10


@pytest.mark.parametrize("samples", [1, 9, 25, 199, 200, 201, 1003])
def test_a_stretch_lies_within_its_item(samples):
    random = np.random.default_rng(samples)
    moment = busiest(random.normal(size=samples // 10), samples, RATE, 0.2)
    assert 0 <= moment.start < moment.stop <= samples
    assert moment.stop - moment.start == min(200, samples)


def item(name: str, *controls: float) -> Item:
    settings = {f"c{n}": value for n, value in enumerate(controls)}
    return Item(name, settings, list(controls), 1000, 1, 0, name)


def test_every_setting_has_its_turn_before_one_comes_again():
    items = [item("a", 0.1), item("b", 0.1), item("c", 0.5), item("d", 0.1), item("e", 0.9)]
    moved = dict(enumerate([5.0, 9.0, 1.0, 8.0, 2.0]))
    moments = {n: Moment(n, n + 100, movement) for n, movement in moved.items()}
    for count, expected in ((0, []), (1, [1]), (2, [1, 4]), (3, [1, 2, 4]), (4, [1, 2, 3, 4])):
        chosen = choose(moments, items, count)
        assert [excerpt.item for excerpt in chosen] == expected
        assert [excerpt.start for excerpt in chosen] == expected
    assert len(choose(moments, items, 99)) == 5
    backwards = dict(reversed(moments.items()))
    assert choose(backwards, items, 3) == choose(moments, items, 3), "whichever rank came first"


def test_an_item_is_named_by_its_setting_or_by_itself():
    assert in_words(item("a", 2.0, 0.5)) == "c0 2, c1 0.5"
    assert in_words(item("a")) == "a"
