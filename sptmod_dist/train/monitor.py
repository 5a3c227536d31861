"""What a training shows while it runs: TensorBoard, metrics.jsonl, a progress bar, log files.

Rank 0 alone writes events and draws the bar; each rank has a log file. It is told a group at a
time, so watching costs no stop of the device at every iteration. What a full disk does not take is
kept, and written when it does.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from tqdm import tqdm

from sptmod_dist.files import atomic_write
from sptmod_dist.losses import LossTerms
from sptmod_dist.train import shown
from sptmod_dist.train.events import Events
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.validation import Validation

logger = logging.getLogger("sptmod_dist")


class Clock:
    """Seconds spent in each kind of work."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.spent = {"data": 0.0, "validation": 0.0}

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Count the block's seconds as `kind`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[kind] += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.perf_counter() - self.start


def _is_before(line: str, iteration: int) -> bool:
    """Whether a line is whole (a kill may have cut it) and of an earlier iteration."""
    try:
        return bool(json.loads(line)["iteration"] < iteration)
    except (ValueError, KeyError, TypeError):
        return False


class Monitor:
    """Collect, average and show.

    Args:
        run: where to write.
        rank: of this process; 0 shows.
        iteration: where the training starts; a resumed run repeats nothing that was shown.
        validated: whether a validation at this iteration was shown; else it may have been after
            the checkpoint that the run goes on from, and comes again.
        total: iterations at most, for the bar.
        every: iterations between two records.
        seconds_per_iteration: seconds of audio that one iteration of the global batch holds.
        begun: what `flush` gave when the training was saved that goes on here.
    """

    def __init__(
        self,
        run: RunFolder,
        rank: int,
        iteration: int,
        validated: bool,
        total: int,
        every: int,
        seconds_per_iteration: float,
        begun: Mapping[str, Any],
    ) -> None:
        self.clock = Clock()
        self._run, self._every = run, every
        self._audio = seconds_per_iteration
        self._sum, self._n_groups, self._shown_at, self._record = shown.means(begun, iteration)
        self._speed_at = iteration
        self._last = (0.0, 0.0, 0.0)
        self._unsaved: list[tuple[int, dict[str, float]]] = []  # since the last flush
        self._latest: list[tuple[int, dict[str, float]]] = []  # flushed, of the last iteration
        self._media: dict[str, tuple[int, Summary]] = {}  # the same, the latest under each tag
        self._lines: list[str] = []  # of metrics.jsonl, that are not
        self._is_full = False
        self._handler = _LogFile(run.log_file(rank))
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        self._st = "none yet"
        self._is_main = rank == 0
        # From here on all that was shown before is void.
        self.first = iteration + 1 if validated and iteration else iteration
        self._told = shown.told_before(begun, self.first)
        self._excepthook, threading.excepthook = threading.excepthook, self._spare_the_traceback
        if self._is_main:
            self._events = Events(run.tensorboard, self.first)
            if self._shown_at == self.first:
                self._write(self._record, self.first)
            self._forget_from(self.first)
        self._bar = tqdm(
            total=total,
            initial=iteration,
            unit="it",
            disable=rank != 0,
            mininterval=0.5 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )

    @property
    def is_main(self) -> bool:
        """Whether this one writes."""
        return self._is_main

    def _forget_from(self, iteration: int) -> None:
        """Drop the lines of iterations that a resumed run is about to repeat."""
        if not self._run.metrics.is_file():
            return
        lines = self._run.metrics.read_text(errors="replace").splitlines()
        kept = [line for line in lines if _is_before(line, iteration)]
        with atomic_write(self._run.metrics) as path:
            path.write_text("".join(f"{line}\n" for line in kept))

    def flush(self) -> dict[str, Any]:
        """Give out what was shown, and return what was not: groups since the last record.

        A checkpoint keeps it: the training that goes on from there shows the same records as one
        that was never stopped.
        """
        if self._is_main:
            with self._unless_full():
                self._save()
        return {
            "sum": self._sum.tolist(),
            "groups": self._n_groups,
            "at": self._shown_at,
            "record": self._record,
            "told": dict(self._told),
        }

    def say(self, message: str) -> None:
        """A line for the user, above the bar, and for this rank's log."""
        logger.info(message)
        if self._is_main:
            with suppress(OSError):  # a terminal that is gone, a full disk behind a pipe
                self._bar.write(message, file=sys.stderr)

    def group(self, iteration: int, values: Tensor, learning_rate: float) -> None:
        """Take one group's figures.

        Args:
            iteration: how many were done, this group's included.
            values: loss terms, means over the batch, and gradient norms of each sub-sequence.
            learning_rate: of the last iteration.

        Shape: values [N, terms + 2], on the CPU.
        """
        if self._sum.shape != values.shape:  # nothing yet, or of another number of sub-sequences
            self._sum, self._n_groups = torch.zeros_like(values), 0
        self._sum, self._n_groups = self._sum + values, self._n_groups + 1
        loss = values[:, LossTerms._fields.index("total")].mean()
        self._bar.set_postfix(loss=f"{loss:.4f}", ST=self._st, refresh=False)
        self._bar.update(iteration - self._bar.n)
        if iteration - self._shown_at >= self._every:
            self._show(iteration, learning_rate)

    def _show(self, iteration: int, learning_rate: float) -> None:
        values = self._sum / self._n_groups
        terms, norms = values.split([len(LossTerms._fields), 2], dim=1)
        scalars: dict[str, float] = {}
        for term, column in zip(LossTerms._fields, terms.T, strict=True):
            scalars[f"train/{term}"] = column.mean().item()
            for i, value in enumerate(column.tolist()):
                scalars[f"train_by_sub_sequence/{term}/{i}"] = value
        scalars["optimizer/gradient_norm_effect"] = norms[:, 0].mean().item()
        scalars["optimizer/gradient_norm_spn"] = norms[0, 1].item()
        scalars["optimizer/learning_rate"] = learning_rate
        self._record = scalars | self._speed(iteration)
        self._write(self._record, iteration)
        self._sum, self._n_groups, self._shown_at = torch.zeros(()), 0, iteration

    def _speed(self, iteration: int) -> dict[str, float]:
        now = (self.clock.seconds, self.clock.spent["data"], self.clock.spent["validation"])
        wall, data, validation = (a - b for a, b in zip(now, self._last, strict=True))
        self._last = now
        rate = (iteration - self._speed_at) / max(wall - validation, 1e-9)
        self._speed_at = iteration
        return {
            "speed/iterations_per_second": rate,
            "speed/audio_seconds_per_second": rate * self._audio,
            "time/share_waiting_for_data": data / wall,
            "time/share_in_validation": now[2] / now[0],
        }

    def _write(self, scalars: dict[str, float], iteration: int) -> None:
        if not self._is_main:
            return
        self._unsaved.append((iteration, scalars))
        if not self._is_full:
            with self._unless_full():
                self._require_folder()
                self._events.scalars(iteration, scalars)

    def tells(self, what: str, content: str, iteration: int) -> bool:
        """Whether something that is told once has still to be told in this run; then it is.

        Args:
            content: told again where it is another one.
        """
        digest = hashlib.sha256(content.encode()).hexdigest()
        is_news = self._told.get(what, ("", 0))[0] != digest
        if is_news:
            self._told[what] = (digest, iteration)
        return is_news

    def media(self, iteration: int, summaries: Sequence[Summary]) -> None:
        """Show sounds, pictures and texts, on rank 0.

        Of those that a full disk does not take the latest under each tag are kept: they are large.
        """
        self._media |= {summary.value[0].tag: (iteration, summary) for summary in summaries}
        if not self._is_full:
            with self._unless_full():
                self._require_folder()
                self._events.media(iteration, summaries)

    def _save(self) -> None:
        """Bring all that is not on the disk there; after a full disk in a file of its own, since
        the one that it cut takes no more."""
        self._require_folder()
        missing = [at for at, _ in (*self._unsaved, *self._media.values())]
        scalars = [*self._latest, *self._unsaved]
        if self._is_full and missing:
            with suppress(OSError):
                self._events.close()
            first = min(missing)  # a new file voids what was shown from there on
            self._events = Events(self._run.tensorboard, first)
            for iteration, values in scalars:
                if iteration >= first:
                    self._events.scalars(iteration, values)
            for iteration, summary in self._media.values():
                self._events.media(iteration, [summary])
        self._events.flush()
        self._append()
        self._latest = [each for each in scalars if each[0] == scalars[-1][0]]
        self._unsaved.clear()
        self._media.clear()
        self._is_full = False

    def _require_folder(self) -> None:
        if self._run.lock.is_lost:  # what is there by now may be another training's
            raise FileNotFoundError(errno.ENOENT, "the run's folder is gone", str(self._run.path))

    def _append(self) -> None:
        """The lines that are missing in metrics.jsonl, all of them or none."""
        if not self._lines:
            return
        with open(self._run.metrics, "ab", buffering=0) as file:
            before, left = file.tell(), "".join(self._lines).encode()
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
        self._lines.clear()

    @contextmanager
    def _unless_full(self) -> Iterator[None]:
        """Keep, and say once, what the disk does not take."""
        try:
            yield
        except OSError as error:
            if not self._is_full:
                self.say(
                    f"TensorBoard and metrics.jsonl cannot be written ({error}); training goes on, "
                    "and they are written when the disk takes them"
                )
            self._is_full = True

    def validation(self, iteration: int, epoch: int, result: Validation, best: bool) -> None:
        """Show and keep a validation's figures."""
        self._st = f"{result.st['total']:.4f}"
        self._write(result.scalars(), iteration)
        line: dict[str, Any] = {"iteration": iteration, "epoch": epoch, **result.to_dict()}
        if self._is_main:
            self._lines.append(json.dumps(line, allow_nan=False) + "\n")
            with self._unless_full():
                self._save()
        self.say(
            f"iteration {iteration}, epoch {epoch}: ST {result.st['total']:.4f} (ESR "
            f"{result.st['esr']:.4f}), WT {result.wt['total']:.4f}{', the best so far' * best}"
        )

    def _spare_the_traceback(self, what: threading.ExceptHookArgs) -> None:
        """Of TensorBoard's thread on a full disk: `_unless_full` says it in words."""
        ours = type(what.thread).__name__ == "_AsyncWriterThread"
        if not (ours and isinstance(what.exc_value, OSError)):
            self._excepthook(what)

    def close(self) -> None:
        """Flush everything."""
        self._bar.close()
        if self._is_main:
            with self._unless_full():
                self._save()
            with self._unless_full():
                self._require_folder()
                self._events.close()
        threading.excepthook = self._excepthook
        logger.removeHandler(self._handler)
        self._handler.close()


class _LogFile(logging.FileHandler):
    """A log that a full disk costs lines and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: the training says what is full."""

    def close(self) -> None:
        """Write what can be written."""
        with suppress(OSError):
            super().close()
