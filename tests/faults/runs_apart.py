"""Whether two runs came to the same end, bit for bit, and show the same in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sptmod_dist.train.run_folder import RunFolder


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar with its step, as TensorBoard reads them; but for those that tell the time."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith(("speed/", "time/"))]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs; nothing where one is as good as the other."""
    ends: list[Any] = [RunFolder(path).last_checkpoint()[1] for path in (one, other)]  # type: ignore[index]
    found = []
    for kind in ("weights", "moments", "averages"):
        a, b = (getattr(end, kind) for end in ends)
        if set(a) != set(b) or not all(torch.equal(a[key], b[key]) for key in a):
            found.append(kind)
    if ends[0].state["progress"] != ends[1].state["progress"]:
        found.append("progress")
    if shown(one) != shown(other):
        found.append("TensorBoard")
    if (one / "metrics.jsonl").read_text() != (other / "metrics.jsonl").read_text():
        found.append("metrics.jsonl")
    return found
