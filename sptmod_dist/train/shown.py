"""What a checkpoint knows of what was shown before it, as `Monitor.flush` gave it.

It may be of another version, or damaged: then showing begins anew, and learning is none the worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NOT_OURS = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError)
"""What reading comes to where a checkpoint has no such figures, or those of another version."""


def means(shown: Mapping[str, Any], iteration: int) -> tuple[Tensor, int, int, dict[str, float]]:
    """Sum, groups, iteration of the last record and that record, as `flush` gave them."""
    try:
        groups, at = int(shown["groups"]), int(shown["at"])
        total = torch.tensor(shown["sum"], dtype=torch.float64)
        record = {str(tag): float(value) for tag, value in shown["record"].items()}
    except _NOT_OURS:
        return torch.zeros(()), 0, iteration, {}
    if not total.isfinite().all():
        return torch.zeros(()), 0, iteration, {}
    return total, groups, at, record


def told_before(shown: Mapping[str, Any], iteration: int) -> dict[str, tuple[str, int]]:
    """What was told once and is still there, with its iteration; from what `flush` gave."""
    told: dict[str, tuple[str, int]] = {}
    try:
        for what, (digest, at) in shown["told"].items():
            if int(at) < iteration:
                told[str(what)] = (str(digest), int(at))
    except _NOT_OURS:
        return {}
    return told
