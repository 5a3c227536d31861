"""A rank that fails ends all of them: one sentence, the last good checkpoint, nobody left."""

from __future__ import annotations

import re
import time

import pytest
from processes import ROOT, torchrun
from toy import make_toy, write_config

from sptmod_dist.train.run_folder import RunFolder

PROGRAM = str(ROOT / "tests" / "failing_rank.py")
TIMEOUT = 8
SENTENCES = {
    "raises": r"\[rank 1\].*RuntimeError \(CUDA out of memory: a long story of several lines\); "
    r"the traceback is in .*rank1\.log",
    "hangs": rf"did not answer for {TIMEOUT} s \(distributed\.timeout\)",
    "is-killed": r"another process has gone without a word",
    "main-is-killed": r"another process has gone without a word",
    "exits": r"another process has gone without a word",
    "is-not-finite": r"error: the loss of rank 1 is not finite at iteration 7 \(epoch 1, group "
    r"0\): its group is undone and the state before it is saved",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    make_toy(folder)
    return folder


# A process that hangs gets another 30 s from the launcher before it is ended; the others take time
# as well.
@pytest.mark.parametrize("how", [
    pytest.param(how, marks=() if how in ("raises", "is-killed") else pytest.mark.system)
    for how in SENTENCES
])
def test_a_rank_that_fails_ends_all_with_one_sentence(folder, how):
    config = write_config(
        folder,
        name=how,
        batch_size=12,
        validation={"every": 1},  # an epoch has two groups: the third finds a checkpoint
        distributed={"timeout": TIMEOUT},
    )
    start = time.monotonic()
    result = torchrun(2, PROGRAM, how, str(config), limit=90)
    assert result.returncode != 0 and time.monotonic() - start < 60
    said = [line for line in result.stderr.splitlines() if "sptmod-dist: error: " in line]
    assert len(said) == 1, result.stderr
    assert re.search(SENTENCES[how], said[0]), said[0]
    saved = RunFolder(folder / "runs" / how).last_checkpoint()
    assert saved is not None and saved[1].state["progress"]["iteration"] == 6
    assert f"the last good checkpoint is {saved[0]}: continue with --resume auto" in said[0]
    ours = result.stderr.split("torch/distributed/elastic")[0]  # the launcher has more to say
    assert "Traceback" not in ours, ours


def test_the_traceback_of_what_went_wrong_is_in_the_log(folder):
    """After the test above, of the rank that failed and of the one that only lost it."""
    logs = folder / "runs" / "raises" / "logs"
    assert "in run_out_of_memory" in (logs / "rank1.log").read_text()
