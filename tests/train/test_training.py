"""A training on one process: resumed = uninterrupted, and everything a run leaves behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import fields

import pytest
import torch
from processes import ROOT, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from toy import make_toy, toy_config, write_config

from sptmod_dist.data.order import epoch_order
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import MOMENT_NAMES
from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.interrupt import Interrupt
from sptmod_dist.train.keeper import Keeper
from sptmod_dist.train.main import REQUEUE, train
from sptmod_dist.train.resume import differences
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.trainer import Trainer
from sptmod_dist.train.validation import Validator

LAUNCH = [sys.executable, str(ROOT / "launch" / "train.py")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    train(make_toy(folder, name="whole"))
    return folder


def last(folder, name):
    return RunFolder(folder / "runs" / name).last_checkpoint()[1]


def scalars(folder, name):
    events = EventAccumulator(str(folder / "runs" / name / "tensorboard"))
    events.Reload()
    return {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def shown(folder, name):
    """Every scalar with its step, but for those that tell the time."""
    events = EventAccumulator(str(folder / "runs" / name / "tensorboard"))
    events.Reload()
    tags = [t for t in events.Tags()["scalars"] if not t.startswith(("speed/", "time/"))]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def assert_same_end(folder, a, b):
    one, two = last(folder, a), last(folder, b)
    for ours, theirs in ((one.weights, two.weights), (one.moments, two.moments)):
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.state["progress"] == two.state["progress"]


def test_a_run_holds_what_the_guide_says(toy):
    run_folder = toy / "runs" / "whole"
    assert {path.name for path in run_folder.iterdir()} == {
        ".lock",
        "config.yaml",
        "tensorboard",
        "checkpoints",
        "logs",
        "metrics.jsonl",
        "summary.json",
        "status.json",
    }
    summary = json.loads((run_folder / "summary.json").read_text())
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    best = min(lines, key=lambda line: line["st"]["total"])
    assert summary["iterations"] == 24
    assert (summary["best_iteration"], summary["best_st"]) == (
        best["iteration"], best["st"]["total"]
    )
    names = {path.name for path in (run_folder / "checkpoints").iterdir()}
    assert names == {"step-00000018", "step-00000024", f"best-{best['iteration']:08d}"}


def test_tensorboard_gets_every_figure_that_the_guide_names(toy):
    tags = set(scalars(toy, "whole"))
    terms = ("mae", "esr", "mr_stft", "mr_eesr", "total")
    assert tags >= {f"train/{term}" for term in terms}
    assert tags >= {f"train_by_sub_sequence/{term}/{i}" for term in terms for i in range(3)}
    assert tags >= {f"validation_{way}/{t}" for way in ("wt", "st", "st_whole") for t in terms}
    assert tags >= {
        "optimizer/learning_rate",
        "optimizer/gradient_norm_effect",
        "optimizer/gradient_norm_spn",
        "speed/iterations_per_second",
        "speed/audio_seconds_per_second",
        "time/share_waiting_for_data",
        "time/share_in_validation",
    }


@pytest.mark.parametrize("stops", [(3, 12), (9, 21), (18, 24)])
def test_resumed_equals_uninterrupted_bit_for_bit(toy, monkeypatch, stops):
    """Two stops by a signal: in the middle of epochs, at an epoch's end, at the very end.

    A record of TensorBoard is the mean of three groups here: stops come between its groups too.
    """
    name, coarse = f"resumed{stops[0]}", {"every": 7}
    if not (toy / "runs" / "coarse").exists():
        train(toy_config(toy, name="coarse", monitor=coarse))
    config = toy_config(toy, name=name, monitor=coarse)
    learn = Trainer._learn
    for stop in stops:
    
        def stopping(self, group, stop=stop):
            figures = learn(self, group)
            if self.progress.iteration + 3 == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return figures

        monkeypatch.setattr(Trainer, "_learn", stopping)
        assert train(config, resume="auto") == REQUEUE
        assert last(toy, name).state["progress"]["iteration"] == stop
    monkeypatch.setattr(Trainer, "_learn", learn)
    assert train(config, resume="auto") == 0
    assert_same_end(toy, "whole", name)
    assert shown(toy, name) == shown(toy, "coarse")
    assert scalars(toy, name)["speed/iterations_per_second"] == [9, 18]
    metrics = [(toy / "runs" / n / "metrics.jsonl").read_text() for n in ("whole", name)]
    assert metrics[0] == metrics[1]


def test_a_stop_within_a_validation_waits_for_no_more_than_an_item(toy, monkeypatch):
    item, begun = Validator._item, []

    def asking(self, networks, index, alive):
        begun.append(index)
        os.kill(os.getpid(), signal.SIGUSR1)
        return item(self, networks, index, alive)

    config = toy_config(toy, name="within")
    monkeypatch.setattr(Validator, "_item", asking)
    assert train(config, resume="auto") == REQUEUE
    assert begun == [0] and RunFolder(toy / "runs" / "within").status()["state"] == "preempted"
    assert last(toy, "within").state["progress"]["validated_at"] == 0
    monkeypatch.undo()
    assert train(config, resume="auto") == 0
    assert_same_end(toy, "whole", "within")
    assert shown(toy, "within") == shown(toy, "whole")


def test_a_run_says_how_it_stands(toy, monkeypatch):
    run, states = RunFolder(toy / "runs" / "says"), []
    write = RunFolder.write_status
    monkeypatch.setattr(
        RunFolder, "write_status", lambda self, s: (states.append(s["state"]), write(self, s))
    )
    learn = Trainer._learn

    def stopping(self, group):
        if self.progress.iteration == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        assert run.lock.in_use
        return learn(self, group)

    monkeypatch.setattr(Trainer, "_learn", stopping)
    assert train(toy_config(toy, name="says")) == REQUEUE
    assert states == ["running", "running", "preempted"] and not run.lock.in_use
    assert (run.path / "requeue").exists()
    first = run.status()
    assert (first["iteration"], first["best_st"], first["processes"]) == (12, None, 1)
    monkeypatch.setattr(Trainer, "_learn", learn)
    assert train(toy_config(toy, name="says"), resume="auto") == 0
    assert not (run.path / "requeue").exists()
    assert run.status()["state"] == "finished" and run.status()["seconds"] > first["seconds"]
    assert run.status()["best_st"] == run.summary()["best_st"]


def test_checkpoints_come_by_groups_and_stay_by_epochs(toy):
    keeping = {"groups": 2, "keep": 3, "keep_epochs": 1}
    train(toy_config(toy, name="kept", checkpoint=keeping, stopping={"max_iterations": 42}))
    names = [path.name for path in (toy / "runs" / "kept" / "checkpoints").iterdir()]
    steps = [name for name in sorted(names) if name.startswith("step")]
    assert [name for name in sorted(names) if name.startswith("epoch")] == [
        "epoch-00000018", "epoch-00000036"
    ]
    assert steps == ["step-00000030", "step-00000036", "step-00000042"]
    assert len([name for name in names if name.startswith("best")]) == 1


def test_a_resume_with_other_settings_is_refused_with_all_of_them_or_forced(toy, capsys):
    changes = {"optimizer": {"learning_rate": 1e-3, "clip_norm": 1.0}}
    train(toy_config(toy, name="forced", stopping={"max_iterations": 9}))
    asked = toy_config(toy, name="forced", **changes)
    sentence = "optimizer.clip_norm was None and is 1.0; optimizer.learning_rate was 0.002 and is"
    with pytest.raises(UserError, match=f"{sentence}.*--force-resume"):
        train(asked, resume="auto")
    assert train(asked, resume="auto", force=True) == 0
    assert sentence in capsys.readouterr().err
    assert last(toy, "forced").state["config"]["optimizer"]["clip_norm"] == 1.0
    best = RunFolder(toy / "runs" / "forced").best_checkpoint()[0]
    assert checkpoint.iteration_of(best) > 9, "its own losses count"


LEARNED = {
    "seed", "deterministic", "precision", "lengths", "batch_size", "model", "optimizer", "loss",
}  # fmt: skip
"""The settings that change what is learned."""


def test_every_setting_is_free_at_a_resume_or_refused():
    config = {field.name: 1 for field in fields(TrainConfig)}
    for key in config:
        changed = {"config": {**config, key: 2}, "data": {}}
        found = list(differences({"config": config, "data": {}}, changed))
        assert found == ([f"{key} was 1 and is 2"] if key in LEARNED else []), key


def test_a_stream_is_another_order_of_the_data(toy):
    config = toy_config(toy, name="whole", data={"stream": True, "stream_buffer": 4})
    with pytest.raises(UserError, match="data.stream_buffer was None and is 4.*--force-resume"):
        train(config, resume="auto")


def test_what_stays_for_good_is_written_before_what_a_resume_goes_on_from(toy, monkeypatch):
    """Killed in between, the run would never write it: its epoch has ended."""
    written, write = [], Keeper.write

    def noting(keeper, kind, *rest):
        written.append(kind)
        write(keeper, kind, *rest)

    monkeypatch.setattr(Keeper, "write", noting)
    train(toy_config(toy, name="stays", checkpoint={"groups": 1, "keep_epochs": 1}))
    assert written.count("epoch") == 1 and written[written.index("epoch") + 1] == "step"


def test_a_finished_run_is_reported_and_not_trained_again(toy, capsys):
    before = {p: p.stat().st_mtime_ns for p in (toy / "runs" / "whole").rglob("*") if p.is_file()}
    assert train(toy_config(toy, name="whole"), resume="auto") == 0
    after = {p: p.stat().st_mtime_ns for p in (toy / "runs" / "whole").rglob("*") if p.is_file()}
    assert before == after and "is finished" in capsys.readouterr().err


def test_a_finished_run_goes_on_when_more_iterations_are_asked_for(toy):
    config = toy_config(toy, name="longer", stopping={"max_iterations": 12})
    assert train(config) == 0
    assert train(toy_config(toy, name="longer"), resume="auto") == 0
    assert_same_weights(toy, "whole", "longer")


def assert_same_weights(folder, a, b):
    one, two = last(folder, a).weights, last(folder, b).weights
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_another_training_is_not_resumed_and_every_difference_is_named(toy):
    config = toy_config(toy, name="whole", batch_size=2, optimizer={"learning_rate": 1e-3})
    with pytest.raises(UserError, match=r"batch_size was 4 and is 2.*learning_rate was 0.002"):
        train(config, resume="auto")


def test_the_number_of_reading_workers_changes_nothing(toy):
    train(toy_config(toy, name="workers", data={"workers": 2}))
    assert_same_end(toy, "whole", "workers")


def test_each_epoch_takes_every_group_of_its_own_order_once(toy, monkeypatch):
    groups, learn = [], Trainer._learn

    def noting(self, group):
        groups.append((group.epoch, group.index, group.sequence_ids))
        return learn(self, group)

    monkeypatch.setattr(Trainer, "_learn", noting)
    config = toy_config(toy, name="order", stopping={"max_iterations": 54})
    train(config)
    n = RunFolder(toy / "runs" / "order").last_checkpoint()[1].state["progress"]
    assert (n["epoch"], n["group"]) == (2, 6)
    assert [(epoch, index) for epoch, index, _ in groups] == [
        (epoch, index) for epoch in range(3) for index in range(6)
    ]
    n_sequences = ShardSet.open(config.data.train).n_sequences
    for epoch in range(3):
        ids = [i for e, _, batch in groups if e == epoch for i in batch]
        assert ids == epoch_order(n_sequences, config.seed, epoch)[:24].tolist()


def test_training_lowers_the_streamed_loss(toy):
    lines = (toy / "runs" / "whole" / "metrics.jsonl").read_text().splitlines()
    first, end = (json.loads(line)["st"]["total"] for line in (lines[0], lines[-1]))
    assert end < 0.9 * first


def test_early_stopping_counts_iterations_without_a_better_streamed_loss(toy):
    config = toy_config(
        toy,
        name="early",
        optimizer={"learning_rate": 1e-12},  # nothing changes, so nothing improves
        stopping={"max_iterations": 300, "patience": 30},
        validation={"every": 1},
    )
    assert train(config) == 0
    progress = last(toy, "early").state["progress"]
    assert 30 <= progress["iteration"] - progress["best_iteration"] <= 30 + 18
    assert progress["iteration"] < 300


def poison(monkeypatch, *groups):
    """Make the loss of some groups infinite in the last iteration: two steps are done by then."""
    learn = Trainer._learn

    def learning(self, group):
        terms, norms = learn(self, group)
        if (group.epoch, group.index) in groups:
            with torch.no_grad():
                self.engine.effect.blocks[0].conv.conv.weight.fill_(float("nan"))
            terms[:, -1] = float("inf")
        return terms, norms

    monkeypatch.setattr(Trainer, "_learn", learning)


def test_a_group_that_is_not_finite_is_undone_saved_and_can_be_skipped_later(toy, monkeypatch):
    poison(monkeypatch, (0, 2))
    config = toy_config(toy, name="diverged")
    where = "loss of rank 0 is not finite at iteration 9 .epoch 0, group 2.*00006: continue with"
    with pytest.raises(UserError, match=where):
        train(config)
    stopped = last(toy, "diverged")
    assert stopped.state["progress"]["iteration"] == 6 and stopped.state["progress"]["group"] == 2
    train(toy_config(toy, name="until6", stopping={"max_iterations": 6}))
    assert_same_weights(toy, "diverged", "until6")
    skipping = {"non_finite": "skip"}
    assert train(toy_config(toy, name="diverged", stopping=skipping), resume="auto") == 0
    assert train(toy_config(toy, name="skipped", stopping=skipping)) == 0
    assert_same_weights(toy, "diverged", "skipped")
    assert last(toy, "skipped").state["progress"] | {"best": 0} == {
        **last(toy, "whole").state["progress"], "best": 0, "epoch": 1, "group": 3
    }


def test_too_many_skipped_groups_in_a_row_stop_all_the_same(toy, monkeypatch):
    poison(monkeypatch, (0, 1), (0, 3), (0, 4), (0, 5))
    config = toy_config(toy, name="hopeless", stopping={"non_finite": "skip", "skips": 3})
    with pytest.raises(UserError, match="epoch 0, group 5., as in 3 groups in a row"):
        train(config)
    assert last(toy, "hopeless").state["progress"]["skipped"] == 2


def test_a_full_disk_loses_a_checkpoint_and_not_the_training(toy, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    monkeypatch.setattr(logging.FileHandler, "flush", full)
    with pytest.raises(UserError, match="the training is done, but best-0.* No space left"):
        train(toy_config(toy, name="full"))
    run = RunFolder(toy / "runs" / "full")
    assert run.status()["state"] == "failed" and run.summary() is None
    monkeypatch.undo()
    assert train(toy_config(toy, name="full"), resume="auto") == 0
    assert_same_end(toy, "whole", "full")


def test_iterations_that_are_repeated_after_a_lost_checkpoint_are_shown_once(toy, monkeypatch):
    save = checkpoint.save

    def full_later(folder, name, *rest):
        if name.endswith("24"):
            raise OSError(28, "No space left on device")
        return save(folder, name, *rest)

    monkeypatch.setattr(checkpoint, "save", full_later)
    config = toy_config(toy, name="repeated")
    with pytest.raises(UserError, match="step-00000018: continue with --resume auto"):
        train(config)
    monkeypatch.undo()
    assert last(toy, "repeated").state["progress"]["iteration"] == 18
    assert train(config, resume="auto") == 0
    assert_same_end(toy, "whole", "repeated")
    assert scalars(toy, "repeated") == scalars(toy, "whole")
    metrics = [(toy / "runs" / n / "metrics.jsonl").read_text() for n in ("whole", "repeated")]
    assert metrics[0] == metrics[1]


def test_a_validation_that_no_checkpoint_knows_of_is_shown_once(toy, monkeypatch):
    """A kill between TensorBoard's flush and the checkpoint of a validation."""
    settings = {"name": "between", "checkpoint": {"groups": 1}}
    save = Trainer._save

    def killed(self, kind):
        if self.progress.iteration == 18 == self.progress.validated_at:
            self.monitor.flush()
            raise GeneratorExit  # nobody catches it
        save(self, kind)

    monkeypatch.setattr(Trainer, "_save", killed)
    with pytest.raises(GeneratorExit):
        train(toy_config(toy, **settings))
    monkeypatch.undo()
    assert last(toy, "between").state["progress"]["iteration"] == 18
    assert train(toy_config(toy, **settings), resume="auto") == 0
    assert shown(toy, "between") == shown(toy, "whole")
    metrics = [(toy / "runs" / n / "metrics.jsonl").read_text() for n in ("whole", "between")]
    assert metrics[0] == metrics[1]


def test_a_line_that_a_kill_cut_does_not_hinder_a_resume(toy):
    config = toy_config(toy, name="cut", stopping={"max_iterations": 12})
    train(config)
    with open(toy / "runs" / "cut" / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 3')
    assert train(toy_config(toy, name="cut"), resume="auto") == 0
    lines = (toy / "runs" / "cut" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [12, 18, 24]


def test_a_checkpoint_of_another_run_starts_a_new_run_with_a_best_of_its_own(toy):
    step = RunFolder(toy / "runs" / "whole").last_checkpoint()[0]
    config = toy_config(toy, name="branch", stopping={"max_iterations": 30})
    assert train(config, resume=str(step)) == 0
    assert RunFolder(toy / "runs" / "branch").best_checkpoint()[0].name == "best-00000030"
    with pytest.raises(UserError, match="another run than that of .*stands at iteration 30"):
        train(config, resume=str(step))


def test_a_best_checkpoint_that_is_gone_is_made_again(toy):
    config = toy_config(toy, name="bestless", stopping={"max_iterations": 12})
    train(config)
    folder = RunFolder(toy / "runs" / "bestless")
    shutil.rmtree(folder.best_checkpoint()[0])
    assert train(toy_config(toy, name="bestless"), resume="auto") == 0
    assert folder.best_checkpoint()[1].state["progress"]["best_iteration"] in (18, 24)


def test_damaged_newest_checkpoints_cost_what_came_after_the_last_whole_one_and_no_more(
    toy, capsys
):
    train(toy_config(toy, name="damaged"))
    folder = RunFolder(toy / "runs" / "damaged")
    newest = sorted(folder.checkpoints.glob("*24"))
    assert [path.name for path in newest] == ["best-00000024", "step-00000024"]
    (newest[1] / "state.json").write_text("{}")
    assert folder.last_checkpoint()[0] == newest[0], "the best one is as good a place to go on from"
    (newest[0] / "weights.safetensors").write_text("")
    assert folder.last_checkpoint()[0].name == "step-00000018"
    assert train(toy_config(toy, name="damaged"), resume="auto") == 0
    assert "set aside: step-00000024, best-00000024" in capsys.readouterr().err
    assert_same_weights(toy, "whole", "damaged")
    assert folder.best_checkpoint()[0].name == "best-00000024"


def test_a_validation_that_is_not_finite_saves_nothing(toy, monkeypatch):
    monkeypatch.setattr(Validator, "_item", lambda *_: [float("nan")] * 15)
    with pytest.raises(UserError, match="validation loss is not finite at iteration 18"):
        train(toy_config(toy, name="nan"))
    assert RunFolder(toy / "runs" / "nan").last_checkpoint() is None


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: c.weights.pop("effect.blocks.0.conv.conv.bias"), "has no parameter effect.blocks.0"),
    (lambda c: c.weights.update({"effect.blocks.0.conv.conv.bias": torch.zeros(1)}), "is .1,."),
    (lambda c: c.moments.clear(), "moments"),
    (lambda c: c.moments.pop("effect.blocks.0.conv.conv.bias.step"), "moments"),
    (lambda c: [c.moments.pop(f"spn.to_states.bias.{e}") for e in MOMENT_NAMES], "moments of spn"),
    (lambda c: c.state["progress"].pop("group"), "progress.group is missing"),
    (lambda c: c.state["progress"].update(group=99), "progress.group is past"),
    (lambda c: c.state["progress"].update(group="x"), "progress.group is 'x'"),
    (lambda c: c.state["progress"].update(more=1), "progress.more is unknown"),
])
def test_a_forged_checkpoint_is_refused_by_what_is_wrong(toy, tmp_path, change, message):
    forged = last(toy, "whole")
    change(forged)
    path = checkpoint.save(tmp_path, "step-00000024", forged)
    with pytest.raises(UserError, match=message):
        train(toy_config(toy, name="forged"), resume=str(path))
    assert not (toy / "runs" / "forged").exists()


def test_a_second_control_c_that_comes_later_stops_at_once():
    given = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = Interrupt()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # what a launcher sends on the heels of the first
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked_at is not None
        interrupt.asked_at -= 2
        for again in (signal.SIGTERM, signal.SIGUSR1):  # never a reason to lose a group
            os.kill(os.getpid(), again)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        interrupt.release()
    assert signal.signal(signal.SIGINT, given) is signal.default_int_handler


def test_control_c_ends_with_a_checkpoint_and_the_code_to_requeue(toy):
    path = write_config(toy, name="interrupted", stopping={"max_iterations": 100_000})
    done = []
    thread = threading.Thread(target=lambda: done.append(
        run([*LAUNCH, "--config", str(path)], limit=60)
    ))
    thread.start()
    log = toy / "runs" / "interrupted" / "metrics.jsonl"
    deadline = time.monotonic() + 40
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    pids = [p for p in os.listdir("/proc") if p.isdigit() and _is_ours(p, str(path))]
    for pid in pids:
        os.kill(int(pid), signal.SIGINT)
    thread.join()
    assert done[0].returncode == REQUEUE, done[0].stderr
    assert "continue with --resume auto" in done[0].stderr
    assert last(toy, "interrupted").state["progress"]["iteration"] > 0


def _is_ours(pid, argument):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return argument in file.read().split("\0")
    except OSError:
        return False


def test_all_that_a_checkpoint_counts_as_shown_is_on_the_disk_with_it(toy, monkeypatch):
    """A kill right after it would lose what a writer still holds."""
    steps = []
    write = Keeper.write

    def writing(self, kind, iteration, saved):
        steps.append((iteration, max(scalars(toy, "flushed")["train/total"])))
        write(self, kind, iteration, saved)

    monkeypatch.setattr(Keeper, "write", writing)
    assert train(toy_config(toy, name="flushed", checkpoint={"groups": 1})) == 0
    assert len(steps) >= 8 and all(iteration == shown for iteration, shown in steps)


def resaved(toy, name, other, change):
    """The newest checkpoint of a run, changed, as another run's only one."""
    path, saved = RunFolder(toy / "runs" / name).last_checkpoint()
    change(saved.state)
    shutil.copytree(toy / "runs" / name, toy / "runs" / other)
    run = RunFolder(toy / "runs" / other)
    for old in run.all_checkpoints():
        if not old.name.startswith("best"):
            checkpoint.remove(old)
    (run.path / "summary.json").unlink()
    checkpoint.save(run.checkpoints, path.name, saved)
    return run


def test_after_a_forced_resume_the_old_records_count_for_nothing(toy):
    def unbeatable(state):
        state["progress"].update(best=-1.0, best_iteration=24)

    run = resaved(toy, "whole", "records", unbeatable)
    assert run.has_best(24)
    config = toy_config(toy, name="records", seed=4, stopping={"max_iterations": 42})
    assert train(config, resume="auto", force=True) == 0
    assert run.summary()["best_st"] > 0


def test_a_forced_resume_with_other_sub_sequences_begins_its_means_anew(toy, tmp_path):
    make_toy(tmp_path, lengths=[64, 32])
    train(toy_config(toy, name="means", monitor={"every": 1000}))
    path, _ = RunFolder(toy / "runs" / "means").last_checkpoint()
    config = {"name": "two", "lengths": [64, 32], "stopping": {"max_iterations": 36}}
    assert train(toy_config(tmp_path, **config), resume=str(path), force=True) == 0


def test_seconds_go_on_over_all_starts(toy):
    run = resaved(toy, "whole", "seconds", lambda state: state.update(seconds=5000.0))
    config = toy_config(toy, name="seconds", stopping={"max_iterations": 30})
    assert train(config, resume="auto") == 0
    assert 5000 < run.status()["seconds"] < 5060
    assert 5000 < run.last_checkpoint()[1].state["seconds"] < 5060


@pytest.mark.parametrize("shown", [
    {"groups": 2, "at": 3, "sum": [1.0], "record": {"a": 10**400}},
    {"groups": 2, "at": 3, "sum": [[1.0], [1.0, 2.0]], "record": {}},
    {"groups": 2, "at": 3, "sum": [[1.0, 2.0]], "record": {}, "told": {"a": ["b", "x"]}},
])
def test_what_was_shown_may_be_damaged(toy, shown):
    name = f"shown{len(str(shown))}"
    resaved(toy, "whole", name, lambda saved: saved.update(shown=shown))
    config = toy_config(toy, name=name, stopping={"max_iterations": 30})
    assert train(config, resume="auto") == 0


def test_one_bad_byte_in_the_metrics_costs_its_line(toy):
    run = resaved(toy, "whole", "badbyte", lambda state: None)
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    run.metrics.write_bytes(b"\xff" + b"".join(lines))
    config = toy_config(toy, name="badbyte", stopping={"max_iterations": 30})
    assert train(config, resume="auto") == 0
    kept = run.metrics.read_text().splitlines()
    assert len(kept) == len(lines) and len(set(kept)) == len(kept)


def test_lines_that_a_disk_took_half_are_taken_back(toy, monkeypatch):
    """A line that is written twice, or in the middle of another, would be no JSON."""
    disk = [False, True, True, False]
    fsync = os.fsync

    def filling(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith("metrics.jsonl") and disk and disk.pop(0):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    assert train(toy_config(toy, name="half")) == 0
    whole = (toy / "runs" / "whole" / "metrics.jsonl").read_text()
    assert (toy / "runs" / "half" / "metrics.jsonl").read_text() == whole and not disk


def test_a_run_that_somebody_removed_goes_on_in_a_folder_of_its_own(toy, monkeypatch):
    learn, run = Trainer._learn, RunFolder(toy / "runs" / "removed")

    def learning(self, group):
        if self.progress.iteration == 9:
            shutil.rmtree(run.path)
        return learn(self, group)

    monkeypatch.setattr(Trainer, "_learn", learning)
    assert train(toy_config(toy, name="removed")) == 0
    assert run.is_run and run.summary() is not None and not run.lock.in_use
    assert_same_end(toy, "whole", "removed")


def test_a_run_that_another_has_taken_the_place_of_ends_and_touches_nothing(toy, monkeypatch):
    learn, run = Trainer._learn, RunFolder(toy / "runs" / "taken")
    other = RunFolder(run.path)

    def learning(self, group):
        if self.progress.iteration == 9:
            shutil.rmtree(run.path)
            other.claim(resuming=False, overwrite=False)
            other.prepare("name: other", resuming=False)
        return learn(self, group)

    monkeypatch.setattr(Trainer, "_learn", learning)
    with pytest.raises(UserError, match="written by another training"):
        train(toy_config(toy, name="taken"))
    names = sorted(path.name for path in run.path.rglob("*") if path.is_file())
    assert names == [".lock", "config.yaml"] and other.lock.in_use
    other.lock.release()
