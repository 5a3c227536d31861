"""Checking one take: what went into a device against what came out of it.

Every measurement has its own file; this one puts them in order. It must not know of files,
manifests or devices.
"""

from __future__ import annotations

import numpy as np

from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.marked import find_marked
from sptmod_dist.quality.take_report import Step, TakeReport

__all__ = ["Finding", "Step", "TakeReport", "check_take"]


def check_take(
    dry: np.ndarray, wet: np.ndarray, rate: int, wet_rate: int | None = None, name: str = ""
) -> TakeReport:
    """Measure a take and say what is wrong with it.

    Args:
        dry: what went in, with markers or without.
        wet: what came out, as it was recorded: of any length, late or early.
        rate: of the dry, in Hz.
        wet_rate: of the wet; the dry's when None.
        name: for sentences, such as the take's id or the file's name.

    Shape:
        dry `[C, T]`, wet `[C', T']`
    """
    marked = find_marked(dry[0], wet[0], rate)
    if marked is None or None in marked.delays:
        fault = Finding("fault", f"{name} has no markers.", "Record it with the stimulus.")
        return TakeReport(name, rate, findings=(fault,))
    first, second = (delay or 0.0 for delay in marked.delays)
    distance = marked.dry[1].position - marked.dry[0].position
    found = marked.wet[0]
    return TakeReport(
        name,
        rate,
        latency=(first + second) / 2,
        method="markers",
        drift_ppm=1e6 * (second - first) / distance,
        polarity=found.polarity if found else 1,
        content=marked.content,
        dry_channels=tuple(range(len(dry))),
        wet_channels=tuple(range(len(wet))),
    )
