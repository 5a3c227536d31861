"""Small sessions for tests: a plan of a few takes, a stimulus of seconds, a device of Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.capture.capture import Alignment, Capture
from sptmod_dist.capture.device import Wet
from sptmod_dist.capture.markers import surround
from sptmod_dist.capture.plan import Plan, Take
from sptmod_dist.capture.session import Session
from sptmod_dist.capture.stimuli import make_missing
from sptmod_dist.data.controls import Control

RATE = 16_000
CONTENT = 4 * RATE
GAIN = Control("gain", -20.0, 20.0, unit="dB")
Process = Callable[[np.ndarray, float], np.ndarray]


def content(seed: int) -> np.ndarray:
    """Noise whose level changes, and a second more, `[CONTENT + RATE]`."""
    generator = np.random.default_rng(seed)
    level = 0.05 + 0.1 * (np.arange(CONTENT + RATE) // (RATE // 2) % 3)
    return (level * generator.uniform(-1, 1, CONTENT + RATE)).astype(np.float32)


def plan_of(folder: Path, gains: Sequence[float], seeds: Sequence[int] | None = None) -> Plan:
    """A written plan, with its stimuli in `stimulus`."""
    seeds = seeds or [0] * len(gains)
    takes = tuple(
        Take(number, f"item-{number - 1:03}", seed, {"gain": gain})
        for number, (gain, seed) in enumerate(zip(gains, seeds, strict=True), 1)
    )
    plan = Plan(folder, (GAIN,), takes)
    plan.write(folder)
    (folder / "stimulus").mkdir(exist_ok=True)
    for seed in set(seeds):
        samples = content(seed)
        whole = surround(samples[:CONTENT], RATE, samples[CONTENT:])
        audio.write(folder / "stimulus" / f"stimulus-{seed}.wav", whole[None], RATE)
    return plan


def delayed(gain: float, samples: int, audio: np.ndarray) -> np.ndarray:
    """`[C, T]`, louder and later, as long as before."""
    later = np.pad(audio, ((0, 0), (samples, 0)))[:, : audio.shape[1]]
    return (later * 10 ** (gain / 20)).astype(np.float32)


class Amplifier:
    """A device of Python: a gain, and a delay of 37 samples.

    Args:
        process: replaces what it does with a take: `(audio, gain) -> audio`.
        version: a part of its fingerprint.
    """

    latency: int | None = 37

    def __init__(
        self, process: Process | None = None, version: int = 1, by_hand: bool = False
    ) -> None:
        self._process, self.version, self.by_hand = process, version, by_hand
        self.recorded: list[str] = []
        self.closed = 0
        self._lock = threading.Lock()

    def check(self, takes: Sequence[Take]) -> None:
        pass

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        with self._lock:
            self.recorded.append(take.id)
        gain = take.settings["gain"]
        assert isinstance(gain, float)
        return Wet(self._process(audio, gain) if self._process else delayed(gain, 37, audio), rate)

    def describe(self) -> str:
        return f"amplifier {self.version}"

    def fingerprint(self, take: Take) -> str:
        return self.describe()

    def close(self) -> None:
        self.closed += 1


def capture(
    folder: Path,
    device: Amplifier,
    numbers: Sequence[int] | None = None,
    alignment: Alignment | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> tuple[Session, list[str]]:
    """Run a capture over the takes with these numbers, all without: the session and what was
    said."""
    plan = Plan.read(folder)
    takes = [take for take in plan.takes if numbers is None or take.number in numbers]
    said: list[str] = []
    stimuli = make_missing(folder / "stimulus", [take.stimulus for take in takes])
    session = Session(folder, plan)
    Capture(session, device, stimuli, alignment, said.append).run(takes, workers, overwrite)
    return session, said
