"""Build the sets of shards that a training reads; the program itself is in the package.

    python shards/build.py --config launch/configs/demo.yaml \\
        --manifest shards/data/demo-recordings/manifest.yaml --out shards/data/demo

This is `sptmod-dist shards build`; `--overwrite` replaces other sets, `--help` tells the rest, and
shards/README.md describes what is written.
"""

import sys

from sptmod_dist.cli import main

sys.exit(main(["shards", "build", *sys.argv[1:]]))
