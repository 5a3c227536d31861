"""torchrun without its traceback where a signal ends it: `fit` says what was stopped."""

from __future__ import annotations

import sys


def main() -> int:
    """Run torchrun with this program's arguments."""
    try:
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.run import main as torchrun
    except KeyboardInterrupt:  # it takes seconds to import
        return 130
    try:
        torchrun()
    except (KeyboardInterrupt, SignalException):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
