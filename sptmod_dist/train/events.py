"""TensorBoard's files of a run: each start writes one of its own, read in the order of their names.

It knows neither training nor what is shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from sptmod_dist.files import fsync_file

_PREFIX = "events.out.tfevents."


class Events:
    """A new file, which voids what earlier ones show from an iteration on.

    Args:
        folder: of the run.
        first: the iteration.
    """

    def __init__(self, folder: Path, first: int) -> None:
        _put_before(folder, int(time.time()))
        self._folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first)

    def scalars(self, iteration: int, scalars: Mapping[str, float]) -> None:
        """Show numbers by their tags."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, iteration)

    def media(self, iteration: int, summaries: Sequence[Summary]) -> None:
        """Show sounds, pictures and texts."""
        writer: Any = self._writer.file_writer  # there is one from the start
        for summary in summaries:
            writer.add_summary(summary, iteration)

    def flush(self) -> None:
        """Bring everything to the disk, as safely as a checkpoint.

        Raises:
            OSError: the disk does not take it.
        """
        self._writer.flush()
        for path in sorted(self._folder.glob(f"{_PREFIX}*"))[-1:]:
            fsync_file(path)

    def close(self) -> None:
        """Write no more, and nothing later: a thread that goes on would write behind the back of
        the file that comes next.

        Raises:
            OSError: the disk does not take all of it.
        """
        writer: Any = self._writer.file_writer
        writer.close()  # ends the thread first, whatever the disk says


def _put_before(folder: Path, now: int) -> None:
    """Rename files that would count as newer than one that begins now: of the same second, or of a
    machine whose clock is ahead."""
    for path in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        second, _, rest = path.name.removeprefix(_PREFIX).partition(".")
        if not second.isdecimal():
            continue
        now = min(int(second), now - 1)
        if now < int(second):
            path.rename(path.with_name(f"{_PREFIX}{now:010d}.{rest}"))
