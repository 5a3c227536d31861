"""Sets of shards that several files of tests read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.data.small_sets import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of `small_sets.SAMPLES`, to be read only."""
    return build(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def sets(built: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    for name in ("recordings", "sets"):
        shutil.copytree(built.parent / name, tmp_path / name)
    return tmp_path / "sets"
