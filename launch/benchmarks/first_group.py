"""A training that ends after some groups, and prints when the first was done and what saves took.

    python -m benchmarks.first_group LAUNCHED GROUPS [OPTIONS OF TRAIN]

LAUNCHED is the time at which the program that waits for it began, in seconds since 1970.
"""

from __future__ import annotations

import json
import os
import sys
import time

from sptmod_dist.cli import main
from sptmod_dist.train.trainer import Trainer

launched, groups = float(sys.argv[1]), int(sys.argv[2])
end, save = Trainer._end_of_group, Trainer._save
ready: list[float] = []
stalls: list[float] = []


def ending(self, *arguments):
    end(self, *arguments)
    ready.append(time.time() - launched)
    if len(ready) == groups:
        print(json.dumps({"ready": ready[0], "stalls": stalls}), flush=True)
        os._exit(0)


def saving(self, kind):
    begun = time.perf_counter()
    save(self, kind)
    stalls.append(time.perf_counter() - begun)


if __name__ == "__main__":
    Trainer._end_of_group, Trainer._save = ending, saving
    sys.exit(main(["train", *sys.argv[3:]]))
