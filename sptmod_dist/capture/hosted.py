"""Plug-ins in processes of their own: a crash or a hang is a sentence, and several run at once.

A process loads the plug-in on its main thread, which is what most need, and prints nowhere. It
ends when nobody holds its connection any more, however that came about. It must not know of
controls or takes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sptmod_dist.capture.vst3 import VST3
from sptmod_dist.data.devices import import_pedalboard
from sptmod_dist.errors import UserError

FACTS = ("name", "about", "identity", "channels", "latency", "parameters")
PATIENCE = 60.0
"""Seconds that a plug-in may take to load; to run, as long as the audio lasts besides."""


class Hosted:
    """A VST3 plug-in that runs elsewhere; for the rest as `VST3`.

    Any thread may use it: each call gets a process that is idle, or a new one.

    Raises:
        UserError: as `VST3`, and for a plug-in that crashes or hangs.
    """

    name: str
    about: str
    identity: str
    channels: str
    latency: int | None
    parameters: dict[str, Any]

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        import_pedalboard()
        self._arguments = (str(path), name)
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []
        self._closed = False
        first = self._start()
        for fact in FACTS:
            setattr(self, fact, first.facts[fact])
        self._idle.put(first)

    def run(
        self, audio: np.ndarray, rate: int, values: Mapping[str, float | str]
    ) -> np.ndarray:
        """Process with a fresh instance, as `VST3.run`."""
        return self._call(PATIENCE + audio.shape[1] / rate, "run", audio, rate, dict(values))

    def shown(self, settings: Sequence[Mapping[str, float | str]]) -> list[dict[str, Any]]:
        """What the plug-in says of itself after each of these was set."""
        return self._call(PATIENCE + len(settings), "shown", [dict(values) for values in settings])

    def _call(self, limit: float, method: str, *arguments: Any) -> Any:
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = self._start()
        answer = process.ask(limit, (method, arguments))
        self._idle.put(process)
        if isinstance(answer, Exception):
            raise answer
        return answer


    def close(self) -> None:
        """End all processes, those that are at work too."""
        self._closed = True
        for process in self._all:
            process.end()

    def _start(self) -> _Process:
        if self._closed:
            raise UserError("the capture was ended.")
        process = _Process(*self._arguments)
        self._all.append(process)
        return process


class _Process:
    """One process with the plug-in, and what it told of it."""

    def __init__(self, path: str, name: str | None) -> None:
        self._title = Path(path).name
        spawn = multiprocessing.get_context("spawn")  # a fork would take our threads' locks along
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, path, name), daemon=True)
        self._process.start()
        theirs.close()
        self.facts = self._hear(PATIENCE)
        if isinstance(self.facts, Exception):
            raise self.facts

    def ask(self, limit: float, order: Any) -> Any:
        """The answer, which may be an error to raise."""
        try:
            self._ours.send(order)
        except OSError:
            pass  # it is gone: `_hear` says so
        return self._hear(limit)

    def _hear(self, limit: float) -> Any:
        try:
            if self._ours.poll(limit):
                return self._ours.recv()
            how = f"did not answer for {limit:.0f} s; run it in a host once to see why"
        except (EOFError, OSError):
            how = "crashed; try other settings, or another version of it"
        self.end()
        raise UserError(f"the plug-in {self._title} {how}.")

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, path: str, name: str | None) -> None:
    """What the process does: load, tell, and answer until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process cleans up
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    try:
        plugin = VST3(path, name)
        answer: Any = {fact: getattr(plugin, fact) for fact in FACTS}
    except Exception as error:
        answer = error
    try:
        connection.send(answer)
        while not isinstance(answer, Exception):
            method, arguments = connection.recv()
            connection.send(_answer(plugin, method, arguments))
    except (EOFError, OSError):
        pass
    os._exit(0)  # at once: plug-ins crash in their own ends


def _answer(plugin: VST3, method: str, arguments: Any) -> Any:
    try:
        return getattr(plugin, method)(*arguments)
    except Exception as error:
        return error
