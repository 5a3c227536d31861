"""`python -m sptmod_dist`, the same as `sptmod-dist`."""

import sys

from sptmod_dist.cli import main

sys.exit(main())
