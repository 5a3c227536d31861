"""The trainings that must come out the same on any number of processes and under every engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models import LSTM, TCN

from sptmod_dist import settings
from sptmod_dist.model.config import sptmod25

STATES = LSTM
REACH = LSTM.plan(64).target_start
TCN_ON_SAME_SHARDS = settings.to_plain(
    replace(TCN, n_params=1, kernel_sizes=(2, 2), dilations=(1, REACH - 1))
)
FOUR_GROUPS = {"stopping": {"max_iterations": 12}, "validation": {"every": 100}}
AVERAGE = {"pooling_type": "average", "spn": {"pooling_type": "average"}}
EXACT: dict[str, Any] = {"precision": "float64", **FOUR_GROUPS}
CLIPPED = {"optimizer": {"clip_norm": 0.05, "weight_decay": 0.3}}
SLICED = {"batch_size": 8, "distributed": {"micro_batches": 2}}
SCHEDULED = {
    "optimizer": {
        "average": 0.8,
        "schedule": {"kind": "cosine", "iterations": 15, "warmup": 4, "final": 0.1},
    },
}
PLATEAUS = {
    "plateaus": {  # a rate at which nothing changes, so that nothing gets better
        "optimizer": {
            "learning_rate": 1e-12,
            "schedule": {"kind": "plateau", "patience": 3, "factor": 0.3, "final": 0.05},
        },
        "batch_size": 8,
        "validation": {"every": 1},
        "stopping": {"max_iterations": 45},
    }
}
PUBLISHED = {"learning_rate": 5e-4}  # what rounding makes of a weight grows with the rate
DROPOUT = {"model": {"spn": {"dropout": 0.3}}}
DROPPED_ITEMS = {"model": {"spn": {"dropout": 0.5, "dropout_items": True}}, "data": {"workers": 3}}


def also(*changes: dict[str, Any]) -> dict[str, Any]:
    """Changes over changes, all the way down."""
    merged: dict[str, Any] = {}
    for change in changes:
        merged = settings.merge(merged, change)
    return merged


IN_FLOAT64 = {
    "lstm": also(EXACT, {"validation": {"excerpts": 2}}),
    "gru": also(EXACT, {"model": {"rnn_cell": "GRU", **AVERAGE}, "data": {"resident": "ram"}}),
    "clipped": also(EXACT, CLIPPED),
    "gru-clipped": also(EXACT, CLIPPED, {"model": {"rnn_cell": "GRU"}}),
    "sliced": also(EXACT, SLICED, CLIPPED),
    "dropout": also(EXACT, DROPOUT),
    "dropout-items": also(EXACT, DROPPED_ITEMS),
    "dropout-sliced": also(EXACT, SLICED, DROPOUT),
    "scheduled": also(EXACT, SCHEDULED),
    "tcn": also(EXACT, {"model": TCN_ON_SAME_SHARDS}),
    "no-spn": also(EXACT, {"model": {"spn": None}, "data": {"resident": "device"}}),
}
"""Under DDP: 1e-12 of one process."""

IN_FLOAT32 = {
    "lstm32": FOUR_GROUPS,
    "average32": also(FOUR_GROUPS, {"model": AVERAGE}),
    "sliced32": also(FOUR_GROUPS, {"model": AVERAGE}, SLICED, {"optimizer": PUBLISHED}),
    "everything32": also(
        FOUR_GROUPS,
        {"model": AVERAGE},
        SLICED,
        CLIPPED,
        SCHEDULED,
        DROPOUT,
        {"optimizer": PUBLISHED},
    ),
}
"""Under every engine: 2e-3 of the way that the weights went; with average pooling 1e-6."""

SKIPPING = {
    "skipping32": also(
        FOUR_GROUPS,
        {"model": AVERAGE, "stopping": {"non_finite": "skip"}, "optimizer": PUBLISHED},
    )
}
BF16 = {"bf16": also(FOUR_GROUPS, {"model": AVERAGE, "precision": "bf16"})}

IDENTICAL = {
    "identical": also(
        CLIPPED,
        SCHEDULED,
        DROPOUT,
        {
            "batch_size": 8,
            "distributed": {"virtual_shards": 4},
            "stopping": {"max_iterations": 60},
            "validation": {"every": 9},
        },
    )
}
"""Bit for bit, on 1, 2 and 4 processes."""

VARIANTS = {**IN_FLOAT64, **IN_FLOAT32, **SKIPPING, **BF16, **IDENTICAL, **PLATEAUS}

FULL_SIZE: dict[str, Any] = {
    "full": {
        **FOUR_GROUPS,
        "lengths": [4000, 2048, 4096],
        "batch_size": 2,
        "model": settings.to_plain(sptmod25(n_params=2)),
        "data": {"test": None},
        "optimizer": {"learning_rate": 5e-4},
        "loss": {"windows": [512, 1024, 2048]},
    }
}
"""The published model, loss and optimizer; on recordings of their own, longer than the toy's."""

BY_NAME = {**VARIANTS, **FULL_SIZE}
