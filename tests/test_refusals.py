"""What a user can get wrong: one sentence, exit code 2, nothing half-written, nothing lost."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from processes import ROOT, run, torchrun
from toy import RATE, make_toy, toy_settings

from sptmod_dist import audio
from sptmod_dist.cli import main

TRAIN = str(ROOT / "launch" / "train.py")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Recordings and shards that are as they should be."""
    folder = tmp_path_factory.mktemp("sound")
    make_toy(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    """A copy to spoil."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    return tmp_path


def configure(folder: Path, **changes) -> list[str]:
    path = folder / "toy.yaml"
    text = yaml.safe_dump(toy_settings(folder, **changes))
    path.write_text(text.replace("SHARDS", str(folder / "shards")))
    return ["train", "--config", str(path)]


def cut(folder: Path) -> None:
    path = next((folder / "shards" / "train").glob("*.tar"))
    path.write_bytes(path.read_bytes()[:-2000])


def change_a_byte(folder: Path) -> None:
    """In the audio of every record, so that the first batch meets one."""
    path = next((folder / "shards" / "train").glob("*.tar"))
    data = bytearray(path.read_bytes())
    for place in re.finditer(rb"NUMPY", bytes(data)):
        data[place.start() + 300] ^= 1
    path.write_bytes(data)


def other_rate(folder: Path) -> None:
    """Validation recordings at another rate than the training's."""
    manifest = folder / "recordings" / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace(f"sample_rate: {RATE}", "sample_rate: 9000"))
    for path in (folder / "recordings").glob("*.wav"):
        audio.write(path, audio.read(path)[0], 9000, "FLOAT")
    assert main(build(folder, "other")) == 0
    shutil.rmtree(folder / "shards" / "validation")
    (folder / "other" / "validation").rename(folder / "shards" / "validation")


def build(folder: Path, out: str = "built") -> list[str]:
    manifest = str(folder / "recordings" / "manifest.yaml")
    rest = ["--manifest", manifest, "--out", str(folder / out)]
    return ["shards", "build", *configure(folder)[1:], *rest]


def spoil(name: str, change):
    def spoiled(folder: Path) -> None:
        path = folder / "recordings" / name
        signal, rate = audio.read(path)
        audio.write(path, change(signal.copy()), rate, "FLOAT")

    return spoiled


def with_nan(x):
    x[0, 700] = np.nan
    return x


def clipped(x):
    return np.clip(x * 40, -1, 1).astype(np.float32)


def control_out_of_range(folder: Path) -> None:
    path = folder / "recordings" / "manifest.yaml"
    path.write_text(path.read_text().replace("drive: 2.0", "drive: 99.0", 1))


def nothing(folder: Path) -> None:
    pass


def remove_index(folder: Path) -> None:
    (folder / "shards" / "train" / "index.json").unlink()


def train_on_validation(folder: Path) -> None:
    sets = folder / "shards"
    shutil.rmtree(sets / "train")
    shutil.copytree(sets / "validation", sets / "train")


def existing_run(folder: Path) -> None:
    (folder / "runs" / "toy").mkdir(parents=True)
    (folder / "runs" / "toy" / "config.yaml").write_text("name: mine\n")


CASES = {
    "B not divided by the processes asked for": (
        nothing, {"batch_size": 3, "distributed": {"processes": 2}}, "2 or 4"),
    "L_1 no multiple of P": (nothing, {"lengths": [64, 40]}, r"lengths\[1\] is 40.*32 or 48"),
    "fewer sequences than B": (nothing, {"batch_size": 400}, r"\d+ sequences.*400"),
    "a truncated shard": (cut, {}, r"shard-00000\.tar"),
    "a changed byte": (change_a_byte, {}, r"shard-00000\.tar"),
    "a missing index": (remove_index, {}, r"train"),
    "a set made for other lengths": (
        nothing, {"lengths": [64, 32]}, r"lengths.*sptmod-dist shards build"),
    "another rate": (other_rate, {}, r"sample_rate 9000 Hz instead of 8000"),
    "an unknown key": (nothing, {"batch_sise": 4}, r"toy\.yaml.*batch_sise.*batch_size"),
    "a wrong type": (nothing, {"batch_size": "many"}, r"toy\.yaml.*batch_size.*many"),
    "a run that exists": (existing_run, {}, r"--resume.*--overwrite"),
    "another number of processes": (
        nothing, {"distributed": {"processes": 2}}, r"2 processes.*1 were"),
    "fp16 in the settings": (nothing, {"precision": "fp16"}, "float32"),
    "a validation set to train on": (
        train_on_validation, {}, r"data\.train is .*, a validation set: give a train set"),
    "a test set that is none": (
        nothing, {"data": {"test": "nowhere"}}, "nowhere is no folder"),
    "the folder around the sets": (
        nothing, {"data": {"train": "SHARDS"}}, r"holds the sets train, validation, test"),
    "no such set": (nothing, {"data": {"train": "nowhere"}}, "nowhere"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_training_that_cannot_be_is_refused_in_one_sentence(folder, case, capsys):
    prepare, changes, words = CASES[case]
    prepare(folder)
    capsys.readouterr()
    assert main(configure(folder, **changes)) == 2
    assert_one_sentence(capsys.readouterr().err, words)
    checkpoints = folder / "runs" / "toy" / "checkpoints"
    assert not checkpoints.exists() or not list(checkpoints.iterdir())


def assert_one_sentence(err: str, words: str) -> None:
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1 and "Traceback" not in err, err
    assert re.search(words, lines[0]), lines[0]


def test_an_existing_run_keeps_every_byte(folder, capsys):
    existing_run(folder)
    assert main(configure(folder)) == 2
    files = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == ["name: mine\n"]


@pytest.mark.parametrize("environment", [
    {"ACCELERATE_MIXED_PRECISION": "fp16"},
    {"ACCELERATE_USE_DEEPSPEED": "true"},
    {"ACCELERATE_USE_FSDP": "true"},
    {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"},
    {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
])
def test_what_a_launcher_asks_for_is_honoured_or_refused(folder, environment, monkeypatch, capsys):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert main(configure(folder)) == 2
    assert_one_sentence(capsys.readouterr().err, "the launcher asks for")


BUILDS = {
    "NaN in a recording": (spoil("train1-out.wav", with_nan), r"train1-out\.wav"),
    "a clipped recording": (spoil("train0-out.wav", clipped), r"train0-out\.wav.*clip"),
    "a control outside its range": (control_out_of_range, r"drive.*99"),
    "an unreadable recording": (
        lambda f: (f / "recordings" / "train0-in.wav").write_bytes(b"RIFF"), r"train0-in\.wav"),
    "a missing recording": (
        lambda f: (f / "recordings" / "train0-in.wav").unlink(), r"train0-in\.wav"),
    "pairs of different lengths": (
        spoil("train0-out.wav", lambda x: x[:, :-1]), r"train0"),
}


@pytest.mark.parametrize("case", BUILDS)
def test_recordings_that_cannot_be_learned_are_refused_and_no_set_appears(folder, case, capsys):
    prepare, words = BUILDS[case]
    prepare(folder)
    assert main(build(folder)) == 2
    assert_one_sentence(capsys.readouterr().err, words)
    out = folder / "built"
    assert not out.exists() or not list(out.iterdir())


def test_two_real_processes_refuse_alike_and_leave_at_once(folder):
    """Among them a batch that two processes do not divide, and a fault that one rank finds."""
    configure(folder, batch_size=3)
    result = torchrun(2, TRAIN, "--config", str(folder / "toy.yaml"), limit=60)
    assert result.returncode != 0
    assert result.stderr.count("sptmod-dist: error: ") == 1
    assert re.search(r"batch.*3.*2 processes.*2 or 4", result.stderr), result.stderr


def test_a_fault_that_one_rank_meets_ends_both_with_its_sentence(folder):
    change_a_byte(folder)
    configure(folder)
    result = torchrun(2, TRAIN, "--config", str(folder / "toy.yaml"), limit=60)
    assert result.returncode != 0
    assert result.stderr.count("sptmod-dist: error: ") == 1
    assert "shard-00000.tar" in result.stderr


def test_a_real_process_exits_with_2(folder):
    configure(folder, batch_size=400)
    result = run([sys.executable, TRAIN, "--config", str(folder / "toy.yaml")], limit=60)
    assert result.returncode == 2
    assert_one_sentence(result.stderr, "400")


