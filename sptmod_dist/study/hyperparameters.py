"""A finished training in TensorBoard's HParams: its values of the grid, and what came of them.

One more file of events in the run's own folder, so that the run's curves are the plugin's too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import FileWriter

from sptmod_dist.train.run_folder import RunFolder

_SUFFIX = ".hparams"
TAGS = ("result/best_st", "result/iterations", "result/hours", "result/test_loss")


def write(run: RunFolder, values: Mapping[str, Any], test_loss: float | None) -> None:
    """Note a training, in the place of what was noted of it before.

    Args:
        run: finished.
        values: what tells it from the others.
        test_loss: if it was evaluated.
    """
    summary, status = run.summary() or {}, run.status() or {}
    figures = {
        "result/best_st": summary.get("best_st"),
        "result/iterations": summary.get("iterations"),
        "result/hours": status.get("seconds", 0.0) / 3600,
        "result/test_loss": test_loss,
    }
    metrics = {tag: float(value) for tag, value in figures.items() if value is not None}
    for path in run.tensorboard.glob(f"*{_SUFFIX}"):
        path.unlink()
    plain = {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in values.items()
    }
    writer = FileWriter(str(run.tensorboard), filename_suffix=_SUFFIX)
    try:
        for record in hparams(plain, metrics):
            writer.add_summary(record)
        writer.add_summary(_scalars(metrics), global_step=int(summary.get("iterations", 0)))
    finally:
        writer.close()


def _scalars(metrics: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in metrics.items()]
    return Summary(value=values)
