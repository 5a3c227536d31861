"""Losses and gradients that are no numbers any more: which rank was first, at which step."""

from __future__ import annotations

from torch import Tensor

from sptmod_dist.train.ranks import SharedError


class Diverged(SharedError):
    """A training whose loss is not finite; every rank raises it alike."""


def not_finite(terms: Tensor, norms: Tensor, before: int) -> str | None:
    """Where a group first went wrong, in words; None where it did not.

    After a step on a gradient that is not finite every rank's losses are so: the first tells who.

    Args:
        before: iterations before the group.

    Shape: terms of every rank [W, slices, N, terms], norms [N, 2].
    """
    bad = ~terms.isfinite().all(dim=(1, 3))  # [W, N]
    either = bad.any(0) | ~norms.isfinite().all(1)
    if not either.any():
        return None
    first = int(either.long().argmax())
    ranks = [str(rank) for rank, row in enumerate(bad) if row[first]]
    who = f"the loss of rank {', '.join(ranks)}" if ranks else "a gradient"
    return f"{who} is not finite at iteration {before + first + 1}"
