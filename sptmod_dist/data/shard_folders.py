"""The folder that holds the sets of all splits: one builder at a time, old sets till new are whole.

New sets are made in a hidden folder beside the sets to be. When they are complete, a list of moves
is written, then made: whoever comes after a builder that was killed on the way makes the rest. It
knows names of folders, nothing of what is in them.

    OUT/train, OUT/validation, OUT/test
    OUT/.building-DIGEST     sets that are being made; the digest is of all that they depend on
    OUT/.building-lock       while a builder runs
    OUT/.replaced-…          former sets, on their way out
"""

from __future__ import annotations

import errno
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.locks import locked
from sptmod_dist.data.recordings import SPLITS
from sptmod_dist.files import atomic_write, fsync_dir

_BUILDING, _REPLACED, _MOVES = ".building-", ".replaced-", "moves.json"
_LOCK = ".building-lock"


@contextmanager
def one_builder(out: Path) -> Iterator[None]:
    """Make the folder, and keep other builders out of it. The lock goes when the process does.

    What a builder that was killed while it changed the sets' places left to do is done first.

    Raises:
        ShardError: another one is in it, or the folder cannot be made or written to.
    """
    with ExitStack() as held:
        try:
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(out / _LOCK, wait=False))
        except BlockingIOError:
            raise ShardError(
                f"{out}: another build is running there: wait for it, or choose another folder"
            ) from None
        except OSError as error:
            raise ShardError(
                f"{out} cannot be made or written to ({error.strerror}): choose another folder"
            ) from None
        held.callback((out / _LOCK).unlink, missing_ok=True)
        with in_words(out):
            for moves in sorted(out.glob(f"{_BUILDING}*/{_MOVES}")):
                _finish(out, moves.parent)
            for folder in out.glob(f"{_REPLACED}*"):
                shutil.rmtree(folder, ignore_errors=True)
        yield


def finish_moves(out: Path) -> None:
    """Make the moves that a builder who was killed had not made: sets stand where they belong.

    Raises:
        ShardError: another builder is at work there.
    """
    if any(out.glob(f"{_BUILDING}*/{_MOVES}")):
        with one_builder(out):
            pass


@contextmanager
def building(out: Path, digest: str) -> Iterator[Path]:
    """The hidden folder for the sets of this digest, with what an earlier build left in it.

    It is gone afterwards, but where the process is interrupted: then another can go on.

    Raises:
        ShardError: the disk does not take what the block writes.
    """
    folder = out / f"{_BUILDING}{digest}"
    try:
        with in_words(out):
            folder.mkdir(exist_ok=True)
            yield folder
    except Exception:
        _discard(folder)
        raise
    _discard(folder)


def _discard(folder: Path) -> None:
    if not (folder / _MOVES).exists():  # else it may hold former sets
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_words(out: Path) -> Iterator[None]:
    """Turn what the system refuses into a sentence.

    Raises:
        ShardError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise ShardError(
                f"{out}: something else wrote here meanwhile ({error.filename}): run it again"
            ) from error
        raise ShardError(
            f"{out}: the shards cannot be written ({error.strerror}): free the disk or choose "
            "another folder"
        ) from error


def leftovers(out: Path, digest: str) -> list[Path]:
    """What interrupted builds of something else than this digest left."""
    found = [path for path in sorted(out.glob(f"{_BUILDING}*")) if path.is_dir()]
    return [path for path in found if path.name != f"{_BUILDING}{digest}"]


def replace(out: Path, folder: Path, new: Sequence[str], old: Sequence[str]) -> None:
    """Put the new sets, which are complete, in the place of the old ones.

    When that fails half-way, the old go back; when the process is killed, the next builder finishes
    it.

    Args:
        out: holds the old sets.
        folder: holds the new ones: see `building`.
        new: splits of the new sets.
        old: splits of the old ones.
    """
    moves = _moves(out, folder, new, old)
    try:
        with atomic_write(folder / _MOVES) as temporary:
            temporary.write_text(json.dumps({"old": list(old), "new": list(new)}))
        for source, target in moves:
            source.rename(target)
    except BaseException:  # a Ctrl-C may come when a move is made: what stands where is looked at
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                target.rename(source)
        (folder / _MOVES).unlink(missing_ok=True)
        raise
    _conclude(out, folder)


def _moves(
    out: Path, folder: Path, new: Sequence[str], old: Sequence[str]
) -> list[tuple[Path, Path]]:
    away = [(out / split, folder / f"old-{split}") for split in old]
    return away + [(folder / split, out / split) for split in new]


def _finish(out: Path, folder: Path) -> None:
    """Make the moves that a killed builder had not made."""
    splits = json.loads((folder / _MOVES).read_text())
    new, old = ([s for s in SPLITS if s in splits[which]] for which in ("new", "old"))
    for source, target in _moves(out, folder, new, old):
        if source.exists() and not target.exists():
            source.rename(target)
    _conclude(out, folder)


def _conclude(out: Path, folder: Path) -> None:
    """The new sets are in place: from now on, the folder holds nothing but old ones."""
    fsync_dir(out)
    gone = out / f"{_REPLACED}{secrets.token_hex(8)}"  # one before may be there, held by a reader
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
