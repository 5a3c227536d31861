"""Two files are enough: from a pair to a run that renders; interrupted, repeated, refused."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from processes import run

from sptmod_dist import audio, cli
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.fit import launch
from sptmod_dist.fit.main import fit
from sptmod_dist.infer.render import render
from sptmod_dist.train import main as training
from sptmod_dist.train.config import StoppingConfig, TrainConfig
from sptmod_dist.train.options import parse_train
from sptmod_dist.train.run_folder import RunFolder
from tests.fit.pairs import RATE, compress, small_config, write_pair, write_settings

pytestmark = pytest.mark.system  # trainings in processes
HERE = [sys.executable, "-m", "sptmod_dist"]


class Launched:
    """Stands for the processes of a training, which runs in this one; remembers how often."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def watch(self, arguments, variables, run) -> None:
        options = parse_train(arguments[arguments.index("train") + 1 :])
        self.ends.append(options.config.stopping.max_iterations)
        if training.train(options.config, options.resume):
            raise UserError("stopped")


@pytest.fixture
def launched(monkeypatch):
    stand_in = Launched()
    monkeypatch.setattr(launch, "watch", stand_in.watch)
    return stand_in


def one_process() -> TrainConfig:
    config = small_config()
    return replace(config, distributed=replace(config.distributed, processes=1))


def unlimited() -> TrainConfig:
    return replace(one_process(), stopping=StoppingConfig())


def quietly(*arguments, **options):
    lines: list[str] = []
    fit(*arguments, say=lines.append, **options)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A pair that came out 37 samples late, and its fit, made by the command in processes."""
    folder = tmp_path_factory.mktemp("fitted")
    pair = write_pair(folder, seconds=41, delay=37)
    settings = write_settings(folder)
    done = run(
        [*HERE, "fit", "dry.wav", "wet.wav", f"--config={settings}", "--distributed.processes=1"],
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder, pair, done.stdout


def test_a_fit_tells_what_was_learned_beside_the_best_volume_knob(fitted):
    folder, _, words = fitted
    assert "best static gain" in words and "level in, dB" in words
    assert "sptmod-dist render fits/wet/run YOURS.wav OUT.wav" in words
    assert (folder / "fits/wet/run/evaluation/level_curve.png").is_file()
    report = json.loads((folder / "fits/wet/check/report.json").read_text())
    assert [round(take["latency"]) for take in report["takes"]] == [37]
    assert (folder / "fits/wet/check/picture.png").is_file()
    assert words.rstrip().endswith((folder / "fits/wet/learned.txt").read_text().rstrip())


def test_what_a_fit_leaves_is_a_run_that_renders(fitted, tmp_path):
    folder, (dry, _), _ = fitted
    out = tmp_path / "out.wav"
    assert cli.main(["render", str(folder / "fits/wet/run"), str(dry), str(out)]) == 0
    assert audio.info(out).frames == audio.info(dry).frames


def test_the_pieces_are_aligned_and_are_the_device_at_work(fitted):
    folder, (dry, _), _ = fitted
    source = audio.read(dry)[0]
    expected = audio.remove_dc(compress(source))
    pieces = sorted((folder / "fits/wet/recordings").glob("*-dry.wav"))
    assert pieces
    for path in pieces:
        inside = audio.read(path)[0]
        outside = audio.read(path.with_name(path.name.replace("-dry", "-wet")))[0]
        start = int(np.argmax(np.correlate(source[0], inside[0, :800], "valid")))
        there = expected[:, start : start + inside.shape[1]]
        assert np.array_equal(inside, source[:, start : start + inside.shape[1]])
        assert np.abs(outside - there).max() < 1e-3  # but for the offset that was taken out


def test_examples_are_the_test_pieces_through_the_model(fitted, tmp_path):
    folder = fitted[0] / "fits/wet"
    names = sorted(path.stem for path in (folder / "recordings").glob("test-*-dry.wav"))
    examples = sorted((folder / "examples").glob("*.wav"))
    assert [path.stem.replace("-model", "-dry") for path in examples] == names
    for path in examples:
        source = folder / "recordings" / path.name.replace("-model", "-dry")
        render(folder / "run", source, tmp_path / path.name, {})
        assert np.array_equal(audio.read(path)[0], audio.read(tmp_path / path.name)[0])


def test_a_second_call_says_that_it_is_done_and_trains_nothing(fitted, launched):
    folder, pair, _ = fitted
    again = quietly(*pair, folder / "fits/wet", one_process())
    assert "is done" in again and "best static gain" in again
    assert launched.ends == []


def test_a_fit_that_was_stopped_goes_on_where_it_stands(tmp_path, launched, monkeypatch):
    pair, out = write_pair(tmp_path), tmp_path / "fit"

    def stop(*_):
        raise KeyboardInterrupt

    told: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(launch, "watch", stop)
        fit(*pair, out, one_process(), say=told.append)
    assert "the same command goes on" in told[-1]
    written = {path: path.stat().st_mtime_ns for path in out.glob("recordings/*")}
    assert written and not (out / "learned.txt").exists()
    assert "best static gain" in quietly(*pair, out, one_process())
    assert {path: path.stat().st_mtime_ns for path in out.glob("recordings/*")} == written
    assert launched.ends == [8]


def test_minutes_become_iterations_by_the_speed_and_more_of_them_go_on(
    tmp_path, launched, monkeypatch
):
    monkeypatch.setattr("sptmod_dist.fit.training.REHEARSAL", 4)
    pair, out = write_pair(tmp_path), tmp_path / "fit"
    config = unlimited()
    monkeypatch.setattr(
        "sptmod_dist.fit.folder.FitFolder.note_speed",
        lambda folder, seconds: folder._write(folder._read() | {"seconds_per_iteration": 0.5}),
    )
    quietly(*pair, out, config, minutes=0.1)
    assert launched.ends == [4, 12]
    assert "is done" in quietly(*pair, out, config, minutes=0.1)
    quietly(*pair, out, config, minutes=0.15)
    assert launched.ends == [4, 12, 18]
    assert RunFolder(out / "run").summary()["iterations"] == 18


def test_the_speed_is_measured_without_the_time_that_starting_takes(tmp_path, launched):
    pair, out = write_pair(tmp_path), tmp_path / "fit"
    folder = fit(*pair, out, one_process(), say=lambda line: None)
    assert 0 < folder.seconds_per_iteration < 2


def at_another_rate(dry: Path, wet: Path) -> None:
    audio.write(wet, audio.read(wet)[0], 9600, "FLOAT")


def silent(dry: Path, wet: Path) -> None:
    audio.write(wet, np.zeros((1, 30 * RATE), np.float32), RATE, "FLOAT")


def of_two_devices(dry: Path, wet: Path) -> None:
    samples = audio.read(wet)[0]
    audio.write(wet, np.concatenate([samples, 9 * samples**3]), RATE, "FLOAT")


def short(dry: Path, wet: Path) -> None:
    write_pair(dry.parent, seconds=4)


def gone(dry: Path, wet: Path) -> None:
    wet.unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(at_another_rate, "8000 Hz and the wet 9600 Hz"), (silent, "wet.wav cannot .* silent"),
     (of_two_devices, "2 channels that differ"), (short, r"needs [\d.]+ s to learn"),
     (gone, "does not exist")],
)  # fmt: skip
def test_a_pair_that_is_unfit_is_refused_in_words_and_leaves_nothing(
    tmp_path, launched, spoil, words
):
    pair, out = write_pair(tmp_path), tmp_path / "fit"
    spoil(*pair)
    with pytest.raises(UserError, match=words):
        quietly(*pair, out, one_process())
    assert not out.exists() and launched.ends == []


def test_the_same_file_twice_is_refused(tmp_path):
    dry, _ = write_pair(tmp_path)
    with pytest.raises(UserError, match="given twice"):
        quietly(dry, tmp_path / "." / "dry.wav", tmp_path / "fit", one_process())


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_something_else_is_not_touched(tmp_path, overwrite):
    pair, out = write_pair(tmp_path), tmp_path / "fit"
    (out / "recordings").mkdir(parents=True)
    (out / "recordings" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="something else than a fit"):
        quietly(*pair, out, one_process(), overwrite=overwrite)
    assert (out / "recordings" / "mine.txt").read_text() == "precious"


def test_a_fit_of_other_files_or_settings_is_replaced_only_on_request(
    fitted, tmp_path, launched
):
    folder, pair, _ = fitted
    out = shutil.copytree(folder / "fits/wet", tmp_path / "fit")
    kept = (out / "learned.txt").read_text()
    other = tmp_path / "other.wav"
    audio.write(other, 0.5 * audio.read(pair[1])[0], RATE, "FLOAT")
    with pytest.raises(UserError, match="made of other files"):
        quietly(pair[0], other, out, one_process())
    changed = replace(one_process(), seed=5)
    with pytest.raises(UserError, match="seed was 0 and is 5"):
        quietly(*pair, out, changed)
    assert (out / "learned.txt").read_text() == kept and launched.ends == []
    (out / "notes of mine.txt").write_text("kept")
    quietly(pair[0], other, out, changed, overwrite=True)
    assert launched.ends == [8] and (out / "notes of mine.txt").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--name=x"], "name is given as x"), (["--data.train=x"], "data.train is given as x"),
     (["--model.n_params=2"], "model.n_params is given as 2"),
     (["--minutes=0"], "--minutes is 0"), (["--minutes=-1"], "--minutes is -1"),
     (["--out="], "--out is empty"), (["--mintes=3"], "did you mean --minutes"),
     (["--model.input_channels=2"], "the recordings have 1")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path, monkeypatch, capsys, options, words
):
    write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["fit", "dry.wav", "wet.wav", "--config", str(write_settings(tmp_path)),
                     *options]) == 2  # fmt: skip
    assert words in capsys.readouterr().err
    assert not (tmp_path / "fits").exists()


@pytest.mark.parametrize(("given", "missing"), [([], "dry, wet"), (["dry.wav"], "wet")])
def test_a_file_that_is_missing_on_the_command_line_is_named(capsys, given, missing):
    assert cli.main(["fit", *given]) == 2
    assert f"arguments are required: {missing}; see --help" in capsys.readouterr().err


def test_stereo_is_learned_as_stereo(tmp_path, launched):
    dry, wet = write_pair(tmp_path)
    for path in (dry, wet):
        samples = audio.read(path)[0]
        both = np.concatenate([samples, -0.5 * samples])
        audio.write(path, both, RATE, "FLOAT")
    folder = fit(dry, wet, tmp_path / "fit", one_process(), say=lambda line: None)
    assert ShardSet.open(folder.shards / "train").geometry.input_channels == 2
    assert audio.info(next(folder.examples.glob("*.wav"))).channels == 2
