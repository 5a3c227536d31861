"""What the check finds is told; faults are refused, doubts are not."""

from __future__ import annotations

import numpy as np
import pytest
from quality.takes import tones

from sptmod_dist import audio
from sptmod_dist.errors import UserError
from sptmod_dist.fit import pair as pairs
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.take_report import TakeReport
from tests.fit.pairs import RATE, compress, write_pair

DOUBT = Finding("doubt", "The wet is turned over.", "Turn the polarity switch.")
FAULT = Finding("fault", "The wet drops out at 3.20 s.", "USB cables do that: take another.")
NOTE = Finding("note", "It is late by 480 samples.")


@pytest.fixture
def found(monkeypatch):
    """Findings to add to what is found."""
    added: list[Finding] = []
    real = pairs.check_take

    def check_take(*arguments, **options) -> TakeReport:
        report = real(*arguments, **options)
        return TakeReport(**{**vars(report), "findings": tuple(added)})

    monkeypatch.setattr(pairs, "check_take", check_take)
    return added


def test_doubts_and_notes_are_told_and_the_pair_is_taken(tmp_path, found):
    found += [DOUBT, NOTE]
    told: list[str] = []
    pair = pairs.read_pair(*write_pair(tmp_path), told.append)
    assert told == [
        "doubt: The wet is turned over: turn the polarity switch",
        "note: It is late by 480 samples",
    ]
    assert pair.dry.shape == pair.wet.shape == (1, 24 * RATE)


def test_the_first_fault_is_refused_with_its_remedy_and_all_are_told(tmp_path, found):
    found += [DOUBT, FAULT, FAULT]
    told: list[str] = []
    with pytest.raises(UserError) as refusal:
        pairs.read_pair(*write_pair(tmp_path), told.append)
    assert "the first of 2 faults" in str(refusal.value)
    assert "drops out at 3.20 s: USB cables do that: take another; " in str(refusal.value)
    assert "sptmod-dist check " in str(refusal.value)
    assert len(told) == 3


def test_a_pair_without_markers_is_aligned_as_well(tmp_path):
    dry, wet = write_pair(tmp_path, delay=123, marked=False)
    pair = pairs.read_pair(dry, wet, lambda line: None)
    inside = audio.read(dry)[0]
    assert pair.dry.shape == pair.wet.shape == inside.shape
    assert np.array_equal(pair.dry, inside)
    assert np.abs(pair.wet - audio.remove_dc(compress(inside))).max() < 1e-6


def test_steady_tones_are_taken_with_a_doubt(tmp_path):
    dry, rate = tones()[None], 22_050
    wet = np.pad(compress(dry), ((0, 0), (123, 0)))
    for name, samples in (("dry", dry), ("wet", wet)):
        audio.write(tmp_path / f"{name}.wav", samples, rate)
    told: list[str] = []
    pair = pairs.read_pair(tmp_path / "dry.wav", tmp_path / "wet.wav", told.append)
    assert "doubt: Hardly a moment of the wet tells its delay" in told[0]
    assert pair.report.latency == pytest.approx(123, abs=0.5)
    assert pair.dry.shape == pair.wet.shape == dry.shape
