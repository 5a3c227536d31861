"""A study's folder: what is in it, and how each training stands.

    settings/ID.yaml   every setting of a training, as `train --config` takes it
    shards/            a folder a dataset and fold, with the sets that serve all its trainings
    runs/ID/           an ordinary run
    state/ID/          who has the training (see `claims.py`), and `result.json` once it has ended
    logs/ID.log        what it printed
    calibration.json   what was measured for `plan`; plan.json, plan.csv: its estimates
    report/            what `report` makes

It reads and writes these small files and starts nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.study.grid import Training
from sptmod_dist.study.study_file import StudyFile
from sptmod_dist.train.config import TrainConfig, from_dict, to_dict, to_yaml
from sptmod_dist.train.resume import FREE
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.yaml_files import read_mapping

RESULT_FORMAT = "sptmod-study-result-1"


@dataclass(frozen=True)
class Result:
    """How a training ended, for good or until `retry`."""

    state: str
    """`finished` or `failed`."""
    why: str = ""
    """The sentence that it failed with."""
    seconds: float = 0.0
    """From its start to its end, of the last attempt."""
    computing: float = 0.0
    """Seconds of a core among them; the rest is waiting, such as for other programs."""
    memory: float = 0.0
    """Bytes of the machine's memory at most."""
    gpu_memory: float = 0.0
    """Bytes of the GPU's at most; 0 without one."""
    host: str = ""
    device: str = ""
    """What trained it, in words."""
    test_loss: float | None = None
    """The mean streamed loss over the test items."""
    attempts: int = 1


class StudyFolder:
    """Paths and small files of one study.

    Args:
        study: whose; the folder need not exist yet.
    """

    def __init__(self, study: StudyFile) -> None:
        self.path = study.folder
        self.shards = study.folder / "shards"
        self.runs = study.folder / "runs"
        self.report = study.folder / "report"
        self.calibration = study.folder / "calibration.json"
        self.plan = study.folder / "plan.json"

    def state(self, name: str) -> Path:
        """Where a training's claims and result are."""
        return self.path / "state" / name

    def run(self, name: str) -> RunFolder:
        """A training's run."""
        return RunFolder(self.runs / name)

    def log(self, name: str) -> Path:
        """Where a training's words go."""
        return self.path / "logs" / f"{name}.log"

    def settings(self, name: str) -> Path:
        """A training's settings."""
        return self.path / "settings" / f"{name}.yaml"

    def prepare(self, trainings: list[Training]) -> None:
        """Make the folders, and note every training's settings.

        Raises:
            UserError: the folder cannot be written; or a training was begun with other settings,
                each of which is named.
        """
        try:
            for name in ("settings", "state", "runs", "logs", "shards"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}): give the study another folder"
            ) from None
        for training in trainings:
            self._note(training)

    def _note(self, training: Training) -> None:
        path, text = self.settings(training.id), to_yaml(training.config)
        if path.exists():
            if path.read_text() == text:
                return
            self._require_same(training, path)
        with atomic_write(path) as temporary:
            temporary.write_text(text)

    def _require_same(self, training: Training, path: Path) -> None:
        if not (self.state(training.id) / "result.json").exists() and not self.run(
            training.id
        ).path.exists():
            return
        before = from_dict(read_mapping(path), str(path), complete=False)
        changes = list(_changes(before, training.config))
        if changes:
            raise UserError(
                f"{training.id} was begun with other settings ({'; '.join(changes)}): give them "
                f"back, or give the study another folder than {self.path}"
            )

    def result(self, name: str) -> Result | None:
        """How a training ended; None while it has not."""
        try:
            found = json.loads((self.state(name) / "result.json").read_text())
            if found.pop("format") != RESULT_FORMAT or found["state"] not in ("finished", "failed"):
                return None
            return Result(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write_result(self, name: str, result: Result) -> None:
        """Note how a training ended."""
        with atomic_write(self.state(name) / "result.json") as path:
            fields = {"format": RESULT_FORMAT, **asdict(result)}
            path.write_text(json.dumps(fields, indent=1, allow_nan=False) + "\n")

    def forget_result(self, name: str) -> None:
        """Let a training be taken again."""
        (self.state(name) / "result.json").unlink(missing_ok=True)

    def read_json(self, path: Path) -> dict[str, Any]:
        """One of the study's own files; nothing where it is missing or damaged."""
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _changes(before: TrainConfig, now: TrainConfig) -> list[str]:
    old, new = to_dict(before), to_dict(now)
    watched = [key for key in new if key not in FREE] + ["validation", "stopping"]
    return [
        f"{key} was {_brief(old[key])} and is {_brief(new[key])}"
        for key in watched
        if old[key] != new[key]
    ]


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 120 else text[:117] + "..."
