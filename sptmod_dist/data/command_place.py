"""Files that a command of the user's writes to its standard output; see `places`.

A command comes from the user's own settings alone. Names of files are put into it quoted.
"""

from __future__ import annotations

import atexit
import os
import select
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from sptmod_dist.data import places
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.places import PIPE, Opened, Passing, Staying, in_words, pass_over

_SAID = 4096  # bytes of the standard error that are looked at


class Command:
    """Whatever a command of the user's writes to its standard output.

    It is ended with this program, but by SIGKILL: what nobody has told to end goes on until it next
    writes, which is never where it is silent.

    Args:
        where: `pipe:COMMAND`, for /bin/sh, with {} for the name of a file.

    Raises:
        ShardError: the command does not say where the name goes.
    """

    def __init__(self, where: str) -> None:
        command = where.removeprefix(PIPE).strip()
        program = next(iter(command.split()), "")
        # The rest may hold a password, and so may a variable that is set first.
        self.shown = f"{PIPE}…" if "=" in program else f"{PIPE}{program} …"
        if "{}" not in command:
            raise ShardError(
                f"{self.shown} does not say where the file's name goes: write {{}} there, as in "
                "pipe:ssh host cat sets/train/{}"
            )
        self._command = command

    def open(self, name: str, start: int) -> Opened:
        """See `Place`."""
        try:
            output = _started(self._command.replace("{}", shlex.quote(name)))
        except (OSError, ValueError) as error:
            raise Staying(f"the command cannot be run: {in_words(error)}") from None
        pass_over(output, start)
        return Opened(output, None)


def _started(command: str) -> _Output:
    return _Output(
        subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that all of it can be ended
        )
    )


class _Output:
    """What a command writes; it is ended when nobody reads any more."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process, self._stdout, self._stderr = process, process.stdout, process.stderr
        self._said, self._all_said = b"", False  # the end of what it says of itself
        self._waiting = select.poll()
        for stream in (self._stdout, self._stderr):
            self._waiting.register(stream, select.POLLIN)
        _running.add(self)

    def read(self, size: int) -> bytes:
        if not self._wait_for(self._stdout):
            raise Passing(f"the command writes nothing for {places.TIMEOUT:g} s")
        data = os.read(self._stdout.fileno(), size)
        if not data:
            self._waiting.unregister(self._stdout)
            self._check_end()
        return data

    def _wait_for(self, stream: Any) -> bool:
        """Whether a stream has something or has ended; meanwhile hear what the command says."""
        deadline = time.monotonic() + places.TIMEOUT
        while not (stream is self._stderr and self._all_said):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ready = {descriptor for descriptor, _ in self._waiting.poll(left * 1000)}
            if self._stderr.fileno() in ready:
                self._hear()
            if stream is self._stdout and stream.fileno() in ready:
                break
        return True

    def _hear(self) -> None:
        words = os.read(self._stderr.fileno(), 65_536)
        self._said = (self._said + words)[-_SAID:]
        if not words:
            self._all_said = True
            self._waiting.unregister(self._stderr)

    def close(self) -> None:
        self.end()
        _running.discard(self)
        self._stdout.close()
        self._stderr.close()
        self._process.wait()

    def end(self) -> None:
        """End the command, if it has not ended, and all that it has started."""
        if self._process.returncode is not None:
            return  # its number may be another's by now
        with suppress(ProcessLookupError, PermissionError):  # macOS: it has ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _check_end(self) -> None:
        self._wait_for(self._stderr)
        try:
            code = self._process.wait(places.TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Passing("the command closes its output and does not end") from None
        if code:
            words = self._said.decode(errors="replace").split("\n")
            last = next((line for line in reversed(words) if line.strip()), "no words")
            raise Passing(f"the command ends with {code}: {in_words(last)}")


_running: WeakSet[_Output] = WeakSet()
_here = os.getpid()


@atexit.register
def _end_all() -> None:
    """A command that writes nothing would not notice that nobody reads any more."""
    for output in list(_running) if os.getpid() == _here else []:  # not what a parent runs
        output.end()
