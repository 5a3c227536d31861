"""Where a pair is cut: into pieces that train, validate and test, spread over all of its time.

The pair is divided into rounds, and each round into a long piece to train on and two short ones
that training never hears, so that each split has something of each part of the source. Numbers of
samples only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sptmod_dist.errors import UserError
from sptmod_dist.model.lengths import GroupLengths

HELD_OUT = 0.15
"""Share of the time for validation, and once more for the test."""
MOST_HELD_SECONDS = 60.0
"""What each of them has at most."""
LEAST_SECONDS = 3.0
"""A shorter piece says little: every piece starts with a model that knows nothing of the past."""
MOST_ROUNDS = 4


@dataclass(frozen=True)
class Piece:
    """Samples `start … stop` of the pair, and the split that they are for."""

    split: str
    number: int
    start: int
    stop: int

    @property
    def id(self) -> str:
        """As in the manifest."""
        return f"{self.split}-{self.number}"


def cut(
    samples: int,
    rate: int,
    lengths: GroupLengths,
    batch_size: int,
    sounds: Callable[[int, int], bool] = lambda start, stop: True,
) -> tuple[Piece, ...]:
    """Cut a pair.

    Args:
        samples: how long it is.
        rate: in Hz.
        lengths: of the model's sequences, of which every piece must hold one.
        batch_size: so many sequences the pieces to train on must hold together.
        sounds: whether both sides of the samples `start … stop` are more than silence; other
            pieces are left out.

    Raises:
        UserError: it is too short for this model, or silent where it is held out.
    """
    rounds = _rounds(samples, rate, lengths, batch_size)
    if not rounds:
        raise UserError(_too_short(samples, rate, lengths, batch_size))
    pieces = [piece for piece in _pieces(samples, rate, rounds) if sounds(piece.start, piece.stop)]
    for split in ("train", "validation", "test"):
        if all(piece.split != split for piece in pieces):
            raise UserError(
                f"the recording is silent in all of its pieces for {split}: record more, with "
                "music in all of its parts"
            )
    return tuple(pieces)


def _held(samples: int, rate: int) -> int:
    """Samples of all pieces of a split that is held out."""
    return round(min(HELD_OUT * samples, MOST_HELD_SECONDS * rate))


def _rounds(samples: int, rate: int, lengths: GroupLengths, batch_size: int) -> int:
    """The most rounds in which every piece is long enough; 0: there is none."""
    least = max(lengths.sequence_length, round(LEAST_SECONDS * rate))
    rounds = min(MOST_ROUNDS, _held(samples, rate) // least)
    while rounds and _sequences(samples, rate, rounds, lengths) < batch_size:
        rounds -= 1
    return rounds


def _sequences(samples: int, rate: int, rounds: int, lengths: GroupLengths) -> int:
    pieces = [piece for piece in _pieces(samples, rate, rounds) if piece.split == "train"]
    return sum(lengths.n_sequences(piece.stop - piece.start) for piece in pieces)


def _pieces(samples: int, rate: int, rounds: int) -> list[Piece]:
    held, pieces = _held(samples, rate) // rounds, []
    for number in range(rounds):
        start, stop = (samples * n // rounds for n in (number, number + 1))
        edges = [start, stop - 2 * held, stop - held, stop]
        for split, first, last in zip(
            ("train", "validation", "test"), edges[:-1], edges[1:], strict=True
        ):
            pieces.append(Piece(split, number, first, last))
    return pieces


def _too_short(samples: int, rate: int, lengths: GroupLengths, batch_size: int) -> str:
    low, high = samples, 2 * samples
    while not _rounds(high, rate, lengths, batch_size):
        low, high = high, 2 * high
    while high - low > rate // 100:
        middle = (low + high) // 2
        enough = _rounds(middle, rate, lengths, batch_size)
        low, high = (low, middle) if enough else (middle, high)
    return (
        f"the recordings have {samples / rate:.1f} s in common, and this model needs "
        f"{high / rate + 0.1:.1f} s to learn, validate and test: record more, or lower lengths, "
        "batch_size or the model's lookback"
    )
