"""Where a training stands; read back from a file that may be damaged, so checked by type and name.

It must not know networks or processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """Where a training stands, always at a group's boundary."""

    epoch: int = 0
    group: int = 0
    """The next group of the epoch."""
    iteration: int = 0
    """Iterations done."""
    validated_at: int = 0
    """The iteration of the last validation."""
    best: float | None = None
    """The least ST validation loss; None before the first validation."""
    best_iteration: int = 0
    reductions: int = 0
    """Plateaus on which the learning rate was lowered."""
    reduced_at: int = 0
    """The iteration of the last of them."""
    skipped: int = 0
    """Groups in a row that were skipped because they were not finite."""

    def forget_best(self) -> None:
        """Without its checkpoint a record is worth nothing: the next validation sets a new one."""
        self.best, self.validated_at = None, 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Any) -> Progress:
        """Read it back.

        Raises:
            ValueError: naming the key that is missing, unknown or of a wrong type.
        """
        if not isinstance(data, Mapping):
            raise ValueError("progress is no mapping")
        names = [field.name for field in fields(Progress)]
        data = {key: 0 for key in _LATER} | dict(data)
        for key in (*names, *data):
            if key not in data or key not in names:
                raise ValueError(f"progress.{key} is {'unknown' if key in data else 'missing'}")
        best = data["best"]
        if not (best is None or isinstance(best, float) and math.isfinite(best)):
            raise ValueError(f"progress.best is {best!r}")
        for key in names:
            if key != "best" and (type(data[key]) is not int or data[key] < 0):
                raise ValueError(f"progress.{key} is {data[key]!r}")
        return Progress(**data)


# Absent in checkpoints of trainings that had none of them.
_LATER = ("reductions", "reduced_at", "skipped")
