"""One process trains every variant; each engine's tests launch it once and compare."""

from __future__ import annotations

import pytest
import torch
from parity import train_one
from poisons import HARMLESS, POISONS, poisoned
from toy import make_toy
from variants import VARIANTS

from sptmod_dist.train.engine import Engine


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """The folder of the toy data, with every variant trained on one process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("distributed")
    make_toy(folder)
    (folder / "start").mkdir()
    for name in VARIANTS:
        train_one(folder, name)
    train_one(folder, "half", "everything32", stopping={"max_iterations": 6})
    both = {"ratio": POISONS["ratio"], "skipped": HARMLESS["skipped"]}
    for name, (variant, poison) in both.items():
        with poisoned(poison):
            train_one(folder, name, variant)
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()
