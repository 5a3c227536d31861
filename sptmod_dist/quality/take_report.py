"""What `check_take` measured of one take, and its findings; plain values for JSON.

It knows nothing of audio.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sptmod_dist.quality.findings import Finding, verdict


@dataclass(frozen=True)
class Step:
    """From `seconds` on (of the dry), the wet is later by `samples` more; earlier where they are
    negative: so many were lost."""

    seconds: float
    samples: int


@dataclass(frozen=True)
class TakeReport:
    """All about one take: what went in (dry) and what came out (wet)."""

    name: str
    rate: int
    """Of the dry, in Hz."""
    latency: float = 0.0
    """Samples by which the wet is late, in the middle of the content; negative: it is early."""
    method: str = "none"
    """How the latency was found: `markers`, `correlation`, `whole` (a correlation of all moments
    together, since few have a delay of their own) or `none`."""
    drift_ppm: float = 0.0
    """By how much the wet's clock runs apart: the latency grows by that part of the time."""
    polarity: int = 1
    """-1 where the wet is turned over."""
    dc: tuple[float, ...] = ()
    """Each wet channel's offset, as a part of full scale; of the channels that are kept."""
    level_db: float | None = None
    """RMS of the wet, in dB of full scale."""
    clipping_at: float | None = None
    """Where the wet is first clipped, in seconds of the wet."""
    dropouts: tuple[float, ...] = ()
    """Where the wet is silent for moments, in seconds of the dry."""
    steps: tuple[Step, ...] = ()
    """Where samples were lost or came twice."""
    noise_db: float | None = None
    """RMS of the wet while the dry is silent, in dB of full scale."""
    best_esr: float | None = None
    """The error-to-signal ratio that the device's own noise leaves to a perfect model."""
    noise_from: str = ""
    """What tells `best_esr`: `repeats` of the dry, or `silence` alone."""
    gain_db: tuple[float, float] | None = None
    """The gain's lowest and highest value, in dB, stray moments left out."""
    gain_slope: float | None = None
    """dB by which the gain grows with each dB of the dry's level: a compressor's is negative."""
    content: tuple[int, int] | None = None
    """What lies between the markers of the dry: its first sample, and the one after its last."""
    dry_channels: tuple[int, ...] = (0,)
    wet_channels: tuple[int, ...] = (0,)
    """Channels that belong together, in order; others repeat them, or are silent."""
    delays: tuple[tuple[float, float], ...] = ()
    """The latency over time: seconds of the dry, samples."""
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> str:
        """`sound`, `doubtful` or `unfit`."""
        return verdict(self.findings)

    def of(self, severity: str) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the verdict among them; the latency over time is left out."""
        entry = asdict(self)
        del entry["delays"]
        return {"verdict": self.verdict, **entry}
