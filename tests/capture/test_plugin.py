"""Plug-ins take what a plan says, from a fresh state each time, or refuse it in a sentence."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.capture.device_table import draft, table
from sptmod_dist.capture.plan import Plan, Take
from sptmod_dist.capture.plugin import open_host, open_plugin
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError

pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")

RATE = 44_100
FOLDER = Path("/usr/lib/vst3")
COMPRESSOR = FOLDER / "ZamCompX2.vst3"
needs_vst3 = pytest.mark.skipif(
    not COMPRESSOR.exists(), reason="Debian's package zam-plugins is not installed"
)
EITHER = ["Compressor", pytest.param(str(COMPRESSOR), marks=needs_vst3)]
CONTROLS = (
    Control("Threshold", -60.0, 0.0, unit="dB"),
    Control("ratio", 1.0, 20.0, unit=":1"),
    Control("attack", 0.1, 100.0, "log", "ms"),
)


def take(number: int = 1, **settings: Any) -> Take:
    values = {"Threshold": -20.0, "ratio": 4.0, "attack": 5.0, **settings}
    return Take(number, f"item-{number:03}", 0, values)


def noise(seconds: float = 1.0, level: float = 0.3, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((1, int(seconds * RATE)))).astype(np.float32)


@pytest.mark.parametrize("name", EITHER)
def test_a_take_gives_the_same_bytes_first_or_last(name: str) -> None:
    audio = noise()
    device = open_plugin(name, CONTROLS, fixed={"release": "500"})
    first = device.process(audio, RATE, take()).audio
    for number in range(2, 4):
        loud = noise(level=0.9, seed=number)
        device.process(loud, RATE, take(number, ratio=20.0, Threshold=-60.0))
    assert np.array_equal(first, device.process(audio, RATE, take()).audio)
    again = open_plugin(name, CONTROLS, fixed={"release": "500"})
    assert np.array_equal(first, again.process(audio, RATE, take()).audio)
    device.close()
    again.close()


@pytest.mark.parametrize("name", EITHER)
def test_threads_give_what_one_after_the_other_gives(name: str) -> None:
    device = open_plugin(name, CONTROLS)
    takes = [take(number, ratio=2.0 * number) for number in range(1, 4)]
    alone = [device.process(noise(), RATE, each).audio for each in takes]
    found: dict[int, np.ndarray] = {}

    def work(each: Take) -> None:
        found[each.number] = device.process(noise(), RATE, each).audio

    threads = [threading.Thread(target=work, args=(each,)) for each in takes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each, wet in zip(takes, alone, strict=True):
        assert np.array_equal(found[each.number], wet)
    device.close()


@pytest.mark.parametrize("name", EITHER)
def test_a_static_tone_comes_out_as_threshold_and_ratio_say(name: str) -> None:
    """-6 dB is 14 dB above -20 dB: at 4:1 it leaves with 3.5 dB above."""
    seconds = np.arange(2 * RATE) / RATE
    tone = (10 ** (-6 / 20) * np.sin(2 * np.pi * 1000 * seconds)).astype(np.float32)[None]
    device = open_plugin(name, CONTROLS, fixed={"release": "100"})
    wet = device.process(tone, RATE, take(attack=0.5)).audio[0, RATE:]
    assert 20 * np.log10(np.abs(wet).max()) == pytest.approx(-16.5, abs=1.0)
    device.close()


@needs_vst3
def test_values_are_set_more_finely_than_the_host_steps() -> None:
    """Steps of 0.1 ms, a thousandth of the range, would make 0.25 ms 0.2998."""
    host = open_host(str(COMPRESSOR))
    (shown,) = host.shown([{"attack_ms": 0.25, "ratio": 4.0, "threshold_db": -20.125}])
    assert shown == pytest.approx({"attack_ms": 0.25, "ratio": 4.0, "threshold_db": -20.125})
    host.close()


@needs_vst3
def test_a_stereo_plug_in_gives_one_channel_where_both_are_equal() -> None:
    device = open_plugin(str(COMPRESSOR), CONTROLS)
    assert device.process(noise(), RATE, take()).audio.shape == (1, RATE)
    device.close()


@needs_vst3
def test_what_is_delayed_is_not_moved_and_nothing_of_its_end_is_lost() -> None:
    click = np.zeros((1, RATE), np.float32)
    click[0, [1000, RATE - 1]] = 0.5
    device = open_plugin(str(FOLDER / "ZaMaximX2.vst3"), ())
    wet = device.process(click, RATE, take()).audio
    assert device.latency == 480
    assert wet.shape == (1, RATE + 480)
    assert set(np.flatnonzero(np.abs(wet[0]) > 0.25)) == {1480, RATE + 479}
    device.close()


@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ratio": 0.5}, ["take 2", "ratio"]),
        ({"attack": "fast"}, ["take 2", "takes a number"]),
    ],
)
def test_values_that_it_cannot_take_are_refused_before_the_first_take(
    name: str, settings: dict[str, Any], words: list[str]
) -> None:
    device = open_plugin(name, CONTROLS)
    device.check([take(1)])
    with pytest.raises(UserError) as caught:
        device.check([take(1), take(2, **settings)])
    assert all(word in str(caught.value) for word in words)
    assert str(caught.value).count(". ") == 0
    device.close()


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Compresor", {}, "did you mean Compressor?"),
        ("VST3Plugin", {}, "pedalboard has no effect 'VST3Plugin'"),
        ("Compressor", {"fixed": {"knee": "3"}}, "there is no parameter 'knee'"),
        ("Compressor", {"fixed": {"release": "slow"}}, "takes a number"),
        ("Compressor", {"fixed": {"ratio": "2"}}, "which --set fixes"),
        ("Compressor", {"mapping": {"ratio": "threshold"}}, "both turn threshold_db"),
        ("Compressor", {"plugin_name": "Other"}, "chooses in a VST3 file"),
        ("/nowhere/x.vst3", {}, "does not exist"),
    ],
)
def test_devices_that_are_not_there_are_refused_in_words(
    name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        open_plugin(name, CONTROLS, **arguments)
    assert words in str(caught.value)


def test_a_file_that_is_no_plug_in_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.vst3"
    file.write_text("no plug-in")
    with pytest.raises(UserError, match=r"text.vst3 is no VST3 plug-in for this system"):
        open_plugin(str(file), ())


@needs_vst3
def test_a_plug_in_that_the_file_does_not_hold_is_refused() -> None:
    with pytest.raises(UserError, match=r"holds no plug-in 'Other'"):
        open_plugin(str(COMPRESSOR), (), plugin_name="Other")


@needs_vst3
def test_a_plug_in_that_crashes_is_a_sentence_and_the_next_take_goes_on() -> None:
    host: Any = open_host(str(COMPRESSOR))
    os.kill(host._all[0]._process.pid, signal.SIGSEGV)
    with pytest.raises(UserError, match=r"the plug-in ZamCompX2.vst3 crashed"):
        host.shown([{"ratio": 2.0}])
    assert host.shown([{"ratio": 2.0}])[0]["ratio"] == pytest.approx(2.0)
    host.close()


@needs_vst3
def test_a_plug_in_that_hangs_is_ended_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    host: Any = open_host(str(COMPRESSOR))
    process = host._all[0]._process
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr("sptmod_dist.capture.hosted.PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"did not answer"):
        host.run(noise(0.1), RATE, {})
    assert not process.is_alive()
    host.close()


def test_the_description_has_versions_pairs_and_what_is_fixed() -> None:
    import pedalboard

    device = open_plugin("Compressor", CONTROLS, fixed={"release": "50"})
    told = device.describe()
    assert f"pedalboard {pedalboard.__version__} Compressor" in told
    assert "Threshold turns threshold_db" in told and "release_ms fixed at 50" in told


def test_the_fingerprint_changes_with_what_is_fixed_and_what_is_turned() -> None:
    devices = [
        open_plugin("Compressor", CONTROLS, fixed={"release": "50"}),
        open_plugin("Compressor", CONTROLS, fixed={"release": "60"}),
        open_plugin("Compressor", CONTROLS),
        open_plugin("Compressor", CONTROLS, mapping={"attack": "release"}),
    ]
    assert len({device.fingerprint(take()) for device in devices}) == 4


@pytest.mark.parametrize("name", EITHER)
def test_every_parameter_has_a_line_and_every_one_that_can_be_set_a_control(name: str) -> None:
    host = open_host(name)
    lines = table(host).splitlines()
    controls = {control.name: control for control in draft(host)}
    for parameter in host.parameters.values():
        assert any(line.startswith(parameter.name) for line in lines)
        assert not (parameter.readable and parameter.name in controls)
    assert {"threshold_db", "ratio", "attack_ms", "release_ms"} <= set(controls)
    assert controls["attack_ms"].scale == "log" and controls["attack_ms"].unit == "ms"
    assert controls["threshold_db"].scale == "linear"
    device = open_plugin(name, list(controls.values()))
    defaults = {control.name: control.default for control in controls.values()}
    device.check([Take(1, "item-000", 0, defaults)])
    device.close()
    host.close()


def test_effects_of_every_kind_of_parameter_can_be_set() -> None:
    mode = Control("mode", scale="list", positions=("LPF12", "HPF24"))
    peak = Control("true_peak", scale="list", positions=(0.0, 1.0))
    for name, control in (("LadderFilter", mode), ("BrickwallLimiter", peak)):
        device = open_plugin(name, [control])
        takes = [Take(1, "item-000", 0, {control.name: value}) for value in control.positions]
        device.check(takes)
        wet = [device.process(noise(level=0.9), RATE, each).audio for each in takes]
        assert not np.array_equal(wet[0], wet[1])


def test_the_command_prints_the_table_and_drafts_the_file_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sptmod_dist.capture.controls_file import read_controls

    file = tmp_path / "controls.yaml"
    assert main(["device", "Compressor", "--controls", str(file)]) == 0
    assert "threshold_db" in capsys.readouterr().out
    assert {control.name for control in read_controls(file)} >= {"ratio", "threshold_db"}
    before = file.read_bytes()
    assert main(["device", "Limiter", "--controls", str(file)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert file.read_bytes() == before
    assert main(["device", "Limiter", "--controls", str(file), "--overwrite"]) == 0
    assert main(["device", "Convolution"]) == 2


@pytest.mark.parametrize(("name", "idle"), [
    ("Compressor", False), ("NoiseGate", False), ("Distortion", False), ("PeakFilter", True)
])  # fmt: skip
def test_defaults_of_a_draft_do_something_or_it_is_said(
    name: str, idle: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", name, "--controls", str(tmp_path / "controls.yaml")]) == 0
    assert ("leaves a sound as it is" in capsys.readouterr().out) == idle


@needs_vst3
def test_a_parameter_with_a_name_that_tables_need_is_drafted_so_that_plan_and_capture_take_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "controls.yaml"
    assert main(["device", str(COMPRESSOR), "--controls", str(file)]) == 0
    plan = ["plan", "snapshot", str(file), str(tmp_path / "session"), "--items", "1"]
    assert main(plan) == 0
    read = Plan.read(tmp_path / "session")
    assert "sidechain_knob" in read.takes[0].settings
    device = open_plugin(str(COMPRESSOR), read.controls)
    device.check(read.takes)
    assert "sidechain_knob turns sidechain" in device.describe()
    device.close()


@needs_vst3
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows open files")
def test_what_a_plug_in_prints_stays_away() -> None:
    host: Any = open_host(str(COMPRESSOR))
    files = Path("/proc", str(host._all[0]._process.pid), "fd")
    assert [os.readlink(files / number) for number in "12"] == ["/dev/null"] * 2
    host.close()
