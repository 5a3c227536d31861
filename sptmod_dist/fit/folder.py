"""A fit's folder: whose it is, what it was begun with, and what may be removed.

    fit.json      the digest of both files, the settings, how fast the machine trains
    check/        what the check of the pair found: report.json, picture.png
    recordings/   the pieces, with a manifest
    shards/       a set a split
    settings.yaml what `train` is given
    run/          the run, which `render` and `evaluate` take
    examples/     the test pieces through the model
    learned.txt   what was learned, in words; there when all is done
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.fit.defaults import RUN
from sptmod_dist.train import checkpoint
from sptmod_dist.train.config import TrainConfig, from_dict, to_dict
from sptmod_dist.train.resume import differences
from sptmod_dist.train.run_folder import RunFolder

FORMAT = "sptmod-fit-1"
OURS = ("check", "recordings", "shards", "settings.yaml", RUN, "examples", "learned.txt")


class FitFolder:
    """Paths and notes of one fit.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.check = path / "check"
        self.recordings = path / "recordings"
        self.shards = path / "shards"
        self.settings = path / "settings.yaml"
        self.run = path / RUN
        self.examples = path / "examples"
        self.learned = path / "learned.txt"
        self._notes = path / "fit.json"

    def claim(self, sources: str, config: TrainConfig, overwrite: bool) -> None:
        """Make the folder this fit's: new, the same fit's that goes on, or cleared of another.

        Args:
            sources: digest of both files.
            config: every setting.
            overwrite: remove what another fit wrote.

        Raises:
            UserError: something else is there; nothing has changed then.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: choose another folder with --out")
        if self.path.is_dir() and any(self.path.iterdir()):
            notes = self._read()
            if not overwrite:
                self._require_same(notes, sources, config)
                return
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write({"format": FORMAT, "sources": sources, "settings": to_dict(config)})

    @property
    def iteration(self) -> int:
        """How far the run's newest checkpoint is."""
        newest = RunFolder(self.run).newest_checkpoint()
        return 0 if newest is None else checkpoint.iteration_of(newest)

    @property
    def seconds_per_iteration(self) -> float | None:
        """How fast this machine was, as was measured last."""
        return self._read().get("seconds_per_iteration")

    def note_speed(self, seconds_per_iteration: float) -> None:
        """Remember how fast it was."""
        self._write(self._read() | {"seconds_per_iteration": seconds_per_iteration})

    def _read(self) -> dict[str, Any]:
        try:
            notes = json.loads(self._notes.read_text())
        except (OSError, ValueError):
            notes = None
        if not isinstance(notes, dict) or notes.get("format") != FORMAT:
            raise UserError(
                f"{self.path} holds something else than a fit, so nothing in it is touched: "
                "choose another folder with --out"
            )
        return notes

    def _write(self, notes: dict[str, Any]) -> None:
        with atomic_write(self._notes) as temporary:
            temporary.write_text(json.dumps(notes, indent=1) + "\n")

    def _require_same(self, notes: dict[str, Any], sources: str, config: TrainConfig) -> None:
        other = "" if notes["sources"] == sources else "it was made of other files"
        before = to_dict(from_dict(notes["settings"], str(self._notes)))
        asked = {"config": to_dict(config), "data": {}}
        changed = differences({"config": before, "data": {}}, asked)
        different = "; ".join(filter(None, [other, *changed]))
        if different:
            raise UserError(
                f"{self.path} holds another fit ({different}): choose another folder with --out, "
                "or replace it with --overwrite"
            )

    def _clear(self) -> None:
        for name in OURS:  # the notes stay until the end: they say that all this is ours
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
