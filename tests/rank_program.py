"""What the ranks of the distributed tests run: trainings in a row, and one group by hand.

    torchrun … rank_program.py FOLDER LABEL NAME …

NAME is a variant (its run is VARIANT-LABEL), `poison:NAME`, or one of the words in `main`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from losses_kept import keeping_losses
from models import batch
from poisons import HARMLESS, POISONS, ZERO_POISONS, poisoned
from safetensors.torch import save_file
from toy import toy_config
from variants import BY_NAME, STATES, also

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.config import OptimizerConfig
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.main import train_on

HALF = {"stopping": {"max_iterations": 6}}


def predictions(engine: Engine, folder: Path) -> None:
    """Each rank runs a group over its own rows; what it predicts and keeps is written down."""
    config = STATES
    torch.manual_seed(2)
    spn = StatePredictionNetwork(config).double()
    engine.wrap(SPTMod(config).double(), spn, OptimizerConfig())
    schedule = Schedule(config, (64, 32, 48))
    x, y, controls = batch(config, schedule.sequence_length, rows=4, dtype=torch.float64)
    share = 4 // engine.world_size
    rows = slice(engine.rank * share, (engine.rank + 1) * share)
    state, written = None, {}
    for sub in schedule.split(x[rows], y[rows], controls[rows]):
        step = forward(engine.effect, engine.spn, sub, state)
        engine.backward((step.prediction - sub.target).abs().mean(), step.seam)
        engine.step(learning_rate=0.0)
        state = step.state.detach()
        written[f"prediction{sub.index}"] = step.prediction.detach().contiguous()
        written[f"rnn{sub.index}"] = state.rnn.transpose(0, 1).contiguous()
    save_file(written, folder / f"states-{engine.world_size}-{engine.rank}.safetensors")


def train_variant(folder: Path, label: str, name: str, resume: str | None = None, **changes):
    """One training; a variant of another name than its run's comes before a colon."""
    variant, _, run = name.rpartition(":")
    changes = also(BY_NAME[variant or run], changes, {"name": f"{run}-{label}"})
    config = toy_config(folder, **changes)
    engine = train_variant.engine
    path = Path(config.runs_dir) / config.name
    with keeping_losses(path):
        train_on(engine, config, resume)


def resumed(folder: Path, label: str) -> None:
    """Half a training, its rest by this engine, and the rest of one that one process began."""
    for name in ("half", "whole"):
        train_variant(folder, label, f"everything32:{name}", **HALF)
    train_variant(folder, label, "everything32:whole", resume="auto")
    other = folder / "runs" / "half-one" / "checkpoints" / "step-00000006"
    train_variant(folder, label, "everything32:from-one", resume=str(other))


def main(folder: Path, label: str, names: list[str]) -> None:
    engine = train_variant.engine = Engine()
    for name in names:
        if name == "desync":
            engine.agree("epoch 3, group 7")
            engine.agree(f"epoch 3, group {8 + engine.rank}")
        elif name == "states":
            predictions(engine, folder)
        elif name == "resumed":
            resumed(folder, label)
        elif name.startswith("poison:"):
            poison = name.removeprefix("poison:")
            variant, put_in = (POISONS | ZERO_POISONS | HARMLESS)[poison]
            with poisoned(put_in):
                train_variant(folder, label, f"{variant}:{poison}")
        else:
            train_variant(folder, label, name)
    engine.leave(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
