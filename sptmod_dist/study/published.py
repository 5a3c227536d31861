"""The published tables 1 to 6, which come with the package beside this file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from sptmod_dist.study.tables import Cell

_FILE = Path(__file__).parent / "paper_tables.json"
FOLDS = 10
"""Splits of each published configuration."""


def cells(dataset: str | None, quantity: str) -> dict[Cell, float]:
    """A published table; empty for a dataset or quantity of which there is none.

    Args:
        dataset: `snapshot` or `threshold_ratio`.
        quantity: `median_loss_x10`, `mad_loss_x10` or `median_hours`.
    """
    return {
        (row["N"], row["B"], row["L"]): row["value"]
        for row in _tables()["rows"]
        if row["dataset"] == dataset and row["quantity"] == quantity
    }


def source() -> str:
    """Where the tables are from, and their licence."""
    return str(_tables()["source"])


def hours() -> float:
    """Of all published trainings on an NVIDIA L40, to within 5 % of the least loss."""
    rows = _tables()["rows"]
    return FOLDS * sum(row["value"] for row in rows if row["quantity"] == "median_hours")


@cache
def _tables() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(_FILE.read_text())
    return tables
