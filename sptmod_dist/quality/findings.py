"""What is found about a recording: in plain words, how bad it is, and what to do.

It knows nothing of audio.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("fault", "doubt", "note")
"""A fault makes training pointless, a doubt may spoil it, a note is good to know."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        severity: one of `SEVERITIES`.
        what: a sentence that says where.
        remedy: a sentence that says what to do; empty where nothing need be done.
    """

    severity: str
    what: str
    remedy: str = ""


def verdict(findings: Iterable[Finding]) -> str:
    """`unfit` with a fault, `doubtful` with a doubt, else `sound`."""
    severities = {finding.severity for finding in findings}
    return "unfit" if "fault" in severities else "doubtful" if "doubt" in severities else "sound"
