"""What the ranks of the distributed tests run: trainings in a row, and one group by hand.

    torchrun … rank_program.py FOLDER VARIANT …
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from models import batch
from safetensors.torch import save_file
from toy import toy_config
from variants import STATES, VARIANTS

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.main import train_on


def predictions(engine: Engine, folder: Path) -> None:
    """Each rank runs a group over its own rows; what it predicts and keeps is written down."""
    config = STATES
    torch.manual_seed(2)
    spn = StatePredictionNetwork(config).double()
    engine.wrap(SPTMod(config).double(), spn, learning_rate=0.0)
    schedule = Schedule(config, (64, 32, 48))
    x, y, controls = batch(config, schedule.sequence_length, rows=4, dtype=torch.float64)
    share = 4 // engine.world_size
    rows = slice(engine.rank * share, (engine.rank + 1) * share)
    state, written = None, {}
    for sub in schedule.split(x[rows], y[rows], controls[rows]):
        step = forward(engine.effect, engine.spn, sub, state)
        engine.step((step.prediction - sub.target).abs().mean(), step.seam)
        state = step.state.detach()
        written[f"prediction{sub.index}"] = step.prediction.detach().contiguous()
        written[f"rnn{sub.index}"] = state.rnn.transpose(0, 1).contiguous()
    save_file(written, folder / f"states-{engine.world_size}-{engine.rank}.safetensors")


def main(folder: Path, names: list[str]) -> None:
    engine = Engine()
    for name in names:
        if name == "desync":
            engine.agree("epoch 3, group 7")
            engine.agree(f"epoch 3, group {8 + engine.rank}")
        if name == "states":
            predictions(engine, folder)
            continue
        changes = {**VARIANTS[name], "name": f"{name}-{engine.world_size}"}
        train_on(engine, toy_config(folder, **changes))
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
