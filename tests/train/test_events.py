"""TensorBoard's files: what a later start shows is the last word, whatever the clock says."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sptmod_dist.train.events import Events


def shown(folder: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


@pytest.mark.parametrize("later", [[0.0, 0.0, 0.0], [-3600.0, 0.0, 0.0], [0.0, -7200.0, -7200.0]])
def test_a_later_start_voids_what_it_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: list[float]
) -> None:
    """In the same second, or on a machine whose clock is behind."""
    begun = time.time()
    for start, change in enumerate(later):
        monkeypatch.setattr(time, "time", lambda change=change: begun + change)
        events = Events(tmp_path, first=2 * start + 1)
        for step in range(2 * start + 1, 2 * start + 5):
            events.scalars(step, {"loss": 100.0 * start + step})
        events.flush()
        events.close()
    assert shown(tmp_path) == [(1, 1.0), (2, 2.0), (3, 103.0), (4, 104.0)] + [
        (step, 200.0 + step) for step in (5, 6, 7, 8)
    ]


def test_a_file_that_is_closed_is_written_no_more(tmp_path: Path) -> None:
    before = threading.active_count()
    events = Events(tmp_path, first=1)
    events.scalars(1, {"loss": 1.0})  # waits for its thread
    events.close()
    (file,) = tmp_path.iterdir()
    size = file.stat().st_size
    file.rename(tmp_path / "elsewhere")
    later = Events(tmp_path, first=2)
    later.close()
    assert (tmp_path / "elsewhere").stat().st_size == size and len(list(tmp_path.iterdir())) == 2
    assert threading.active_count() == before


def test_strange_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.mine").write_text("x")
    Events(tmp_path, first=1).close()
    assert (tmp_path / "events.out.tfevents.mine").read_text() == "x"
