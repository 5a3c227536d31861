"""A command is run as its line says, without a shell, and its faults are told in a sentence."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.capture.command_device import CommandDevice
from sptmod_dist.capture.plan import Take
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError

RATE = 8_000
GAIN = Control("gain", -24.0, 24.0, unit="dB")
MODE = Control("mode", scale="list", positions=("it's fast", "slow; echo $HOME"))
PROGRAM = """
import sys
import soundfile
samples, rate = soundfile.read(sys.argv[1])
soundfile.write(sys.argv[2], samples * 10 ** (float(sys.argv[3]) / 20), rate, "FLOAT")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "a gain.py"
    file.write_text(PROGRAM)
    return file


def take(gain: float = -6.0, **others: Any) -> Take:
    return Take(3, "item-002", 0, {"gain": gain, **others})


def noise() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (0.1 * generator.standard_normal((1, RATE))).astype(np.float32)


def line(program: Path, rest: str = "{input} {output} {gain}") -> str:
    return f"'{sys.executable}' '{program}' {rest}"


def python(code: str) -> str:
    """A command of a line of Python that has all places."""
    return f"'{sys.executable}' -c '{code}' {{input}} {{output}} {{gain}}"


def test_the_file_goes_in_and_comes_out_with_the_control_s_value(program: Path) -> None:
    device = CommandDevice(line(program), [GAIN])
    wet = device.process(noise(), RATE, take(-6.5))
    assert wet.rate == RATE
    assert np.allclose(wet.audio, noise() * 10 ** (-6.5 / 20), atol=2e-7)


def test_a_format_says_how_a_value_is_written(program: Path) -> None:
    device = CommandDevice(line(program, "{input} {output} {gain:.0f}"), [GAIN])
    wet = device.process(noise(), RATE, take(-6.4)).audio
    assert np.allclose(wet, noise() * 10 ** (-6 / 20), atol=2e-7)


@pytest.mark.parametrize("mode", MODE.positions)
def test_no_shell_reads_a_value(mode: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = (
        "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2]); "
        f'open("{seen}", "w").write(sys.argv[4])'
    )
    device = CommandDevice(python(code) + " mode={mode}", [GAIN, MODE])
    device.process(noise(), RATE, take(mode=mode))
    assert seen.read_text() == f"mode={mode}"


def test_braces_of_its_own_are_written_twice(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = (
        "import sys, shutil; shutil.copy(sys.argv[1], sys.argv[2]); "
        f'open("{seen}", "w").write(sys.argv[4])'
    )
    device = CommandDevice(python(code) + " {{{gain}}}", [GAIN])
    device.process(noise(), RATE, take())
    assert seen.read_text() == "{-6}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "is empty"),
        ("python 'x {input} {output} {gain}", "cannot be read"),
        ("python {input} {output}", "lacks {gain}"),
        ("python {output} {gain}", "lacks {input}"),
        ("python {input} {gain}", "lacks {output}"),
        ("python {input} {output} {gian}", "did you mean gain?"),
        ("python {input} {output} {gain", "cannot be read"),
        ("python {input} {output} {gain.real}", "unknown place {gain.real}"),
        ("no-such-program {input} {output} {gain}", "'no-such-program' of the command is not"),
    ],
)
def test_a_line_that_cannot_be_is_refused_before_anything_runs(template: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        CommandDevice(template, [GAIN])
    assert words in str(caught.value)


def test_a_format_that_does_not_suit_a_value_is_refused_before_the_first_take() -> None:
    device = CommandDevice(python("") + " {mode:.1f}", [GAIN, MODE])
    with pytest.raises(UserError, match=r"take 3 \(item-002\): a value does not suit"):
        device.check([take(mode="slow; echo $HOME")])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ('import sys; sys.exit("first\\nthe reason")', "ended with code 1: first / the reason"),
        ("import os; os._exit(3)", "ended with code 3: it said nothing"),
        ("pass", "wrote nothing to {output}"),
        ('import sys; open(sys.argv[2], "w").write("x")', "is no audio that can be read"),
    ],
)
def test_a_failing_command_is_a_sentence_with_its_last_words(code: str, words: str) -> None:
    device = CommandDevice(python(code), [GAIN])
    with pytest.raises(UserError) as caught:
        device.process(noise(), RATE, take())
    assert words in str(caught.value)


def test_a_command_past_its_limit_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "late"
    code = (
        "import subprocess, sys, time; "
        f'subprocess.Popen(["sh", "-c", "sleep 1; touch {mark}"]); time.sleep(30)'
    )
    device = CommandDevice(python(code), [GAIN], limit=0.4)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"was not done after 0 s, the limit"):
        device.process(noise(), RATE, take())
    assert time.monotonic() - begun < 5
    time.sleep(1.2)
    assert not mark.exists()


def test_closing_ends_what_runs_and_starts_nothing_more() -> None:
    device = CommandDevice(python("import time; time.sleep(30)"), [GAIN])
    faults: list[Exception] = []

    def work() -> None:
        try:
            device.process(noise(), RATE, take())
        except UserError as error:
            faults.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not device._running and time.monotonic() < deadline:
        time.sleep(0.01)
    device.close()
    thread.join(10)
    assert not thread.is_alive() and "code -9" in str(faults[0])
    with pytest.raises(UserError, match="the capture was ended"):
        device.process(noise(), RATE, take())


def test_nothing_is_left_in_the_temporary_folder(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    CommandDevice(line(program), [GAIN]).process(noise(), RATE, take())
    failing = CommandDevice(python("raise SystemExit(1)"), [GAIN])
    with pytest.raises(UserError):
        failing.process(noise(), RATE, take())
    assert list(scratch.iterdir()) == []


def test_a_script_that_changes_changes_the_fingerprint(program: Path) -> None:
    before = CommandDevice(line(program), [GAIN])
    program.write_text(PROGRAM + "\n# louder\n")
    after = CommandDevice(line(program), [GAIN])
    assert before.fingerprint(take()) != after.fingerprint(take())
    assert "a gain.py" in after.describe()


def test_what_a_command_writes_is_read_with_its_own_rate_and_channels(tmp_path: Path) -> None:
    made = tmp_path / "made.wav"
    audio.write(made, np.zeros((2, 100), np.float32) + 0.25, 48_000)
    code = f'import sys, shutil; shutil.copy("{made}", sys.argv[2])'
    wet = CommandDevice(python(code), [GAIN]).process(noise(), RATE, take())
    assert wet.rate == 48_000 and wet.audio.shape == (2, 100)
