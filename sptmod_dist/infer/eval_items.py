"""What is evaluated: the whole items of a set of shards, or a folder of pairs, as one kind.

It knows where items come from, not what is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from sptmod_dist.data.controls import Setting
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.places import is_pipe
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.infer.load import Model


@dataclass(frozen=True)
class Subject:
    """One item to be evaluated."""

    id: str
    settings: dict[str, Setting]


class Subjects(Protocol):
    """Items that can be read one after another."""

    @property
    def source(self) -> str:
        """What they are, in words without paths."""

    @property
    def fingerprint(self) -> str | None:
        """Of a set of shards."""

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the figures must know of the recordings, a sentence each."""

    @property
    def subjects(self) -> Sequence[Subject]:
        """All items, in order."""

    def read(self, number: int) -> Audio:
        """One item's audio.

        Raises:
            UserError: it cannot be read or used.
        """


class ShardItems:
    """The items of a validation or test set.

    Args:
        model: whose rate, channels and controls the set must have.
        run: the run's folder, for messages.
        shards: the set; the run's own test set (`data.test`) if None.

    Raises:
        UserError: no such set, or one that was made for another model, or of pieces.
    """

    notes = ()  # recordings were checked when the shards were made

    def __init__(self, model: Model, run: Path, shards: str | Path | None) -> None:
        where, data = shards or _own_test_set(model, run), model.config.data
        self._set = ShardSet.of(open_source(where, data.cache_folder, data.cache_gigabytes))
        self._set.require(_needed(model, self._set.geometry))
        self._set.item(0)  # refuses a set of pieces before anything is written
        self.subjects = [Subject(item.id, item.settings) for item in self._set.items]
        self.fingerprint = self._set.fingerprint

    @property
    def source(self) -> str:
        """Which split."""
        return f"the {self._set.index.split} set"

    def read(self, number: int) -> Audio:
        """One whole recording."""
        return self._set.item(number)


def _own_test_set(model: Model, run: Path) -> str:
    where = model.config.data.test
    if not where:
        raise UserError(f"{run} names no test set (data.test): give a set with --shards")
    if is_pipe(where):  # a run may come from anybody
        raise UserError(
            f"data.test of {run} is a command, which is not run out of a run's folder: give the "
            "set with --shards"
        )
    return where


def _needed(model: Model, has: Geometry) -> Geometry:
    """Whole items serve any lengths; rate, channels and controls must be the model's."""
    return replace(
        has,
        sample_rate=model.sample_rate,
        input_channels=model.architecture.input_channels,
        sidechain_channels=model.architecture.sidechain_channels,
        controls=model.controls,
    )
