"""The scripts in a real bash, with stand-ins for SLURM: what they hand on, when they requeue."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from slurm.fake_programs import Fakes

from sptmod_dist.slurm.site import Site
from sptmod_dist.slurm.submit import Job, command, script, shown
from sptmod_dist.slurm.verdict import REQUEUE
from sptmod_dist.train import main

KINDS = ("train", "study", "tensorboard", "doctor")
HOSTILE = ["-a b", "$HOME `id`", "it's \"q\"", "new\nline", "--", "*", "", "é;&|\\", "--setup"]
JOB = {
    "SLURM_JOB_ID": "12",
    "SLURM_JOB_NAME": "sptmod-train",
    "SLURM_NNODES": "2",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURMD_NODENAME": "n1",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_SUBMIT_HOST": "login",
    "USER": "me",
}
STEP, VERDICT = "sptmod_dist.slurm.node", "sptmod_dist.slurm.verdict"
MARKS = "# --- The same", "# --- From here"


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


def shared(kind: str) -> str:
    text = script(kind).read_text()
    return text[text.index(MARKS[0]) : text.index(MARKS[1])]


def test_what_is_the_same_in_the_scripts_is_the_same() -> None:
    assert len({shared(kind) for kind in KINDS}) == 1


def test_the_scripts_of_the_launch_folder_are_the_packages() -> None:
    folder = Path(__file__).parents[2] / "launch" / "slurm"
    for kind in ("train", "study", "tensorboard"):
        assert (folder / f"{kind}.sbatch").read_text() == script(kind).read_text()


def test_the_code_that_asks_for_another_start_is_the_trainings() -> None:
    assert REQUEUE == main.REQUEUE


@pytest.mark.parametrize("kind", KINDS)
def test_the_printed_command_says_what_is_meant_to_a_shell(fakes: Fakes, kind: str) -> None:
    site = Site(account="-x y", setup=("echo 'a b'\n:",), logs="lo gs%j", sbatch=("--x='", "$y"))
    words = command(site, Job(kind, 2, 4, 4), HOSTILE)
    line = shown(words, kind).rpartition("\n#!/bin/bash\n")[0].rpartition("\n\n# ")[0]
    assert fakes.run("bash", "-c", line) == 0
    assert fakes.calls == [words]
    assert shlex.split(line) == words


def test_a_training_gets_its_words_as_they_were(fakes: Fakes) -> None:
    site = Site(container=("box", "-v a:b"), python="/py thon", srun=("--mpi=none",))
    words = command(site, Job("train", 2, 4, 4), HOSTILE)
    behind = words[words.index(str(script("train"))) :]
    assert fakes.run("bash", *behind, **JOB) == 0, fakes.said
    (step,) = [call for call in fakes.calls if call[0] == "srun"]
    assert step[step.index("--mpi=none") :][:4] == ["--mpi=none", "box", "-v a:b", "/py thon"]
    assert "--cpus-per-task=8" in step and "--nodes=2" in step
    assert step[step.index("--") + 1 :] == HOSTILE
    assert step[step.index("--head") + 1] == "n1"
    assert step[step.index("--processes") + 1] == "4"


def test_the_script_alone_takes_the_options_of_train(fakes: Fakes) -> None:
    """By hand: `sbatch launch/slurm/train.sbatch --config mine.yaml`."""
    assert fakes.run("bash", str(script("train")), "--config", "a b.yaml", **JOB) == 0
    step = next(call for call in fakes.calls if call[0] == "srun")
    assert step[step.index("--") + 1 :] == ["--config", "a b.yaml"]
    assert "python3" in step


def test_setup_runs_in_the_job_and_sees_none_of_its_words(fakes: Fakes, tmp_path: Path) -> None:
    (tmp_path / "rc file").write_text('export SEEN="$# $SLURM_JOB_ID"\nset -- lost\n')
    lines = (f". '{tmp_path}/rc file'", 'echo "seen: $SEEN"')
    words = command(Site(setup=lines), Job("train"), ["--name", "x"])
    assert fakes.run("bash", *words[words.index(str(script("train"))) :], **JOB) == 0
    assert "seen: 0 12" in fakes.said
    step = next(call for call in fakes.calls if call[0] == "srun")
    assert step[-2:] == ["--name", "x"]


def test_a_setup_that_fails_ends_the_job_with_a_sentence(fakes: Fakes) -> None:
    assert fakes.run("bash", str(script("train")), "--setup", "false", "--", **JOB) == 2
    assert "this line of the site file's setup failed: false" in fakes.said
    assert not fakes.calls_file.exists()


@pytest.mark.parametrize(
    ("step", "verdict", "requeued", "code"),
    [(0, 85, False, 0), (1, 85, True, 0), (143, 1, False, 1), (1, 0, False, 0), (137, 85, True, 0)],
)
def test_a_training_is_requeued_when_its_folder_says_so(
    fakes: Fakes, step: int, verdict: int, requeued: bool, code: int
) -> None:
    codes = {STEP: step, VERDICT: verdict}
    assert fakes.run("bash", str(script("train")), "--name=x", codes=codes, **JOB) == code
    assert (["scontrol", "requeue", "12"] in fakes.calls) == requeued


def test_where_slurm_does_not_requeue_the_log_says_what_to_do(fakes: Fakes) -> None:
    codes = {STEP: 1, VERDICT: 85, "requeue": 1}
    assert fakes.run("bash", str(script("train")), "--name=x", codes=codes, **JOB) == 85
    assert "submit the same again, it goes on where it stopped" in fakes.said


@pytest.mark.parametrize(
    ("worker", "requeued", "code"), [(0, 0, 0), (85, 1, 0), (1, 0, 1), (137, 1, 0)]
)
def test_a_worker_that_was_told_to_stop_or_killed_is_requeued(
    fakes: Fakes, worker: int, requeued: int, code: int
) -> None:
    words = command(Site(), Job("study", array="1-3"), ["--jobs=1", "/a b/study.yaml"])
    behind = words[words.index(str(script("study"))) :]
    assert fakes.run("bash", *behind, codes={"study": worker}, **JOB) == code
    assert fakes.calls.count(["scontrol", "requeue", "12"]) == requeued
    assert fakes.calls[0][-5:] == ["study", "run", "--worker", "--jobs=1", "/a b/study.yaml"]


def test_tensorboard_prints_the_way_to_itself(fakes: Fakes) -> None:
    words = command(Site(), Job("tensorboard"), ["/my runs"])
    behind = words[words.index(str(script("tensorboard"))) :]
    assert fakes.run("bash", *behind, **JOB) == 0
    assert "ssh -N -L 6006:n1:10012 me@login\n" in fakes.said
    assert fakes.calls[0][-6:] == ["--logdir", "/my runs", "--host", "0.0.0.0", "--port", "10012"]
