"""Keeps two trainings from writing one run: a locked file in the run's folder.

The lock goes when its process does. In the file stands which launch the training was of: a launcher
that starts lost processes anew gives them the options of the first ones, which may say to begin.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from sptmod_dist.errors import UserError
from sptmod_dist.files import read_plain


class RunError(UserError):
    """A run's folder that is in the way, missing or not a run."""


class RunLock:
    """The lock of one run.

    Args:
        folder: the run's; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder, folder / ".lock"
        self._file: IO[str] | None = None
        self._made = False  # the folder, by us

    def take(self) -> None:
        """Take it, making the folder where it is missing.

        Raises:
            RunError: another training has it, or the file system has no locks.
            OSError: the folder cannot be written.
        """
        for wait in (0.2, 0.2, None):  # whoever looks whether it is in use holds it for a moment
            self._made = self._made or not self._folder.exists()
            self._folder.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "a")
            if _lock_at_once(file) and self._is_here(file):
                self._file = file
                return
            file.close()
            if wait is not None:
                time.sleep(wait)
        raise RunError(
            f"{self._folder} is being written by another training: wait for it, or give this run "
            "another name"
        )

    @property
    def is_lost(self) -> bool:
        """Whether it was taken, and the folder has been removed or renamed since."""
        return self._file is not None and not self._is_here(self._file)

    def _is_here(self, file: IO[str]) -> bool:
        """Whether a file that is open is the one that others find here."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                return False
            raise

    @property
    def in_use(self) -> bool:
        """Whether a training is writing here now."""
        try:
            with open(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def note(self, launch: Sequence[str]) -> None:
        """Write down who started the processes: one word for each.

        Raises:
            OSError: it cannot be written.
        """
        assert self._file is not None, "it was taken"
        self._file.truncate(0)
        self._file.write(json.dumps(list(launch)))
        self._file.flush()

    def knows(self, launch: Sequence[str]) -> bool:
        """Whether one of those who start the processes now has noted itself here."""
        try:
            known = json.loads(read_plain(self.path))
        except (OSError, ValueError, RecursionError):
            return False
        return isinstance(known, list) and any(each in known for each in launch)

    def release(self) -> None:
        """Let another training have the folder; one that was made in vain goes."""
        if self._file is None:
            return
        with suppress(OSError):  # somebody may have removed it
            if self._made and list(self._folder.iterdir()) == [self.path]:
                shutil.rmtree(self._folder)
        self._file.close()
        self._file = None


def _lock_at_once(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise RunError(
            f"{file.name} cannot be locked ({error.strerror}), so two trainings might write one "
            "run: choose a runs_dir on a file system with locks (flock)"
        ) from None
    return True
