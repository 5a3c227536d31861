"""Real devices end to end: plug-ins, programs, and hardware that is simulated as a person meets it.

What comes out of a capture is compared with what the device gives when it is asked directly.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.capture.markers import layout, surround
from sptmod_dist.capture.plan import Plan, Take
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.data.recordings import Manifest, load_item
from sptmod_dist.metrics import esr

pytestmark = pytest.mark.system  # half a minute of real programs
RATE = 44_100
SECONDS = 4
LAYOUT = layout(RATE, SECONDS * RATE)
VST3 = Path("/usr/lib/vst3")
SC4 = Path("/usr/lib/ladspa/sc4m_1916.so")
needs_zam = pytest.mark.skipif(
    not (VST3 / "ZamCompX2.vst3").exists(), reason="Debian's package zam-plugins is not installed"
)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
needs_sc4 = pytest.mark.skipif(
    not SC4.exists(), reason="Debian's package swh-plugins is not installed"
)
THRESHOLD = Control("threshold", -60.0, 0.0, unit="dB")
RATIO = Control("ratio", 1.0, 20.0, "log", ":1")
SETTINGS = [(-30.0, 2.0), (-30.0, 10.0), (-15.0, 10.0)]


def source() -> np.ndarray:
    """Tones and bursts of noise from -40 to -3 dB, `[T]`."""
    generator = np.random.default_rng(7)
    seconds = np.arange((SECONDS + 1) * RATE) / RATE
    level = 10 ** (-(2 + 38 * np.abs(np.sin(2.1 * seconds))) / 20)
    noise = generator.uniform(-0.7, 0.7, len(seconds)) * (seconds * 2 % 1 < 0.5)
    return (level * (0.25 * np.sin(2 * np.pi * 330 * seconds) + noise)).astype(np.float32)


def session(folder: Path, controls: Sequence[Control], settings: Sequence[tuple[float, ...]]) -> (
    np.ndarray
):
    """A plan with a short stimulus, which is given back, `[1, T]`."""
    names = [control.name for control in controls]
    takes = tuple(
        Take(number, f"item-{number - 1:03}", 0, dict(zip(names, values, strict=True)))
        for number, values in enumerate(settings, 1)
    )
    Plan(folder, tuple(controls), takes).write(folder)
    samples = source()
    whole = surround(samples[: SECONDS * RATE], RATE, samples[SECONDS * RATE :])[None]
    (folder / "stimulus").mkdir()
    audio.write(folder / "stimulus/stimulus-0.wav", whole, RATE)
    return audio.read(folder / "stimulus/stimulus-0.wav")[0]


def content(wet: np.ndarray, delay: int = 0) -> np.ndarray:
    """The part of a whole stimulus, or of what a device made of it, that is kept."""
    kept = wet[:, LAYOUT.content_start + delay : LAYOUT.content_stop + delay]
    return audio.remove_dc(kept)


def recordings(folder: Path) -> list[np.ndarray]:
    """What was stored, checked as a training would."""
    manifest = Manifest.read(folder / "manifest.yaml")
    return [load_item(manifest, item).output for item in manifest.items]


def assert_near(found: np.ndarray, wanted: np.ndarray, steps: float = 2) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < steps * 2**-23


def directly(plugin: str, values: Mapping[str, float], stimulus: np.ndarray) -> np.ndarray:
    """What pedalboard makes of it, `[1, T]`, in a process of its own: plug-ins may leave a process
    that cannot hold the smallest floats."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool:
        return pool.submit(_processed, plugin, dict(values), stimulus).result()


def _processed(plugin: str, values: Mapping[str, float], stimulus: np.ndarray) -> np.ndarray:
    import pedalboard

    direct = pedalboard.load_plugin(plugin)
    for name, value in values.items():
        known = direct.parameters[name]
        known.raw_value = known.get_raw_value_for_text(str(value))
    wet: np.ndarray = direct.process(np.repeat(stimulus, 2, axis=0), RATE, reset=True)[:1]
    return wet


@needs_zam
def test_a_vst3_compressor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    stimulus = session(tmp_path, [THRESHOLD, RATIO], SETTINGS)
    plugin = str(VST3 / "ZamCompX2.vst3")
    assert main(["capture", str(tmp_path), "plugin", plugin, "--set", "attack=5"]) == 0
    assert "ZamCompX2" in capsys.readouterr().out
    found = recordings(tmp_path)
    for wet, (threshold, ratio) in zip(found, SETTINGS, strict=True):
        values = {"attack_ms": 5, "threshold_db": threshold, "ratio": ratio}
        wanted = directly(plugin, values, stimulus)
        assert_near(wet, content(wanted))
    assert esr(found[0], found[1]) > 0.01


@needs_zam
def test_a_vst3_limiter_with_latency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    threshold = Control("Threshold", -30.0, 0.0, unit="dB")
    stimulus = session(tmp_path, [threshold], [(-24.0,)])
    plugin = str(VST3 / "ZaMaximX2.vst3")
    assert main(["capture", str(tmp_path), "plugin", plugin]) == 0
    out = capsys.readouterr().out
    assert "reports a delay of 480 samples, and 480.0 were measured." in out
    for wet, level in zip(recordings(tmp_path), [-24.0], strict=True):
        # Asked to, pedalboard takes the delay out itself, by what the plug-in reports.
        wanted = directly(plugin, {"threshold_db": level}, stimulus)
        assert_near(wet, content(wanted))


@needs_ffmpeg
@pytest.mark.parametrize(
    "effect",
    [
        "acompressor=threshold={threshold}dB:ratio={ratio}:attack=5:release=100",
        pytest.param(
            f"ladspa=file={SC4}:plugin=sc4m:"
            "controls=c0=0|c1=5|c2=100|c3={threshold}|c4={ratio}|c5=3|c6=0",
            marks=needs_sc4,
        ),
    ],
)
def test_an_effect_of_ffmpeg(tmp_path: Path, effect: str) -> None:
    stimulus = session(tmp_path, [THRESHOLD, RATIO], SETTINGS)
    line = f"ffmpeg -nostdin -i {{input}} -af '{effect}' -c:a pcm_f32le -bitexact {{output}}"
    assert main(["capture", str(tmp_path), "command", line]) == 0
    found = recordings(tmp_path)
    for number, (threshold, ratio) in enumerate(SETTINGS):
        wet = tmp_path / f"direct-{number}.wav"
        filled = line.replace("{threshold}", f"{threshold:g}").replace("{ratio}", f"{ratio:g}")
        command = filled.split("'")
        words = [*command[0].split(), command[1], *command[2].split()]
        names = {"{input}": str(tmp_path / "stimulus/stimulus-0.wav"), "{output}": str(wet)}
        subprocess.run([names.get(word, word) for word in words], check=True, capture_output=True)
        assert_near(found[number], content(audio.read(wet)[0]))
    assert stimulus.shape[0] == 1 and esr(found[0], found[1]) > 0.01


def hardware(path: Path, out: Path, settings: Sequence[tuple[float, ...]], pause: float) -> None:
    """What a person brings back: a compressor whose knobs were turned in the pauses, recorded from
    an unknown moment on, over noise, more quietly, and inverted by a cable."""
    pedalboard = pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    played, _ = audio.read(path)
    length = LAYOUT.total + round(pause * RATE)
    assert played.shape == (1, len(settings) * length)
    parts = []
    for number, (threshold, ratio) in enumerate(settings):
        device = pedalboard.Compressor(threshold, ratio, 5.0, 100.0)
        parts.append(device(played[:, number * length : (number + 1) * length], RATE))
    wet = np.concatenate([np.zeros((1, 3 * RATE + 12_345)), *parts, np.zeros((1, RATE))], axis=1)
    noise = 10 ** (-80 / 20) * np.random.default_rng(3).standard_normal(wet.shape)
    audio.write(out, (-0.5 * wet + noise).astype(np.float32), RATE)


def test_hardware_that_is_played_a_file_and_recorded_in_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stimulus = session(tmp_path, [THRESHOLD, RATIO], SETTINGS)
    play, back = tmp_path / "play.wav", tmp_path / "back.wav"
    assert main(["capture", str(tmp_path), "play", str(play), "--pause", "2"]) == 0
    cues = (tmp_path / "play.txt").read_text().splitlines()
    assert cues[2].split()[:2] == ["0:00:14", "2"] and "ratio 10 :1" in cues[2]
    assert main(["capture", str(tmp_path), "play", str(play)]) == 2  # it is there
    hardware(play, back, SETTINGS, 2.0)
    arguments = ["capture", str(tmp_path), "recordings", str(back), "--polarity"]
    assert main([*arguments, "--hardware", "A compressor"]) == 0, capsys.readouterr().err
    assert Manifest.read(tmp_path / "manifest.yaml").device == "recordings: A compressor"
    pedalboard = pytest.importorskip("pedalboard")
    for wet, (threshold, ratio) in zip(recordings(tmp_path), SETTINGS, strict=True):
        wanted = pedalboard.Compressor(threshold, ratio, 5.0, 100.0)(stimulus, RATE)
        assert esr(wet, content(0.5 * wanted)) < 1e-3  # the noise; a sample of delay is far more


@needs_zam
@pytest.mark.system
def test_a_latin_hypercube_of_the_published_size_of_item(tmp_path: Path) -> None:
    """The commands as a user types them, through a VST3 with seven knobs, at 48 kHz."""
    controls = tmp_path / "controls.yaml"
    session = tmp_path / "session"
    plugin = str(VST3 / "ZamCompX2.vst3")
    assert main(["device", plugin, "--controls", str(controls)]) == 0
    plan = ["plan", "lhs", str(controls), str(session), "--items", "6", "--seed", "0"]
    assert main(plan) == 0
    assert main(["stimulus", str(session / "stimulus"), "--rate", "48000"]) == 0
    assert main(["capture", str(session), "plugin", plugin]) == 0
    manifest = Manifest.read(session / "manifest.yaml")
    assert manifest.sample_rate == 48_000 and len(manifest.items) == 6
    for item in manifest.items:
        assert load_item(manifest, item).output.shape == (1, 96 * 48_000)
