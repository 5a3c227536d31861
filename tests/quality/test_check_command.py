"""`check` says what is wrong, writes what it found, and mends copies, never the originals."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from sptmod_dist import audio
from sptmod_dist.cli import main
from sptmod_dist.data.recordings import Manifest, load_item
from tests.quality.sets import RATE, bursts, compress, late, write_pair, write_set


def report_in(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def digests(folder: Path) -> dict[Path, str]:
    """Of all files."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_sound_pair_is_told_and_drawn(tmp_path, capsys):
    assert main(["check", *write_pair(tmp_path, late(compress(bursts()), 37))]) == 0
    told = capsys.readouterr().out
    assert "1 take: 1 sound; ready to train on." in told
    take = report_in(tmp_path / "wet-check")["takes"][0]
    assert abs(take["latency"] - 37) < 0.1
    picture = imread(tmp_path / "wet-check" / "wet.png")
    assert picture.shape[:2] == (900, 1200)
    assert picture[..., :3].std() > 0.05


def test_doubts_do_not_stop_and_faults_do(tmp_path, capsys):
    assert main(["check", *write_pair(tmp_path, -compress(bursts()))]) == 0
    assert "doubt: wet: The wet's polarity is turned over." in capsys.readouterr().out
    clipped = np.clip(20 * compress(bursts()), -1, 1)
    assert main(["check", *write_pair(tmp_path, clipped)]) == 2  # the report of before is replaced
    told = capsys.readouterr().out
    assert "fault: wet: The wet is clipped, first at " in told
    assert "not to be trained on before the faults are mended" in told
    assert report_in(tmp_path / "wet-check")["verdict"] == "unfit"


def test_a_set_is_told_take_by_take_in_order(tmp_path, capsys):
    wets = {
        "good": compress(bursts(), 2),
        "other": bursts(seed=5),
        "turned": -compress(bursts(), 4),
    }
    assert main(["check", str(write_set(tmp_path / "set", wets)), "--workers", "2"]) == 2
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["good", "sound"], ["other", "unfit"], ["turned", "doubtful"],
    ]
    assert "fault: other: The wet does not follow the dry." in told
    assert "1 of 2 takes are turned over: turned." in told
    report = report_in(tmp_path / "set" / "manifest-check")
    assert [take["name"] for take in report["takes"]] == list(wets)
    for name in wets:
        assert (tmp_path / "set" / "manifest-check" / f"{name}.png").stat().st_size > 10_000


def test_the_report_goes_where_it_is_asked_for_and_nothing_else_is_replaced(tmp_path, capsys):
    pair = write_pair(tmp_path, compress(bursts()))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    assert main(["check", *pair, "--out", str(tmp_path / "mine")]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert main(["check", *pair, "--out", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"report.json", "wet.png"}


def test_fixed_copies_are_aligned_and_the_originals_as_they_were(tmp_path):
    dry = bursts()
    wets = {
        "a": late(compress(dry, 2) + 0.01, 100),
        "b": late(-compress(dry, 4), 37),
        "c": compress(dry, 6)[:, 50:],
    }
    manifest = write_set(tmp_path / "set", wets)
    before = digests(tmp_path / "set")
    fixed = tmp_path / "fixed"
    out = str(tmp_path / "out")
    assert main(["check", str(manifest), "--fix", str(fixed), "--polarity", "--out", out]) == 0
    assert digests(tmp_path / "set") == before
    copy = Manifest.read(fixed / "manifest.yaml")
    assert [item.settings for item in copy.items] == [{"ratio": 1 + n} for n in range(3)]
    assert copy.items[0].input == copy.items[1].input  # the same samples: one file
    for item, ratio, start in zip(copy.items, (2, 4, 6), (0, 0, 50), strict=True):
        recording = load_item(copy, item)
        assert np.allclose(recording.input, dry[:, start:], atol=1e-6)
        expected = compress(dry, ratio)[:, start:]
        assert np.abs(recording.output - expected + expected.mean()).max() < 1e-3


def test_a_fraction_stays_unless_it_is_asked_for(tmp_path):
    dry = bursts()
    wide = np.fft.rfft(late(compress(dry), 20), 1 << 16)
    turn = np.exp(-2j * np.pi * 0.4 * np.arange(wide.shape[1]) / (1 << 16))
    wet = np.fft.irfft(wide * turn)[:, : dry.shape[1] + 40].astype(np.float32)
    pair = write_pair(tmp_path, wet)
    errors = []
    for name, options in (("whole", []), ("part", ["--fraction"])):
        fixed = tmp_path / name
        assert main(["check", *pair, "--fix", str(fixed), *options]) == 0
        copy = Manifest.read(fixed / "manifest.yaml")
        output = load_item(copy, copy.items[0]).output
        inner = slice(1000, 40000)
        errors.append(float(np.square(output - compress(dry))[:, inner].mean()))
    assert errors[1] < 0.01 * errors[0]


def test_unfit_takes_are_left_out_of_the_copy(tmp_path, capsys):
    wets = {"good": compress(bursts(), 2), "other": bursts(seed=5)}
    manifest = write_set(tmp_path / "set", wets)
    assert main(["check", str(manifest), "--fix", str(tmp_path / "fixed")]) == 2
    assert "other is left out: it is unfit." in capsys.readouterr().out
    assert [item.id for item in Manifest.read(tmp_path / "fixed/manifest.yaml").items] == ["good"]


def test_nothing_is_left_where_no_take_can_be_used(tmp_path, capsys):
    pair = write_pair(tmp_path, bursts(seed=5))
    assert main(["check", *pair, "--fix", str(tmp_path / "fixed")]) == 2
    assert "no take can be used" in capsys.readouterr().err
    assert not (tmp_path / "fixed").exists()


def test_exchanged_sides_are_exchanged_back(tmp_path, capsys):
    dry = np.concatenate([bursts(seed=1), bursts(seed=2)])
    pair = write_pair(tmp_path, compress(dry)[::-1], dry)
    main(["check", *pair, "--fix", str(tmp_path / "fixed")])
    assert "Left and right of the wet are exchanged." in capsys.readouterr().out
    copy = Manifest.read(tmp_path / "fixed" / "manifest.yaml")
    recording = load_item(copy, copy.items[0])
    assert np.abs(recording.output - compress(dry)).max() < 1e-3


def test_a_sidechain_is_cut_with_the_dry(tmp_path):
    wet = compress(bursts())[:, 400:]  # early by 400: the dry's beginning goes
    manifest = write_set(tmp_path / "set", {"a": wet})
    key = bursts(seed=3)
    audio.write(tmp_path / "set" / "dry" / "key.wav", key, RATE, "FLOAT")
    text = manifest.read_text().replace("  output:", "  sidechain: dry/key.wav\n  output:")
    manifest.write_text(text)
    assert main(["check", str(manifest), "--fix", str(tmp_path / "fixed")]) == 0
    copy = Manifest.read(tmp_path / "fixed" / "manifest.yaml")
    recording = load_item(copy, copy.items[0])
    assert np.allclose(recording.input[1], key[0, 400:], atol=1e-6)
    audio.write(tmp_path / "set" / "dry" / "key.wav", key[:, :-5], RATE, "FLOAT")
    assert main(["check", str(manifest)]) == 2
    found = report_in(tmp_path / "set" / "manifest-check")["takes"][0]["findings"]
    assert found[0]["what"].startswith("The sidechain has 47995 samples")


def test_a_file_that_cannot_be_read_is_the_fault_of_its_take_alone(tmp_path, capsys):
    wets = {"broken": compress(bursts(), 2), "good": compress(bursts(), 3)}
    manifest = write_set(tmp_path / "set", wets)
    (tmp_path / "set" / "wet" / "broken.wav").write_bytes(b"RIFF nonsense")
    assert main(["check", str(manifest)]) == 2
    told = capsys.readouterr().out
    assert "broken.wav cannot be read as audio" in told
    assert "2 takes: 1 sound, 1 unfit" in told


def test_another_rate_than_the_manifest_states_is_a_fault(tmp_path, capsys):
    manifest = write_set(tmp_path / "set", {"a": compress(bursts())})
    manifest.write_text(manifest.read_text().replace("8000", "16000"))
    assert main(["check", str(manifest)]) == 2
    assert "The dry has 8000 Hz and the manifest states 16000 Hz." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dry.wav"], "dry.wav is audio; give what came out after it"),
        (["dry.wav", "dry.wav"], "given twice"),
        (["dry.wav", "none.wav"], "none.wav does not exist"),
        (["dry.wav", "wet.wav", "--fraction"], "add --fix FOLDER"),
        (["dry.wav", "wet.wav", "--workers", "0"], "must be 1 or more"),
        (["dry.wav", "wet.wav", "--out", "dry.wav"], "is a file"),
        (["dry.wav", "wet.wav", "--out", "no/such"], "create it first"),
        (["dry.wav", "wet.wav", "--fix", "."], "exists already"),
        (["none.yaml"], "none.yaml"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_a_sentence(
    tmp_path, monkeypatch, capsys, arguments, words
):
    write_pair(tmp_path, compress(bursts()))
    monkeypatch.chdir(tmp_path)
    before = digests(tmp_path)
    assert main(["check", *arguments]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert digests(tmp_path) == before
