"""How much the ranks tell each other, by arithmetic, and what a stated model makes of it.

All bytes are of float32 weights. An iteration reduces the effect network's gradients; the first of
a group the SPN's too; a group begins and ends with a few numbers from everyone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.model.config import SPTModConfig

LOSS_TERMS = 5


@dataclass(frozen=True)
class Traffic:
    """What one rank gives to exchanges.

    Args:
        model: whose gradients.
        n_iterations: in a group, `N`.
        slices: of a rank's rows; more than one only with micro-batches or virtual shards.
    """

    model: SPTModConfig
    n_iterations: int
    slices: int = 1

    @property
    def effect(self) -> int:
        """Bytes of the effect network's gradient."""
        return _bytes(SPTMod(self.model))

    @property
    def spn(self) -> int:
        """Bytes of the SPN's gradient, once a group."""
        return _bytes(StatePredictionNetwork(self.model))

    @property
    def gradients(self) -> int:
        """Bytes of gradients in a group under DDP."""
        return self.n_iterations * self.effect + self.spn

    @property
    def start(self) -> int:
        """Bytes before a group: position and failure, in float64."""
        return 8 * 2

    @property
    def end(self) -> int:
        """Bytes after a group: two flags, the losses of every slice, two norms, in float64."""
        return 8 * (2 + self.n_iterations * (self.slices * LOSS_TERMS + 2))


@dataclass(frozen=True)
class Network:
    """What an exchange is assumed to cost."""

    hop: float = 10e-6
    """Seconds that a message takes from one GPU to the next, software included."""
    bandwidth: float = 20e9
    """Bytes a second that each GPU sends."""

    def reduction(self, n_bytes: int, ranks: int, ring: bool = False) -> float:
        """Seconds of an all-reduce: up and down a tree, or twice round the ring."""
        hops = 2 * (ranks - 1) if ring else 2 * math.ceil(math.log2(ranks))
        return hops * self.hop + sent_by_reduction(n_bytes, ranks) / self.bandwidth

    def gathering(self, n_bytes: int, ranks: int, ring: bool = False) -> float:
        """Seconds of an all-gather."""
        hops = ranks - 1 if ring else math.ceil(math.log2(ranks))
        return hops * self.hop + sent_by_gathering(n_bytes, ranks) / self.bandwidth

    def iteration(self, traffic: Traffic, ranks: int, ring: bool = False) -> float:
        """Seconds of an iteration's exchanges, none of them hidden behind the computation."""
        once = self.reduction(traffic.spn, ranks, ring)
        once += self.gathering(traffic.start, ranks, ring)
        once += self.gathering(traffic.end, ranks, ring)
        return self.reduction(traffic.effect, ranks, ring) + once / traffic.n_iterations


def sent_by_reduction(n_bytes: int, ranks: int) -> float:
    """Bytes that a rank sends while a tensor of so many is summed over all, in a ring."""
    return 2 * (ranks - 1) / ranks * n_bytes


def sent_by_gathering(n_bytes: int, ranks: int) -> float:
    """Bytes that a rank sends while everyone's tensor of so many comes to all, in a ring."""
    return (ranks - 1) * n_bytes


def _bytes(network: nn.Module) -> int:
    return sum(4 * parameter.numel() for parameter in network.parameters())
