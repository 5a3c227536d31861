"""Memory for batches, used again as soon as nobody holds the tensors that were in it.

Fresh memory costs as much as the reading: the system hands it out page by page. It knows neither
batches nor data.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor


class Buffers:
    """Gives float32 tensors whose memory comes back when the last view of it is gone.

    Any thread may ask. At most as much memory is kept as was in use at one time.

    Args:
        pinned: for copies to a GPU beside the computation; torch recycles pinned memory itself.
    """

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: dict[int, list[np.ndarray]] = defaultdict(list)

    def empty(self, *shape: int) -> Tensor:
        """A tensor of this shape, with whatever stood there before."""
        if self._pinned:
            return torch.empty(shape, dtype=torch.float32, pin_memory=True)
        size = math.prod(shape)
        free = self._free[size]
        memory = free.pop() if free else np.empty(size, np.float32)
        lent = memory[:]  # the tensor keeps this view alive, and every view of the tensor does
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(shape)
