"""The command `capture`: options that do not fit are refused before anything is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.capture.plan import Plan
from sptmod_dist.capture.play import write_session
from sptmod_dist.capture.session import scratch
from sptmod_dist.capture.stimuli import make_missing
from sptmod_dist.cli import main
from sptmod_dist.data.locks import locked
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.errors import UserError
from tests.capture.sessions import CONTENT, GAIN, RATE, content, delayed, plan_of

FILES = "shutil.copy(sys.argv[1], sys.argv[2])"
COPY = f"'{sys.executable}' -c 'import sys, shutil; {FILES}' {{input}} {{output}} {{gain}}"


def no_word(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plugin", "Gain", "--limit", "3"], "--limit belongs to command, not to plugin"),
        (["command", COPY, "--set", "a=b"], "--set belongs to plugin"),
        (["recordings", ".", "--map", "a=b"], "--map belongs to plugin"),
        (["plugin", "Gain", "--pause", "3"], "--pause belongs to play"),
        (["plugin", "Gain", "--workers", "0"], "--workers is 0, but must be 1 or more"),
        (["command", COPY, "--limit", "0"], "--limit is 0.0, but must be 0.1 or more"),
        (["command", COPY, "--takes", "3-"], "--takes 3-: give take numbers like 1-80"),
        (["command", COPY, "--takes", "x"], "--takes x: give take numbers"),
        (["command", COPY, "--takes", "7-9"], "--takes 7-9: the plan has takes 1 to 3"),
        (["plugin", "Gain", "--map", "gain"], "--map gain: give CONTROL=PARAMETER"),
        (["plugin", "Gain", "--set", "a=1", "--set", "a=2"], "a is given twice"),
        (["command", COPY, "--rate", "44100"], "has 16000 Hz and --rate says 44100"),
        (["tape", "x"], "invalid choice"),
        (["recordings", "nowhere.wav"], "nowhere.wav does not exist"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_recorded(
    tmp_path: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, [0.0, 1.0, 2.0])
    assert main(["capture", str(tmp_path), *arguments]) == 2
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1
    assert not (tmp_path / "wet").exists()


def test_a_command_records_a_plan_in_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, [0.0, 1.0, 2.0])
    assert main(["capture", str(tmp_path), "command", COPY, "--takes", "1-2"]) == 0
    assert "2 of 3 takes are there" in capsys.readouterr().out
    assert not (tmp_path / "manifest.yaml").exists()
    assert main(["capture", str(tmp_path), "command", COPY, "--takes", "3"]) == 0
    assert len(Manifest.read(tmp_path / "manifest.yaml").items) == 3
    assert (tmp_path / "checks/report.json").is_file()


def test_a_second_capture_of_a_session_is_refused_while_one_is_at_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, [0.0])
    with locked(tmp_path / ".lock"):
        assert main(["capture", str(tmp_path), "command", COPY]) == 2
    assert "another capture is at work in" in capsys.readouterr().err
    assert not list(tmp_path.glob("wet/*"))


def test_takes_at_work_lie_in_the_session_and_what_a_kill_left_goes_at_the_next_start(
    tmp_path: Path,
) -> None:
    plan_of(tmp_path, [0.0, 1.0])
    left = tmp_path / ".tmp/take-abc/input.wav"
    half = tmp_path / "wet/.item-000-abc.wav"
    for file in (left, half):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half")
    seen = f"{FILES}; open(sys.argv[3], \"a\").write(sys.argv[1] + chr(10))"
    log = tmp_path / "seen"
    line = f"'{sys.executable}' -c 'import sys, shutil; {seen}' {{input}} {{output}} {log} {{gain}}"
    assert main(["capture", str(tmp_path), "command", line]) == 0
    inputs = [Path(text) for text in log.read_text().splitlines()]
    assert len(inputs) == 2 and all(path.is_relative_to(tmp_path / ".tmp") for path in inputs)
    assert not (tmp_path / ".tmp").exists() and not half.exists()
    assert (tmp_path / "wet/item-000.wav").exists()
    left.parent.mkdir(parents=True)
    with scratch(tmp_path) as place:
        assert list(place.iterdir()) == []


def test_recordings_that_are_missing_are_listed_and_the_others_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, [0.0, 6.0, 3.0])
    stimulus, _ = audio.read(tmp_path / "stimulus/stimulus-0.wav")
    back = tmp_path / "back"
    back.mkdir()
    for number, gain in ((1, 0.0), (3, 3.0)):
        audio.write(back / f"take {number}.wav", delayed(gain, 500, stimulus), RATE)
    assert main(["capture", str(tmp_path), "recordings", str(back)]) == 2
    assert "no file for 1 of 3 takes: item-001;" in capsys.readouterr().err
    before = (tmp_path / "wet/item-002.wav").stat().st_mtime_ns
    audio.write(back / "item-001.wav", delayed(6.0, 500, stimulus), RATE)
    assert main(["capture", str(tmp_path), "recordings", str(back)]) == 0
    assert (tmp_path / "wet/item-002.wav").stat().st_mtime_ns == before
    wet, _ = audio.read(tmp_path / "wet/item-001.wav")
    wanted = delayed(6.0, 0, content(0)[None, :CONTENT])
    assert np.abs(wet - audio.remove_dc(wanted)).max() < 2**-21  # rounded to 24 bits twice


@pytest.mark.parametrize(("suffix", "subtype"), [(".ogg", "VORBIS"), (".mp3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("whole", [True, False], ids=["one long file", "a file a take"])
def test_recordings_that_were_stored_with_a_loss_are_doubted(
    tmp_path: Path, suffix: str, subtype: str, whole: bool
) -> None:
    plan_of(tmp_path, [0.0, 3.0])
    stimulus, _ = audio.read(tmp_path / "stimulus/stimulus-0.wav")
    played = [delayed(gain, 300, stimulus) for gain in (0.0, 3.0)]
    back = tmp_path / f"long{suffix}" if whole else tmp_path / "back"
    if whole:
        audio.write(back, np.concatenate(played, axis=1), RATE, subtype)
    else:
        back.mkdir()
        audio.write(back / f"item-000{suffix}", played[0], RATE, subtype)
        audio.write(back / "item-001.wav", played[1], RATE)
    main(["capture", str(tmp_path), "recordings", str(back)])
    takes = json.loads((tmp_path / "checks/report.json").read_text())["takes"]
    doubted = ["leaves out what is hard to hear" in str(take["findings"]) for take in takes]
    assert doubted == [True, whole]


def test_a_take_of_a_long_recording_is_replaced_by_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(tmp_path, [0.0, 6.0])
    stimulus, _ = audio.read(tmp_path / "stimulus/stimulus-0.wav")
    long = np.concatenate([delayed(gain, 300, stimulus) for gain in (0.0, 3.0)], axis=1)
    audio.write(tmp_path / "long.wav", long, RATE)
    assert main(["capture", str(tmp_path), "recordings", str(tmp_path / "long.wav")]) == 0
    first = (tmp_path / "wet/item-000.wav").stat().st_mtime_ns
    back = tmp_path / "back"
    back.mkdir()
    audio.write(back / "take 2.wav", delayed(6.0, 500, stimulus), RATE)
    again = ["capture", str(tmp_path), "recordings", str(back)]
    assert main(again) == 2
    assert "1 of these takes from another recording already (item-001)" in capsys.readouterr().err
    assert main([*again, "--overwrite"]) == 0
    assert "take 2.wav -> item-001" in capsys.readouterr().out
    assert (tmp_path / "wet/item-000.wav").stat().st_mtime_ns == first
    wet, _ = audio.read(tmp_path / "wet/item-001.wav")
    wanted = delayed(6.0, 0, content(0)[None, :CONTENT])
    assert np.abs(wet - audio.remove_dc(wanted)).max() < 2**-21


def test_the_file_to_play_has_a_pause_and_a_stimulus_for_each_take(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0.0, 6.0, 3.0], seeds=[1, 0, 1])
    stimuli = make_missing(tmp_path / "stimulus", [0, 1], say=no_word)
    text = write_session(tmp_path / "play.wav", plan.takes, [GAIN], stimuli, 1.5)
    played, rate = audio.read(tmp_path / "play.wav")
    whole = [stimuli.read(seed).audio for seed in (1, 0, 1)]
    rest = np.zeros((1, round(1.5 * RATE)), np.float32)
    assert rate == RATE
    assert np.array_equal(played, np.concatenate([p for w in whole for p in (rest, w)], axis=1))
    assert "gain 6 dB" in text.splitlines()[2]
    assert (tmp_path / "play.txt").read_text() == text + "\n"


def test_a_file_to_play_that_no_wav_can_hold_is_refused_with_a_part(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [0.0] * 100)
    stimuli = make_missing(tmp_path / "stimulus", [0], say=no_word)
    frames = 1000 * RATE + stimuli.read(0).audio.shape[1]
    most = 2**32 // (3 * frames)
    with pytest.raises(UserError, match=rf"write it in parts, such as --takes 1-{most}\."):
        write_session(tmp_path / "play.wav", plan.takes, [GAIN], stimuli, 1000.0)
    assert not (tmp_path / "play.wav").exists()


def test_stimuli_that_are_missing_are_made_at_the_rate_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shorter(folder: Path, rate: int, seeds: list[int], *_: object, **__: object) -> None:
        for seed in seeds:
            audio.write(folder / f"stimulus-{seed}.wav", np.zeros((1, 9 * rate)), rate)

    monkeypatch.setattr("sptmod_dist.capture.stimuli.write_stimuli", shorter)
    plan_of(tmp_path, [0.0])
    before = (tmp_path / "stimulus/stimulus-0.wav").read_bytes()
    stimuli = make_missing(tmp_path / "stimulus", [0, 3], say=no_word)
    assert audio.info(stimuli.paths[3]).rate == RATE == stimuli.rate
    assert (tmp_path / "stimulus/stimulus-0.wav").read_bytes() == before
    with pytest.raises(UserError, match="not of one length"):
        stimuli.layout()


def test_stimuli_of_two_rates_or_two_channels_are_refused(tmp_path: Path) -> None:
    plan_of(tmp_path, [0.0, 0.0], seeds=[0, 1])
    other = tmp_path / "stimulus/stimulus-1.wav"
    samples, _ = audio.read(other)
    audio.write(other, samples, 48_000)
    with pytest.raises(UserError, match=r"16000 Hz and .* 48000 Hz; make all stimuli at one"):
        make_missing(tmp_path / "stimulus", [0, 1])
    audio.write(other, np.repeat(samples, 2, axis=0), RATE)
    with pytest.raises(UserError, match="mix it down"):
        make_missing(tmp_path / "stimulus", [0, 1])


def test_a_folder_without_a_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError):
        Plan.read(tmp_path)
    assert main(["capture", str(tmp_path), "plugin", "Gain"]) == 2
    assert "plan" in capsys.readouterr().err


def test_takes_that_no_control_moves_end_with_a_fault_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every take is copied: the gain is said and not done."""
    plan_of(tmp_path, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert main(["capture", str(tmp_path), "command", COPY]) == 2
    assert "All takes sound alike" in capsys.readouterr().out
    assert len(Manifest.read(tmp_path / "manifest.yaml").items) == 8
    report = json.loads((tmp_path / "checks/report.json").read_text())
    assert {finding["severity"] for finding in report["findings"]} == {"fault", "doubt"}
    assert [take["name"] for take in report["takes"]] == [f"item-{n:03}" for n in range(8)]
    before = [(tmp_path / "wet/item-000.wav").stat().st_mtime_ns, report]
    assert main(["capture", str(tmp_path), "command", COPY]) == 2  # from the files, the same
    report = json.loads((tmp_path / "checks/report.json").read_text())
    assert [(tmp_path / "wet/item-000.wav").stat().st_mtime_ns, report] == before
