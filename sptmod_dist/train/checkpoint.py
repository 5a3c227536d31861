"""Checkpoints in one canonical form: safetensors and JSON, named by parameter, free of any engine.

A checkpoint is a folder that appears whole or not at all. It is written at group boundaries alone,
where no state lives, so it holds no audio and nothing of any rank.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sptmod_dist.errors import UserError
from sptmod_dist.files import fsync_dir, fsync_file, read_plain

FORMAT = "sptmod-checkpoint-1"
WEIGHTS, MOMENTS, AVERAGES, STATE, MANIFEST = (
    "weights.safetensors",
    "moments.safetensors",
    "averages.safetensors",
    "state.json",
    "manifest.json",
)

MOMENT_NAMES = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of a parameter."""

_NEW, _OLD = ".writing-", ".replaced-"


Tensors = dict[str, Tensor]


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another format."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on as if it had never stopped."""

    weights: Tensors
    """Both networks' parameters: `effect.NAME`, `spn.NAME`."""
    moments: Tensors
    """For each parameter Adam's `exp_avg`, `exp_avg_sq` and `step`."""
    state: dict[str, Any]
    """Progress, resolved config, data's geometry and fingerprints, versions."""
    averages: Tensors = field(default_factory=dict)
    """The moving averages of the weights, where the training keeps them."""


def digest(path: Path) -> str:
    """SHA-256 of a plain file, in hexadecimal.

    Raises:
        OSError: it is none, or cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    """A plain file, patiently: on a network a read may fail and the next one not."""
    for wait in (0.2, 1.0):
        try:
            return read_plain(path)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
                raise
            time.sleep(wait)
    return read_plain(path)


def tidy(folder: Path) -> None:
    """After a process that was killed: remove what is half, put back what was being replaced."""
    for path in folder.glob(f"{_OLD}*"):
        target = folder / path.name.removeprefix(_OLD)
        if target.exists():
            remove(path)
        else:
            path.rename(target)
    for path in folder.glob(f"{_NEW}*"):
        remove(path)


def remove(path: Path) -> None:
    """Remove a checkpoint; of one that somebody moved and linked, the link."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)


def save(folder: Path, name: str, checkpoint: Checkpoint) -> Path:
    """Write FOLDER/NAME whole: to a temporary folder, flushed to the disk, then renamed.

    Raises:
        OSError: the disk is full or not writable; what was there before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tidy(folder)
    new, old, target = folder / f"{_NEW}{name}", folder / f"{_OLD}{name}", folder / name
    new.mkdir()
    try:
        _write(new, checkpoint)
        if target.exists():  # the same iteration again, after a resume
            target.rename(old)
        new.rename(target)
        fsync_dir(folder)
    finally:
        tidy(folder)
    return target


def _write(folder: Path, checkpoint: Checkpoint) -> None:
    try:
        save_file(checkpoint.weights, folder / WEIGHTS)
        save_file(checkpoint.moments, folder / MOMENTS)
        if checkpoint.averages:
            save_file(checkpoint.averages, folder / AVERAGES)
    except SafetensorError as error:  # what this library makes of a full disk
        raise OSError(str(error)) from error
    state = json.dumps(checkpoint.state, indent=1, allow_nan=False)
    (folder / STATE).write_text(state + "\n")
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": digest(path)}
        for path in sorted(folder.iterdir())
    }
    manifest = {"format": FORMAT, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for path in folder.iterdir():
        fsync_file(path)
    fsync_dir(folder)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check every byte of it; nothing in it is ever executed.

    Raises:
        CheckpointError: naming the file that is missing, changed or of another format.
    """
    expected = _check(path)
    try:
        state = json.loads(_read(path / STATE))
        averages = load_file(path / AVERAGES) if AVERAGES in expected else {}
        weights, moments = load_file(path / WEIGHTS), load_file(path / MOMENTS)
        checkpoint = Checkpoint(weights, moments, state, averages)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): take another checkpoint") from None
    for key in ("progress", "config", "data"):
        if not isinstance(state, dict) or not isinstance(state.get(key), dict):
            raise CheckpointError(f"{path / STATE} lacks {key!r}: take another checkpoint")
    return checkpoint


def _check(path: Path) -> dict[str, str]:
    """The digest of each file that the manifest names, all of them right."""
    try:
        manifest = json.loads(_read(path / MANIFEST))
        form, files = manifest["format"], manifest["files"]
        needed = {WEIGHTS, MOMENTS, STATE} | ({AVERAGES} & set(files))
        expected = {file: files[file]["sha256"] for file in sorted(needed)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CheckpointError(
            f"{path / MANIFEST} is missing or unreadable, so this is no whole checkpoint: give "
            "another one, such as runs/NAME/checkpoints/step-00001000"
        ) from None
    if form != FORMAT:
        raise CheckpointError(f"{path} has the format {form!r}; this version reads {FORMAT!r}")
    for file, promised in expected.items():
        try:
            actual = digest(path / file)
        except OSError:
            raise CheckpointError(f"{path / file} is missing: take another checkpoint") from None
        if actual != promised:
            raise CheckpointError(f"{path / file} is damaged: take another checkpoint")
    return expected


def check_fit(ours: Tensors, weights: Tensors, moments: Tensors, averages: Tensors) -> None:
    """Refuse what was saved of another model than the one whose parameters are given.

    Raises:
        CheckpointError: a name, shape or type that is not this model's.
    """
    _check_weights(ours, weights)
    if averages:
        _check_weights(ours, averages)
    stepped = {name.rpartition(".")[0] for name in moments}
    for key in sorted(stepped | (set(weights) if moments else set())):
        shapes = [
            tuple(moments[f"{key}.{entry}"].shape) if f"{key}.{entry}" in moments else None
            for entry in MOMENT_NAMES
        ]
        if key not in weights or shapes != [(), *2 * [tuple(weights[key].shape)]]:
            raise CheckpointError(
                f"the checkpoint's optimizer moments of {key} are incomplete or of another "
                "shape: take another checkpoint"
            )


def _check_weights(ours: Tensors, weights: Tensors) -> None:
    for key in sorted({*ours, *weights}):
        if key not in ours or key not in weights:
            where = "the model" if key not in ours else "the checkpoint"
            raise CheckpointError(f"{where} has no parameter {key}: they are of two models")
        want, have = ours[key], weights[key]
        if (want.shape, want.dtype) != (have.shape, have.dtype):
            raise CheckpointError(
                f"the checkpoint's {key} is {tuple(have.shape)} {have.dtype}, the model's "
                f"{tuple(want.shape)} {want.dtype}: they are of two models"
            )


def iteration_of(path: Path) -> int:
    """The iteration that a checkpoint's name tells."""
    return int(path.name.rpartition("-")[2])


def find(folder: Path, prefix: str) -> list[Path]:
    """The checkpoints `PREFIX-NUMBER` in a folder, newest first."""
    found = [
        path
        for path in folder.glob(f"{prefix}-*")
        if path.is_dir() and path.name.removeprefix(f"{prefix}-").isdecimal()
    ]
    return sorted(found, key=iteration_of, reverse=True)


def prune(folder: Path, prefix: str, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints of a kind."""
    for path in find(folder, prefix)[keep:]:
        remove(path)
