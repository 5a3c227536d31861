"""What TensorBoard plays and draws: true to the data and the model, once each, never in the way."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard_events import shown
from torch.utils.tensorboard import FileWriter
from toy import make_toy, toy_config

from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.infer.load import load_model
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.metrics import LevelCurve
from sptmod_dist.train import checkpoint, pictures
from sptmod_dist.train.config import to_yaml
from sptmod_dist.train.listening import Curves
from sptmod_dist.train.main import REQUEUE, train
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.showing import Showing
from sptmod_dist.train.trainer import Trainer

EXCERPTS = {"excerpts": 2, "excerpt_seconds": 0.05}
SAMPLES = 400
ONCE = ("input", "target")
EACH = ("prediction", "difference", "spectrograms", "gain")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("showing")
    train(make_toy(folder, name="whole", validation=EXCERPTS))
    return folder


@pytest.fixture
def sketched(monkeypatch):
    """Pictures that take no time, where it is not they that matter."""

    def sketch(tag, size, title, fill):
        picture = Summary.Image(width=1, height=1, encoded_image_string=title.encode())
        return Summary(value=[Summary.Value(tag=tag, image=picture)])

    monkeypatch.setattr(pictures, "_image", sketch)


def media(folder, name):
    """All but scalars."""
    events = shown(folder / "runs" / name)
    return {tag: seen for tag, seen in events.items() if not isinstance(seen[0][1], float)}


def steps(events):
    return {tag: [step for step, _ in seen] for tag, seen in events.items()}


def samples_of(audio):
    with wave.open(io.BytesIO(audio)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (8000, 2)
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert abs(values).max() <= 1
        return values


def test_every_best_validation_is_played_and_drawn_and_the_data_once(toy):
    seen, bests = steps(media(toy, "whole")), [18, 24]  # both are better than all before
    expected = {f"excerpt_{k}/{what}": [18] for k in range(2) for what in ONCE}
    expected |= {f"excerpt_{k}/{what}": bests for k in range(2) for what in EACH}
    assert seen == expected | {"level_curve": bests, "settings/text_summary": [0]}


def test_the_audio_is_the_datas_and_the_best_models(toy):
    events, model = media(toy, "whole"), load_model(toy / "runs" / "whole")
    items, matched = ShardSet.open(toy / "shards" / "validation"), []
    for k in range(2):
        played = {
            what: samples_of(events[f"excerpt_{k}/{what}"][-1][1])
            for what in (*ONCE, "prediction", "difference")
        }
        assert all(values.shape == (SAMPLES,) for values in played.values())
        for index in range(3):
            item = items.item(index)
            for start in range(0, item.output.shape[1] - SAMPLES + 1, 10):
                part = slice(start, start + SAMPLES)
                if abs(item.output[0, part] - played["target"]).max() < 2e-5:
                    matched.append((index, start))
                    break
        index, start = matched[k]
        item, part = items.item(index), slice(start, start + SAMPLES)
        assert abs(item.input[0, part] - played["input"]).max() < 2e-5
        x, controls = (torch.from_numpy(a)[None] for a in (item.input, item.controls))
        streamed = stream_whole(model.effect, x, controls)[0, 0, part].numpy()
        assert abs(streamed.clip(-1, 1) - played["prediction"]).max() < 2e-5
        difference = (streamed - item.output[0, part]).clip(-1, 1)
        assert abs(difference - played["difference"]).max() < 2e-5
    assert len({index for index, _ in matched}) == 2


def test_sounds_are_clipped_at_full_scale_and_have_all_channels():
    signal = np.array([[0.0, 3.0, -3.0, 0.5], [1.0, -1.0, 0.25, 0.0]])
    summary = pictures.audio("a/b", signal, 8000).value[0]
    assert (summary.tag, summary.audio.num_channels, summary.audio.length_frames) == ("a/b", 2, 4)
    played = samples_of(summary.audio.encoded_audio_string).reshape(4, 2).T
    np.testing.assert_allclose(played, signal.clip(-1, 1), atol=2e-5)


def test_pictures_are_pictures_of_their_size_and_the_settings_are_all_there(toy):
    events = media(toy, "whole")
    for tag, size in (
        ("excerpt_0/spectrograms", (1200, 440)),
        ("excerpt_1/gain", (1200, 400)),
        ("level_curve", (700, 600)),
    ):
        for _, png in events[tag]:
            assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == size
            assert len(png) < 100_000
    ((_, text),) = events["settings/text_summary"]
    config = to_yaml(toy_config(toy, name="whole", validation=EXCERPTS, precision="float32"))
    assert [line[4:] for line in text.splitlines()] == config.splitlines()


@pytest.mark.parametrize("stop", [18, 21])
def test_a_resumed_run_shows_what_an_uninterrupted_one_does(toy, monkeypatch, sketched, stop):
    name, learn = f"resumed{stop}", Trainer._learn

    def stopping(self, group):
        figures = learn(self, group)
        if self.progress.iteration + 3 == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return figures

    config = toy_config(toy, name=name, validation=EXCERPTS)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_learn", stopping)
        assert train(config) == REQUEUE
    assert train(config, resume="auto") == 0
    whole, resumed = media(toy, "whole"), media(toy, name)
    assert steps(resumed) == steps(whole)
    heard = [tag for tag in whole if tag.endswith((*ONCE, "prediction", "difference"))]
    assert len(heard) == 8 and all(resumed[tag] == whole[tag] for tag in heard)


def test_a_validation_that_is_repeated_after_a_lost_checkpoint_is_shown_once(
    toy, monkeypatch, sketched
):
    save = checkpoint.save

    def lost(folder, name, *rest):
        if name.endswith("24"):
            raise OSError(28, "No space left on device")
        return save(folder, name, *rest)

    config = toy_config(toy, name="repeated", validation=EXCERPTS)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="could not be written"):
        patch.setattr(checkpoint, "save", lost)
        train(config)
    assert train(config, resume="auto") == 0
    assert steps(media(toy, "repeated")) == steps(media(toy, "whole"))


def test_a_start_without_a_checkpoint_begins_anew_and_another_run_tells_its_own(
    toy, monkeypatch, sketched
):
    def dying(self, group):
        raise KeyError("a fault before any checkpoint")

    config = toy_config(toy, name="anew", validation=EXCERPTS)
    with monkeypatch.context() as patch, pytest.raises(Exception, match="a fault before any"):
        patch.setattr(Trainer, "_learn", dying)
        train(config)
    assert train(config, resume="auto") == 0
    assert steps(media(toy, "anew")) == steps(media(toy, "whole"))
    path = toy / "runs" / "whole" / "checkpoints" / "step-00000018"
    branch = toy_config(toy, name="branch", validation={**EXCERPTS, "excerpts": 1})
    assert train(branch, resume=str(path)) == 0
    seen = steps(media(toy, "branch"))
    assert seen.pop("settings/text_summary") == [18]
    assert seen["excerpt_0/target"] == [18] and seen["excerpt_0/gain"] == [18, 24]


def test_a_picture_that_cannot_be_drawn_is_said_and_hinders_nothing(toy, monkeypatch, capsys):
    def failing(*_):
        raise ZeroDivisionError("no such\ncolour")

    monkeypatch.setattr(pictures, "_image", failing)
    assert train(toy_config(toy, name="undrawn", validation=EXCERPTS)) == 0
    log = (toy / "runs" / "undrawn" / "logs" / "rank0.log").read_text()
    said = "nothing was drawn of iteration 24 (ZeroDivisionError: no such colour); training goes on"
    assert said in log
    assert set(media(toy, "undrawn")) == {"settings/text_summary"}


def test_a_full_disk_costs_superseded_pictures_and_no_more(toy, monkeypatch, sketched):
    add, show, is_full = FileWriter.add_summary, Showing.validation, []

    def adding(self, summary, step, *rest):
        if is_full:
            raise OSError(28, "No space left on device")
        return add(self, summary, step, *rest)

    def showing(self, iteration, is_best):
        if iteration == 18:
            is_full.append(True)
        show(self, iteration, is_best)
        if iteration == 24:
            is_full.clear()

    flush = Monitor.flush

    def flushing(self):
        return {} if is_full else flush(self)

    monkeypatch.setattr(FileWriter, "add_summary", adding)
    monkeypatch.setattr(Showing, "validation", showing)
    monkeypatch.setattr(Monitor, "flush", flushing)
    assert train(toy_config(toy, name="full", validation=EXCERPTS)) == 0
    whole, full = (shown(toy / "runs" / name) for name in ("whole", "full"))
    assert {tag: at for tag, at in steps(full).items() if isinstance(full[tag][0][1], float)} == {
        tag: at for tag, at in steps(whole).items() if isinstance(whole[tag][0][1], float)
    }
    whole, full = media(toy, "whole"), media(toy, "full")
    assert steps(full) == {
        tag: at if tag.endswith((*ONCE, "text_summary")) else [24]
        for tag, at in steps(whole).items()
    }
    for tag in (tag for tag in whole if "excerpt" in tag and tag.endswith((*ONCE, "prediction"))):
        assert full[tag][-1] == whole[tag][-1]


def test_without_excerpts_nothing_is_drawn_and_no_start_waits_for_matplotlib(toy):
    train(toy_config(toy, name="without"))
    assert set(media(toy, "without")) == {"settings/text_summary"}
    code = "import sys, sptmod_dist.train.main; assert 'matplotlib' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_each_setting_has_a_level_curve_however_alike_they_read():
    few, more = (LevelCurve(np.arange(n), np.arange(n)) for n in (3.0, 4.0))
    settings = [{"ratio": 4 + 1e-9}, {"ratio": 4 + 2e-9}, {"ratio": 4 + 1e-9}, {"ratio": 8}]
    items = [SimpleNamespace(id=str(n), settings=each) for n, each in enumerate(settings)]
    showing = Showing.__new__(Showing)
    showing._listener = SimpleNamespace(items=SimpleNamespace(items=items))
    curves = {n: Curves(each, each) for n, each in enumerate((few, few, more, few))}
    named = showing._by_setting(curves)
    assert list(named) == ["1: ratio 4", "2: ratio 4", "ratio 8"]
    assert list(named.values()) == [curves[2], curves[1], curves[3]]  # the most levels of each


def test_names_from_anywhere_are_no_formulas():
    curve = LevelCurve(np.arange(3.0), np.arange(3.0))
    curves = {"a $1_$ b": Curves(curve, curve)}
    assert pictures.level_curves("level_curve", curves).value
