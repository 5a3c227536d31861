"""Signals that ask a training to stop soon; it does so between two groups."""

from __future__ import annotations

import errno
import os
import signal
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What people, launchers, terminals and schedulers send."""


class Interrupt:
    """Remembers a signal that asks to stop; the training looks at it between groups.

    The handler only takes a note: writing or speaking to other ranks from within it, in the middle
    of whatever was going on, is how checkpoints are lost.

    A launcher may send a second signal on the heels of the first; a second Ctrl-C that comes later
    is a person who will not wait.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None
        # Under `nohup` the end of the terminal is nothing to stop for.
        taken = [s for s in SIGNALS if (s, signal.getsignal(s)) != (signal.SIGHUP, signal.SIG_IGN)]
        self._before = {s: signal.signal(s, self._ask) for s in taken}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.asked_at is not None and now - self.asked_at > 1:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            _spare_a_terminal_that_is_gone()
        if self.asked_at is None:
            self.asked_at = now
            if number == signal.SIGINT and os.environ.get("RANK", "0") == "0":
                os.write(2, b"\nsptmod-dist: stopping after this group; Ctrl-C again ends it now\n")

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _spare_a_terminal_that_is_gone() -> None:
    """Let what is still said go nowhere: writing to such a terminal is an error."""
    for descriptor in (1, 2):
        try:
            os.tcgetpgrp(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
