"""What a device is to a capture: something that turns a take's dry audio into its wet audio.

Plug-ins, commands and recordings that people bring back all meet here. It must not know of files,
checks or sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sptmod_dist.capture.plan import Take


class Wet(NamedTuple):
    """What came out of a device, `[C, T]`, at which rate in Hz, and how it was stored where people
    did that: libsndfile's name of the sample format."""

    audio: np.ndarray
    rate: int
    subtype: str = ""


class Device(Protocol):
    """Anything that a plan can be recorded through. Any thread may call `process`, several at once.

    `latency` is the delay in samples that the device reports of itself, None where it reports none:
    it is compared with the measured one, and never relied on. `by_hand` says that people recorded
    the takes: then all are looked at before one that is unfit ends the capture, since each costs
    them a walk to the device.
    """

    latency: int | None
    by_hand: bool

    def check(self, takes: Sequence[Take]) -> None:
        """Look at all settings before the first take.

        Raises:
            UserError: a setting that the device does not have or cannot reach.
        """

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        """Record one take; nothing is left of the take before.

        Args:
            audio: the stimulus, float32.
            rate: of `audio`, in Hz.
            take: its settings are set first.

        Shape:
            `[1, T]` to `[C, T']`

        Raises:
            UserError: the device failed.
        """

    def describe(self) -> str:
        """For the manifest: what was recorded, versions included."""

    def fingerprint(self, take: Take) -> str:
        """Whatever else than the stimulus and the settings decides what a take sounds like: when
        this text changes, the take is out of date."""

    def close(self) -> None:
        """End what still runs, at once; `process` is not called afterwards."""
