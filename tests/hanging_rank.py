"""A rank of a training that is watched and comes to stand still: no model, only steps and reports.

    RANK=… WORLD_SIZE=… MASTER_ADDR=… MASTER_PORT=… hanging_rank.py HOW SECONDS RUN

HOW is `waits` (the last rank sleeps at its fourth group), `holds-the-store` (the same, and rank 0
waits in the store that all share), `goes-on` (forever, up to 50 groups a second) or `works-long`
(the same, but the last rank has much to do in its fourth group).
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from sptmod_dist.train.ranks import Ranks
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.watchdog import Watchdog


def sleep_here_for_long() -> None:
    time.sleep(1000)


def work(watchdog: Watchdog) -> None:
    for _ in range(40):
        time.sleep(0.1)
        watchdog.alive()


def meet(ranks: Ranks, how: str) -> None:
    if how == "holds-the-store" and ranks.is_main:
        dist.distributed_c10d._get_default_store().wait(["never"])
    ranks.share(torch.zeros(1))


def train(how: str, ranks: Ranks, watchdog: Watchdog) -> None:
    for group in range(1_000_000):
        watchdog.at(f"epoch 0, group {group}, learning")
        if group == 3 and ranks.rank == ranks.world_size - 1 and how != "goes-on":
            work(watchdog) if how == "works-long" else sleep_here_for_long()
        time.sleep(0.02)
        watchdog.at(f"epoch 0, group {group}, meeting")
        meet(ranks, how if group == 3 else "")
        watchdog.arm()
        if group == 3:
            print("three groups", flush=True)


def main(how: str, seconds: float, run: RunFolder) -> None:
    rank, world_size = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE"))
    if world_size > 1:
        dist.init_process_group("gloo")
    ranks = Ranks(rank, world_size, torch.device("cpu"))
    watchdog = Watchdog(seconds, ranks, run.log_file(rank))
    try:
        train(how, ranks, watchdog)
    finally:
        watchdog.close()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), RunFolder(Path(sys.argv[3])))
