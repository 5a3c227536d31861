"""A plan through a device: every take is recorded, checked, aligned and stored, several at once.

What is there already and up to date stays. The first take goes alone: it finds most of what is
wrong, and its delay is that of the session. It must not know which kind of device it has.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sptmod_dist import audio
from sptmod_dist.capture.device import Device, Wet
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.session import Session
from sptmod_dist.capture.stimuli import Stimuli
from sptmod_dist.errors import UserError
from sptmod_dist.quality.align import align
from sptmod_dist.quality.judge import lossy, may_clip
from sptmod_dist.quality.sketch import Sketch, make_sketch
from sptmod_dist.quality.take_check import TakeReport, check_take

_VERSION = 1
"""A change in how takes are made puts those of before out of date."""
_NEAR = 1.0
"""Samples by which a take's delay may differ from the session's and still be rounded like it."""


@dataclass(frozen=True)
class Alignment:
    """What is removed besides whole samples of delay: the rest of it, a turned polarity."""

    fraction: bool = False
    polarity: bool = False


class Unfit(UserError):
    """A take with which no model can be trained."""


class Capture:
    """One run over a session.

    Args:
        session: what is there.
        device: to record through; closed at the end of `run`.
        stimuli: of the plan's seeds.
        alignment: of what is stored.
        say: called with each line of progress, from this thread.
    """

    def __init__(
        self,
        session: Session,
        device: Device,
        stimuli: Stimuli,
        alignment: Alignment | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._session, self._device, self._stimuli = session, device, stimuli
        self._alignment, self._say = alignment or Alignment(), say
        self._about = device.describe()
        self.sketches: dict[str, Sketch] = {}
        """Of the takes that this run recorded, by id, for their comparison at the end."""
        self._delay: float | None = None
        self._stopped = threading.Event()

    def run(self, takes: Sequence[Take], workers: int, overwrite: bool = False) -> None:
        """Record what is missing of these takes, or out of date.

        Args:
            takes: of the session's plan.
            workers: threads, each with a take in memory.
            overwrite: whether takes of another device may be replaced.

        Raises:
            UserError: the session has takes of another device, this one refuses a setting or fails,
                or a take is unfit.
        """
        self._device.check(takes)
        if not overwrite:
            self._refuse_other_device()
        planned = {take.id: self._planned(take) for take in self._session.plan.takes}
        digests = {take.id: self._digest(take) for take in takes}
        left = self._session.begin(self._about, digests, planned)
        self._delay = self._known_delay()
        if self._device.by_hand and not overwrite:
            self._refuse_other_recording(left, planned)
        self._tell_left(takes, left)
        begun = time.monotonic()
        with self._closing():
            unfit = [fault for fault in self._record(left, workers) if fault]
        if unfit:
            raise Unfit(" ".join(map(str, unfit)))
        if left:
            self._say(f"Recorded {len(left)} takes in {time.monotonic() - begun:.0f} s.")

    def _refuse_other_device(self) -> None:
        for take in self._session.plan.takes:
            entry = self._session.done(take)
            if entry and entry["device"] != self._about:
                raise UserError(
                    f"{self._session.folder} holds takes of another device ({entry['device']}): "
                    "plan another session for this one, or add --overwrite to replace them."
                )

    def _refuse_other_recording(self, left: Sequence[Take], planned: Mapping[str, str]) -> None:
        """What people recorded is not thrown away for another file of the same take."""
        entries = {take.id: self._session.done(take) for take in left}
        there = [
            name for name, entry in entries.items() if entry and entry["planned"] == planned[name]
        ]
        if there:
            raise UserError(
                f"{self._session.folder} has {len(there)} of these takes from another recording "
                f"already ({', '.join(there[:3])}{' …' if len(there) > 3 else ''}): add "
                "--overwrite to replace them, or name with --takes those that are to be recorded."
            )

    def _tell_left(self, takes: Sequence[Take], left: Sequence[Take]) -> None:
        old = sum(self._session.done(take) is not None for take in left)
        if len(left) < len(takes):
            self._say(f"{len(takes) - len(left)} of {len(takes)} takes are there already.")
        if old:
            self._say(f"{old} are out of date: settings, stimulus or alignment have changed.")

    def _record(self, left: Sequence[Take], workers: int) -> Iterator[Unfit | None]:
        if left:
            yield self._tell(partial(self._take, left[0]), left[0], 1, len(left))
        with ThreadPoolExecutor(max(1, workers), thread_name_prefix="take") as pool:
            jobs = {pool.submit(self._take, take): take for take in left[1:]}
            try:
                for number, job in enumerate(as_completed(jobs), 2):
                    yield self._tell(job.result, jobs[job], number, len(left))
            except BaseException:
                self._stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _tell(
        self, result: Callable[[], TakeReport], take: Take, number: int, total: int
    ) -> Unfit | None:
        """Say how a take went; what people recorded is looked at to the end."""
        try:
            report = result()
        except Unfit as fault:
            if not self._device.by_hand:
                raise
            self._say(f"{number:4}/{total} {take.id}: unfit")
            return fault
        self._say(f"{number:4}/{total} {take.id}: {summary(report)}")
        return None

    def _take(self, take: Take) -> TakeReport:
        """All of one take, in any thread."""
        if self._stopped.is_set():
            raise UserError("the capture was ended.")
        rate = self._stimuli.rate
        dry = self._stimuli.read(take.stimulus).audio
        wet = self._device.process(dry, rate, take)
        report = check_take(dry, wet.audio, rate, wet.rate, take.id)
        report = replace(report, findings=(*report.findings, *lossy(wet.subtype)))
        if not self._device.by_hand:
            report = may_clip(report)  # no converter can have done it
        if report.verdict == "unfit":
            raise Unfit(self._why(take, wet, report))
        if self._delay is None:
            self._delay = report.latency
            self._compare_latency(report)
        made = align(dry, wet.audio, rate, self._rounded(report), **vars(self._alignment))
        self.sketches[take.id] = make_sketch(made.dry, made.wet, rate)
        digests, found = (self._digest(take), self._planned(take)), report.to_dict()
        self._session.store(take, self._about, *digests, made.dry, made.wet, rate, found)
        return report

    def _rounded(self, report: TakeReport) -> TakeReport:
        """With the session's delay where this one is as good as equal: whole samples are removed,
        and no take may fall on the other side of a half."""
        delay = self._delay
        if self._alignment.fraction or delay is None or abs(report.latency - delay) >= _NEAR:
            return report
        return replace(report, latency=delay)

    def _known_delay(self) -> float | None:
        """Of the takes that are there."""
        for take in self._session.plan.takes:
            entry = self._session.done(take)
            if entry and entry["device"] == self._about:
                return float(entry["found"]["latency"])
        return None

    def _compare_latency(self, report: TakeReport) -> None:
        stated = self._device.latency
        if stated is None:
            return
        differ = abs(report.latency - stated) > _NEAR
        self._say(
            f"The device reports a delay of {stated} samples, and {_tenths(report.latency)} were "
            f"measured{'; what was measured counts' if differ else ''}."
        )

    def _why(self, take: Take, wet: Wet, report: TakeReport) -> str:
        """All faults of a take in a sentence; what the device gave is kept to be listened to."""
        told = "; ".join(f"{_bare(f.what)}: {_bare(f.remedy)}" for f in report.of("fault"))
        kept = ""
        if not self._device.by_hand and wet.audio.size:
            file = self._session.checks / f"unfit-{take.id}.wav"
            audio.write(file, wet.audio, wet.rate, "FLOAT")
            kept = f" (what came out is in {file})"
        return f"take {take.number} ({take.id}) is unfit{kept}: {told}."

    def _digest(self, take: Take) -> str:
        """Of all that decides what is stored for a take."""
        return _sha256([self._planned(take), self._device.fingerprint(take)])

    def _planned(self, take: Take) -> str:
        """Of what the plan and the command line say of it, whatever the device."""
        settings = sorted(take.settings.items())
        stimulus = self._stimuli.digest(take.stimulus)
        return _sha256([_VERSION, settings, stimulus, vars(self._alignment)])

    def _stop(self) -> None:
        self._stopped.set()
        self._device.close()

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._stop()


def _sha256(decides: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def summary(report: TakeReport) -> str:
    """A take in half a line."""
    doubts = report.of("doubt")
    more = f", {len(doubts)} doubt{'s' * (len(doubts) > 1)}" if doubts else ""
    return f"{report.verdict}, delay {_tenths(report.latency)} samples{more}"


def _tenths(samples: float) -> str:
    return f"{round(samples, 1) + 0.0:.1f}"  # of -0.0, 0.0


def _bare(sentence: str) -> str:
    return sentence.strip().rstrip(".")
