"""The process of a plug-in ends at once, whatever the plug-in does in its own end."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

import pytest

from sptmod_dist.capture import hosted


class CrashesAtItsEnd:
    """A plug-in that works, until it goes."""

    def __init__(self, path: str, name: str | None) -> None:
        for fact in hosted.FACTS:
            setattr(self, fact, path)

    def shown(self, settings: Any) -> Any:
        return settings

    def __del__(self) -> None:
        os.abort()


def serve(connection: Connection) -> None:
    hosted.VST3 = CrashesAtItsEnd  # type: ignore[assignment, misc]
    hosted._serve(connection, "some.vst3", None)


@pytest.mark.parametrize("asked", [0, 2])
def test_a_plug_in_that_crashes_in_its_own_end_ends_well(asked: int) -> None:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    assert ours.poll(60) and ours.recv()["name"] == "some.vst3"
    for _ in range(asked):
        ours.send(("shown", ([{"gain": 1.0}],)))
        assert ours.poll(60) and ours.recv() == [{"gain": 1.0}]
    ours.close()
    process.join(60)
    assert process.exitcode == 0
