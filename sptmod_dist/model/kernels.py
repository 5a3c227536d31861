"""Which form of a layer runs: as it is written down, or one that a CPU computes faster.

Both give the same numbers up to the order of sums. On other devices, under autocast, where PyTorch
follows the layers itself (tracing, compiling, export) and in small blocks of a stream, for which
calls cost more than arithmetic, layers always run as written.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kernels = Literal["fast", "plain"]

LEAST_SAMPLES = 1024
"""Of a block without gradients."""

_chosen: Kernels = "fast"


def use_kernels(kernels: Kernels) -> None:
    """Choose for all layers of this process, from now on."""
    global _chosen
    _chosen = kernels


def is_fast(x: Tensor) -> bool:
    """Whether a layer may take its fast form for this input."""
    return (
        _chosen == "fast"
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and (torch.is_grad_enabled() or x.shape[-1] >= LEAST_SAMPLES)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )
