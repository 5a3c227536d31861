"""A capture records each take once, aligned and checked, and goes on where it was ended."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.capture.capture import Alignment, Unfit
from sptmod_dist.capture.journal import Journal
from sptmod_dist.capture.session import Session
from sptmod_dist.capture.session_report import read_report
from sptmod_dist.data.recordings import Manifest, load_item
from sptmod_dist.errors import UserError
from sptmod_dist.quality.take_check import Finding, Step, TakeReport
from tests.capture.sessions import (
    CONTENT,
    RATE,
    Amplifier,
    capture,
    content,
    delayed,
    plan_of,
)

GAINS = [-6.0, 0.0, -3.0, 3.0]


def sums(folder: Path) -> dict[str, str]:
    files = [*folder.glob("dry/*"), *folder.glob("wet/*"), *folder.glob("items.csv")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def times(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("wet/*")}


def test_every_take_is_stored_aligned_with_the_settings_of_the_plan(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS, seeds=[0, 1, 0, 1])
    device = Amplifier()
    session, _ = capture(tmp_path, device)
    assert sorted(device.recorded) == ["item-000", "item-001", "item-002", "item-003"]
    session.write_manifest(RATE, device.describe())
    manifest = Manifest.read(tmp_path / "manifest.yaml")
    assert [item.settings["gain"] for item in manifest.items] == GAINS
    assert [item.input.name for item in manifest.items] == [
        "stimulus-0.wav", "stimulus-1.wav", "stimulus-0.wav", "stimulus-1.wav",
    ]  # fmt: skip
    for item, gain, seed in zip(manifest.items, GAINS, [0, 1, 0, 1], strict=True):
        recording = load_item(manifest, item)
        dry = content(seed)[:CONTENT]
        assert np.abs(recording.input[0] - dry).max() < 2**-23
        error = recording.output[0] - 10 ** (gain / 20) * dry
        assert np.abs(error - error.mean()).max() < 2**-22


def test_the_second_run_records_nothing(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier())
    before = times(tmp_path)
    device = Amplifier()
    _, said = capture(tmp_path, device)
    assert device.recorded == [] and times(tmp_path) == before
    assert said == ["4 of 4 takes are there already."]


def test_a_take_that_is_gone_or_cut_short_is_recorded_again_alone(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier())
    before = sums(tmp_path)
    (tmp_path / "wet/item-001.wav").unlink()
    os.truncate(tmp_path / "wet/item-002.wav", 1000)
    device = Amplifier()
    capture(tmp_path, device)
    assert sorted(device.recorded) == ["item-001", "item-002"]
    assert sums(tmp_path) == before


def test_a_dry_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier())
    before = sums(tmp_path)
    (tmp_path / "dry/stimulus-0.wav").unlink()
    capture(tmp_path, Amplifier())
    assert sums(tmp_path) == before


def test_what_another_device_recorded_is_replaced_only_when_asked(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    session, _ = capture(tmp_path, Amplifier())
    session.write_manifest(RATE, "amplifier 1")
    device = Amplifier(version=2)
    before = sums(tmp_path)
    with pytest.raises(UserError, match=r"takes of another device \(amplifier 1\)"):
        capture(tmp_path, device, [1, 2])
    assert sums(tmp_path) == before and session.manifest.exists() and not device.recorded
    capture(tmp_path, device, [1, 2], overwrite=True)
    assert sorted(device.recorded) == ["item-000", "item-001"]
    assert not session.manifest.exists()  # its items are of two devices
    again, _ = capture(tmp_path, Amplifier(version=2), [1, 2], overwrite=True)
    assert [take.id for take in again.missing()] == ["item-002", "item-003"]
    rest = Amplifier(version=2)
    capture(tmp_path, rest, overwrite=True)
    assert sorted(rest.recorded) == ["item-002", "item-003"]


def test_other_settings_stimuli_and_alignments_put_takes_out_of_date(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier())
    plan_of(tmp_path, [-6.0, 1.0, -3.0, 3.0])
    changed = Amplifier()
    _, said = capture(tmp_path, changed)
    assert changed.recorded == ["item-001"]
    assert said[1].startswith("1 are out of date: settings")
    stimulus = tmp_path / "stimulus/stimulus-0.wav"
    samples, _ = audio.read(stimulus)
    audio.write(stimulus, samples * np.float32(0.99), RATE)
    again = Amplifier()
    capture(tmp_path, again)
    assert len(again.recorded) == 4
    dry, _ = audio.read(tmp_path / "dry/stimulus-0.wav")
    assert np.abs(dry[0] - 0.99 * content(0)[:CONTENT]).max() < 2**-22
    turned = Amplifier()
    capture(tmp_path, turned, alignment=Alignment(fraction=True))
    assert len(turned.recorded) == 4


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", range(7))
def test_a_capture_that_ends_at_any_step_goes_on_to_the_same_bytes(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each renaming of a file and each line of the journal is a step; a kill comes before it."""
    plan_of(tmp_path / "whole", GAINS)
    capture(tmp_path / "whole", Amplifier())
    plan_of(tmp_path / "killed", [9.0, *GAINS[1:]])
    capture(tmp_path / "killed", Amplifier())
    plan_of(tmp_path / "killed", GAINS)
    (tmp_path / "killed/wet/item-002.wav").unlink()
    steps = iter(range(100))
    real = {"replace": os.replace, "add": Journal.add}

    def stepping(name: str):  # type: ignore[no-untyped-def]
        def step(*arguments: object) -> object:
            if next(steps) == call:
                raise Killed
            return real[name](*arguments)

        return step

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", stepping("replace"))
        patched.setattr(Journal, "add", stepping("add"))
        if call < 6:  # for each of two takes: not there any more, its file, its line
            with pytest.raises(Killed):
                capture(tmp_path / "killed", Amplifier(), workers=1)
        else:
            capture(tmp_path / "killed", Amplifier(), workers=1)
    capture(tmp_path / "killed", Amplifier())
    assert sums(tmp_path / "killed") == sums(tmp_path / "whole")


def test_a_file_of_other_settings_is_not_taken_for_the_old_one_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the new file and before its line, then back to the old settings."""
    plan_of(tmp_path, [-6.0])
    capture(tmp_path, Amplifier())
    before = sums(tmp_path)
    plan_of(tmp_path, [-12.0])
    real = Journal.add

    def add(journal: Journal, entry: dict[str, object]) -> None:
        if entry["digest"]:
            raise Killed
        real(journal, entry)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Journal, "add", add)
        capture(tmp_path, Amplifier())
    plan_of(tmp_path, [-6.0])
    capture(tmp_path, Amplifier())
    assert sums(tmp_path) == before


@pytest.mark.parametrize("torn", [b'{"take": "item-000", "dig', b"\xff\xfe", b"[1]\n", b"3"])
def test_a_torn_line_is_not_read_and_does_not_spoil_the_next(tmp_path: Path, torn: bytes) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add({"take": "a", "digest": "1"})
    with open(journal.path, "ab") as file:
        file.write(torn)
    Journal(journal.path).add({"take": "b", "digest": "2"})
    read = Journal(journal.path)
    assert read.get("a") == {"take": "a", "digest": "1"}
    assert read.get("b") == {"take": "b", "digest": "2"}


def test_an_unfit_take_ends_the_capture_and_what_came_out_is_kept(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    device = Amplifier(lambda audio, gain: 0 * audio)
    with pytest.raises(Unfit, match=r"take 1 \(item-000\) is unfit .*unfit-item-000.wav"):
        capture(tmp_path, device)
    assert device.recorded == ["item-000"] and device.closed
    assert not list(tmp_path.glob("wet/*")) and not (tmp_path / "manifest.yaml").exists()
    assert (tmp_path / "checks/unfit-item-000.wav").is_file()
    good = Amplifier()
    capture(tmp_path, good)
    assert len(good.recorded) == 4


def test_all_that_was_recorded_by_hand_is_looked_at_before_faults_are_told(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    device = Amplifier(
        lambda audio, gain: 0 * audio if gain in (-6.0, 3.0) else delayed(gain, 37, audio),
        by_hand=True,
    )
    with pytest.raises(Unfit) as caught:
        capture(tmp_path, device)
    assert "take 1 (item-000)" in str(caught.value) and "take 4 (item-003)" in str(caught.value)
    assert sorted(file.name for file in tmp_path.glob("wet/*")) == ["item-001.wav", "item-002.wav"]


def test_a_device_that_fails_ends_the_capture_and_what_was_done_stays(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)

    def failing(audio: np.ndarray, gain: float) -> np.ndarray:
        if gain == -3.0:
            raise UserError("no more power.")
        return delayed(gain, 37, audio)

    device = Amplifier(failing)
    with pytest.raises(UserError, match="no more power"):
        capture(tmp_path, device, workers=1)
    assert device.closed
    rest = Amplifier()
    capture(tmp_path, rest)
    assert "item-000" not in rest.recorded and "item-002" in rest.recorded


def test_a_dry_that_was_cut_otherwise_gets_a_file_of_its_own(tmp_path: Path) -> None:
    """Without markers, what a take has in common with its stimulus depends on its delay."""
    plan = plan_of(tmp_path, GAINS)
    session = Session(tmp_path, plan)
    digests = {take.id: "1" for take in plan.takes}
    session.begin("", digests, digests)
    parts = [content(0)[None, :length] for length in (CONTENT, CONTENT - 5, CONTENT, CONTENT - 5)]
    for take, dry in zip(plan.takes, parts, strict=True):
        session.store(take, "", "1", "1", dry, dry, RATE, {})
    manifest = session.write_manifest(RATE, "a device")
    names = [item.input.name for item in manifest.items]
    assert names == ["stimulus-0.wav", "item-001.wav", "stimulus-0.wav", "item-003.wav"]
    for item, dry in zip(manifest.items, parts, strict=True):
        assert np.abs(load_item(manifest, item).input - dry).max() < 2**-23


def test_takes_of_another_plan_count_for_none_whichever_are_asked_for(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    session, _ = capture(tmp_path, Amplifier())
    session.write_manifest(RATE, "amplifier 1")
    plan_of(tmp_path, [-6.0, 1.0, -3.0, 3.0])
    session, _ = capture(tmp_path, Amplifier(), [1])
    assert [take.id for take in session.missing()] == ["item-001"]
    assert not session.manifest.exists()


def test_a_device_that_clips_is_doubted_and_its_takes_are_data(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    device = Amplifier(lambda audio, gain: np.clip(delayed(gain + 24, 37, audio), -1, 1))
    session, _ = capture(tmp_path, device)
    assert "clipped" in session.results(session.plan.takes)["item-003"]["findings"][0]["what"]
    manifest = session.write_manifest(RATE, "amplifier 1")
    assert manifest.may_clip
    assert np.abs(load_item(manifest, manifest.items[3]).output).max() > 0.99
    with pytest.raises(UserError, match="may_clip: true"):
        load_item(replace(manifest, may_clip=False), manifest.items[3])
    by_hand = Amplifier(device._process, version=2, by_hand=True)
    with pytest.raises(Unfit, match="clipped"):
        capture(tmp_path, by_hand, overwrite=True)


def test_parts_of_a_plan_come_together(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier(), [1, 2])
    session, _ = capture(tmp_path, Amplifier(), [3])
    assert [session.done(take) is not None for take in session.plan.takes] == [True] * 3 + [False]
    last = Amplifier()
    capture(tmp_path, last)
    assert last.recorded == ["item-003"]


def test_delays_around_half_a_sample_are_all_rounded_alike(tmp_path: Path) -> None:
    """A device whose delay wanders by hundredths about 100.5 must not shift takes by one."""
    plan_of(tmp_path, GAINS)

    def wandering(audio: np.ndarray, gain: float) -> np.ndarray:
        delay = 100.5 + 0.02 * np.sign(gain)
        turns = np.fft.rfftfreq(audio.shape[1]) * delay
        return np.fft.irfft(np.fft.rfft(audio) * np.exp(-2j * np.pi * turns), audio.shape[1])

    capture(tmp_path, Amplifier(lambda audio, gain: wandering(audio, gain).astype(np.float32)))
    wet = [audio.read(tmp_path / f"wet/item-{number:03}.wav")[0] for number in range(4)]
    for other in wet[1:]:
        lags = [float(np.sum(wet[0][0, 9:-9] * np.roll(other[0], lag)[9:-9])) for lag in (-1, 0, 1)]
        assert np.argmax(lags) == 1


def test_what_is_louder_than_full_scale_is_stored_as_floats(tmp_path: Path) -> None:
    plan_of(tmp_path, [0.0, 20.0])
    capture(tmp_path, Amplifier())
    subtypes = [audio.info(tmp_path / f"wet/item-{n:03}.wav").subtype for n in (0, 1)]
    assert subtypes == ["PCM_24", "FLOAT"]
    samples, _ = audio.read(tmp_path / "wet/item-001.wav")
    assert np.abs(samples).max() > 1


@pytest.mark.parametrize(
    ("delay", "words"),
    [(37, "37.0 were measured."), (100, "100.0 were measured; what was measured counts.")],
)
def test_the_delay_that_a_device_reports_is_compared(
    tmp_path: Path, delay: int, words: str
) -> None:
    plan_of(tmp_path, GAINS)
    _, said = capture(tmp_path, Amplifier(lambda audio, gain: delayed(gain, delay, audio)))
    assert sum("reports a delay of 37 samples" in line and words in line for line in said) == 1
    wet, _ = audio.read(tmp_path / "wet/item-001.wav")
    assert np.abs(wet - audio.remove_dc(content(0)[None, :CONTENT])).max() < 2**-22


def test_a_line_a_take_says_how_far_it_is(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    _, said = capture(tmp_path, Amplifier(), workers=1)
    assert [line.split(":")[0].split() for line in said if "/4" in line] == [
        [f"{number}/4", f"item-{number - 1:03}"] for number in range(1, 5)
    ]


def test_a_report_comes_back_from_the_journal_as_it_was(tmp_path: Path) -> None:
    finding = Finding("doubt", "It is late.", "Be early.")
    report = TakeReport(
        "item-000", RATE, latency=1.5, dc=(0.1,), steps=(Step(1.0, -3),), content=(1, 2),
        dropouts=(0.5,), gain_db=(-3.0, 0.0), findings=(finding,),
    )  # fmt: skip
    assert read_report(json.loads(json.dumps(report.to_dict()))) == report


def test_the_journal_is_one_json_object_a_line(tmp_path: Path) -> None:
    plan_of(tmp_path, GAINS)
    capture(tmp_path, Amplifier())
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["take"] for line in lines) == [f"item-{n:03}" for n in range(4)]
