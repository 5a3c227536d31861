"""`slurm … --dry-run` prints, letter by letter, what is in `golden/`.

Where a change is meant, look at it and keep it: `SPTMOD_GOLDEN=write pytest tests/slurm/…`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml
from slurm.test_scripts import HOSTILE
from toy import toy_settings

from sptmod_dist import cli
from sptmod_dist.slurm.submit import script

GOLDEN = Path(__file__).parent / "golden"
SITE = {
    "format": "sptmod-site-1",
    "account": "project-7",
    "partition": "gpu",
    "time": "24:00:00",
    "gpu_type": "a100",
    "cpus_per_process": 8,
    "modules": ["cuda/12.6"],
    "setup": ["export NCCL_SOCKET_IFNAME=ib0"],
    "login": "me@cluster.example.org",
}
STRANGE = {
    "format": "sptmod-site-1",
    "account": "-x; rm $HOME",
    "constraint": "it's\n\"new\"",
    "container": ["a box", "-v", "$PWD:/data dir"],
    "python": "/opt/my python/bin/python3",
    "logs": "lo gs/100%",
    "sbatch": ["--comment=`id` 'q'"],
    "srun": "--mpi=none",
}
PATHS = ["-it's.yaml", "$HOME `id`.yaml", 'two\nlines "q".yaml']


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with site files, settings of the worst names, a study and runs."""
    monkeypatch.chdir(tmp_path)
    for name, site in (("site.yaml", SITE), ("strange site.yaml", STRANGE)):
        Path(name).write_text(yaml.safe_dump(site))
    for name in ("mine.yaml", *PATHS):
        Path(name).write_text(yaml.safe_dump(toy_settings(Path("data"))))
    Path("-my $study\n.yaml").write_text("")
    Path("all runs").mkdir()
    return tmp_path


CASES = {
    "train": ["train", "--site=site.yaml", "--nodes=1", "--gpus=4", "--", "--config", "mine.yaml"],
    "train-hostile": [
        "train",
        "--site=strange site.yaml",
        "--nodes=2",
        "--",
        *(f"--config={path}" for path in PATHS),
        "--data.train=" + " ".join(HOSTILE[:4]),
        "--name=x",
    ],
    "study": ["study", "--site=site.yaml", "--workers=8", "--at-once=4", "--gpus=1", "--jobs=2"]
    + ["--time=12:00:00", "--", "-my $study\n.yaml"],
    "tensorboard": ["tensorboard", "--site=site.yaml", "all runs"],
}


@pytest.mark.parametrize("case", CASES)
def test_dry_run_prints_the_golden_text(
    here: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *words = CASES[case]
    assert cli.main(["slurm", name, "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    for real, stand_in in (
        (str(script("train").parent), "/PACKAGE/slurm"),
        (str(here), "/HERE"),
        (sys.executable, "/PYTHON"),
    ):
        said = said.replace(real, stand_in)
    path = GOLDEN / f"{case}.txt"
    if os.environ.get("SPTMOD_GOLDEN") == "write":
        path.write_text(said)
    assert said == path.read_text()


WRONG = {
    ("train", "--config", "mine.yaml"): "put the training's own options behind --",
    ("train", "--", "--config", "no.yaml"): "no.yaml: cannot be read",
    ("train", "--", "--config", "mine.yaml", "--overwrite"): "at every start of its job",
    ("train", "--nodes=3", "--", "--config", "mine.yaml"): "batch_size is 4, which 3 processes",
    ("train", "--nodes=0", "--", "--config", "mine.yaml"): "--nodes is 0, but must be 1 or more",
    ("train", "--gpus=2", "--processes=4", "--", "--config=mine.yaml"): "a node has 2 GPUs",
    ("train", "--", "--config=mine.yaml", "--distributed.processes=2"): "asks for 2 processes",
    ("train", "--", "--config=mine.yaml", "--batch_sise=2"): "did you mean --batch_size?",
    ("train", "--time=never", "--", "--config=mine.yaml"): "--time: time is 'never'",
    ("train", "--", "--config=mine.yaml"): "there is no sbatch here",
    ("study", "missing.yaml"): "missing.yaml is no file",
    ("study", "mine.yaml", "--workers=0"): "--workers is 0",
    ("tensorboard", "missing"): "missing is no folder",
    ("doctor", "--folder=missing"): "missing is no folder",
    ("doctor",): "there is no sbatch here",
    ("start",): "say train, study, tensorboard, doctor",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_what_cannot_be_is_refused_before_anything_is_queued(
    here: Path,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(here))
    monkeypatch.setenv("SPTMOD_SITE", "")
    assert cli.main(["slurm", *words]) == 2
    assert WRONG[words] in capsys.readouterr().err
