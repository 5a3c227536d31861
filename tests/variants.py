"""The trainings that must come out the same on any number of processes."""

from __future__ import annotations

from typing import Any

from models import LSTM

STATES = LSTM
FOUR_GROUPS = {"stopping": {"max_iterations": 12}, "validation": {"every": 100}}
AVERAGE = {"pooling_type": "average", "spn": {"pooling_type": "average"}}
EXACT: dict[str, Any] = {"precision": "float64", **FOUR_GROUPS}
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm-float64": EXACT,
    "gru-float64": {**EXACT, "model": {"rnn_cell": "GRU", **AVERAGE}},
    "dropout-float64": {**EXACT, "model": {"spn": {"dropout": 0.3}}},
    "dropout-items-float64": {
        **EXACT,
        "model": {"spn": {"dropout": 0.5, "dropout_items": True}},
        "data": {"workers": 1},
    },
    "no-spn-float64": {**EXACT, "model": {"spn": None}, "lengths": [64, 32, 48]},
    "lstm-float32": FOUR_GROUPS,
    "average-float32": {**FOUR_GROUPS, "model": AVERAGE},
}
