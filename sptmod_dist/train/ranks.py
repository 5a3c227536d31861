"""This process among the others: what the ranks tell each other, and how they fail together.

Everything here happens at a group's boundary or outside the loop; gradients are not its business.
It knows torch.distributed and no launcher.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sptmod_dist.errors import UserError

T = TypeVar("T")
_FAILURE = "sptmod-dist/failure"


class EngineError(UserError):
    """A launch that this training cannot honour, or ranks that do not agree."""


class SharedError(EngineError):
    """An error that every rank raises alike; one message is enough."""

    everywhere = True


class Ranks:
    """The processes of one training.

    Args:
        rank: of this process, from 0.
        world_size: how many there are; with more than one, torch.distributed is up.
        device: where small exchanges travel.
    """

    def __init__(self, rank: int, world_size: int, device: torch.device) -> None:
        self.rank, self.world_size, self.device = rank, world_size, device
        self.meeting = ""
        """A word that these processes share, and no others, once they have met."""

    def meet(self) -> None:
        """Agree on a word: what was told to a launcher's store before it started processes anew may
        still be there."""
        self.meeting = self.on_main(lambda: uuid.uuid4().hex)

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes files and talks to the user."""
        return self.rank == 0

    def together(self, action: Callable[[], T]) -> T:
        """Run an action without collectives on every rank; where one refuses, all refuse alike.

        Raises:
            SharedError: the first refusal, with its rank where that is not 0.
        """
        try:
            result, refusal = action(), None
        except UserError as error:
            refusal = str(error)
        for rank, message in enumerate(self.gather([refusal])):
            if message is not None:
                raise SharedError(message if rank == 0 else f"[rank {rank}] {message}")
        return result

    def on_main(self, action: Callable[[], T]) -> T:
        """Run an action on rank 0 and give its result, or its refusal, to every rank.

        Raises:
            SharedError: rank 0's refusal.
        """
        packet: list[Any] = [None]
        self.together(lambda: packet.__setitem__(0, action()) if self.is_main else None)
        if self.world_size > 1:
            dist.broadcast_object_list(packet)
        return packet[0]

    def gather(self, items: list[T]) -> list[T]:
        """All ranks' lists, joined in the order of the ranks, on every rank."""
        if self.world_size == 1:
            return items
        lists: list[Any] = [None] * self.world_size
        dist.all_gather_object(lists, items)
        return [item for each in lists for item in each]

    def share(self, values: Tensor) -> Tensor:
        """Every rank's few numbers on every rank: [n] -> [W, n], on the CPU."""
        return self.stack(values[None].to(self.device)).cpu()

    def stack(self, rows: Tensor) -> Tensor:
        """Every rank's rows on every rank, in the order of the ranks: [m, n] -> [W * m, n]."""
        if self.world_size == 1:
            return rows
        everyone = [torch.empty_like(rows) for _ in range(self.world_size)]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    def spread(self, values: Tensor, source: int) -> Tensor:
        """One rank's tensor on every rank, on the CPU; the others give one of its shape and type.

        Args:
            source: the rank that has it.
        """
        if self.world_size == 1:
            return values
        values = values.to(self.device, copy=True)
        dist.broadcast(values, src=source)
        return values.cpu()

    def agree(self, position: str, error: UserError | None = None) -> None:
        """Check that every rank is about to learn from the same group, and that none has failed.

        Args:
            position: what must be equal on all ranks: epoch, group, sequences.
            error: what went wrong here, if anything did; it ends all ranks.

        Raises:
            SharedError: naming the rank that failed, or both positions where two differ.
        """
        digest = hashlib.blake2b(position.encode(), digest_size=6).digest()
        mine = [float(int.from_bytes(digest, "big")), float(error is not None)]
        table = self.share(torch.tensor(mine, dtype=torch.float64))
        if table[:, 1].any():
            self.together(lambda: _raise(error))
        if (table[:, 0] != table[0, 0]).any():
            positions = self.gather([position])
            other = next(r for r, p in enumerate(positions) if p != positions[0])
            raise SharedError(
                f"the ranks have lost each other: rank 0 is at {positions[0]:.200}, rank {other} "
                f"at {positions[other]:.200}; all were stopped before they learned from it"
            )

    def speaks(self) -> bool:
        """Whether this rank is the first to fail: it tells the user, and all others keep silent.

        The word stands in the launcher's store, which outlives the exchange of gradients: that is
        broken as soon as one process is gone.
        """
        if self.world_size == 1:
            return True
        try:
            store = dist.distributed_c10d._get_default_store()
            first = store.compare_set(f"{_FAILURE}/{self.meeting}", "", str(self.rank))
            return bool(first == str(self.rank).encode())
        except Exception:  # rank 0 may have held the store: who is next tells what it can
            return self.rank == 1


def is_broken_exchange(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone or silent."""
    text = str(error).lower()
    words = ("gloo", "nccl", "connection closed", "connection reset", "socket timeout")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    )


def is_timeout(error: BaseException) -> bool:
    """Whether the others were waited for in vain."""
    return "timed out" in str(error).lower() or "timeout" in str(error).lower()


def _raise(error: UserError | None) -> None:
    if error is not None:
        raise error
