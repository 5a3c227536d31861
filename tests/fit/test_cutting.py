"""A pair is cut into pieces that are apart, long enough, and spread over all of its time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sptmod_dist.data.geometry import Needs
from sptmod_dist.errors import UserError
from sptmod_dist.fit.cutting import LEAST_SECONDS, MOST_HELD_SECONDS, cut

RATE = 44_100
TINY = Needs((8192,) * 3, 8192 + 18_905).geometry(RATE, (), "tiny")
PUBLISHED = Needs((8192,) * 3, 8192 + 218_441).geometry(RATE, (), "published")


def seconds_of(pieces, split):
    return sum(piece.stop - piece.start for piece in pieces if piece.split == split) / RATE


@pytest.mark.parametrize("lengths", [TINY, PUBLISHED])
@pytest.mark.parametrize("seconds", [45, 96, 105.3, 3600])
def test_pieces_are_apart_and_cover_all_of_the_time(lengths, seconds):
    samples = round(seconds * RATE)
    pieces = cut(samples, RATE, lengths, batch_size=8)
    edges = [(piece.start, piece.stop) for piece in pieces]
    assert [start for start, _ in edges] == [0, *(stop for _, stop in edges[:-1])]
    assert edges[-1][1] == samples
    assert len({piece.id for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("lengths", [TINY, PUBLISHED])
@pytest.mark.parametrize("seconds", [45, 96, 3600])
def test_every_piece_holds_a_sequence_and_3_seconds(lengths, seconds):
    for piece in cut(round(seconds * RATE), RATE, lengths, batch_size=8):
        assert lengths.n_sequences(piece.stop - piece.start) >= 1
        assert piece.stop - piece.start >= LEAST_SECONDS * RATE


def test_15_percent_are_held_out_for_validation_and_for_the_test():
    pieces = cut(96 * RATE, RATE, TINY, batch_size=8)
    for split, share in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
        assert seconds_of(pieces, split) == pytest.approx(96 * share, abs=1e-3)


def test_of_an_hour_a_minute_is_held_out():
    pieces = cut(3600 * RATE, RATE, TINY, batch_size=8)
    assert seconds_of(pieces, "validation") == pytest.approx(MOST_HELD_SECONDS, abs=1e-3)
    assert seconds_of(pieces, "test") == pytest.approx(MOST_HELD_SECONDS, abs=1e-3)


def test_each_quarter_of_the_stimulus_has_something_of_each_split():
    pieces = cut(96 * RATE, RATE, TINY, batch_size=8)
    for split in ("train", "validation", "test"):
        starts = [piece.start // (24 * RATE) for piece in pieces if piece.split == split]
        assert starts == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("lengths", "batch_size"), [(TINY, 8), (PUBLISHED, 8), (TINY, 64), (PUBLISHED, 256)]
)
def test_what_is_too_short_is_refused_with_the_seconds_that_suffice(lengths, batch_size):
    with pytest.raises(UserError) as refusal:
        cut(5 * RATE, RATE, lengths, batch_size)
    words = str(refusal.value)
    assert "have 5.0 s in common" in words and "record more" in words
    needed = float(re.search(r"needs ([\d.]+) s", words)[1])
    pieces = cut(round(needed * RATE), RATE, lengths, batch_size)
    train = [piece.stop - piece.start for piece in pieces if piece.split == "train"]
    assert sum(map(lengths.n_sequences, train)) >= batch_size
    with pytest.raises(UserError):
        cut(round((needed - 0.3) * RATE), RATE, lengths, batch_size)


def test_silent_pieces_are_left_out():
    sounding = np.ones(96 * RATE, bool)
    sounding[20 * RATE : 24 * RATE + 100] = False  # all of test-0
    pieces = cut(96 * RATE, RATE, TINY, 8, lambda start, stop: bool(sounding[start:stop].any()))
    assert "test-0" in [piece.id for piece in cut(96 * RATE, RATE, TINY, 8)]
    left = [piece.id for piece in pieces if piece.split == "test"]
    assert left == ["test-1", "test-2", "test-3"]


def test_a_split_without_sound_is_refused():
    with pytest.raises(UserError, match="silent in all of its pieces for test"):
        whole = cut(96 * RATE, RATE, TINY, 8)
        starts = {piece.start for piece in whole if piece.split == "test"}
        cut(96 * RATE, RATE, TINY, 8, lambda start, stop: start not in starts)
