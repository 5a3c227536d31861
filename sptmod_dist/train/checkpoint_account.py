"""What is in a checkpoint, in words and numbers, whatever engine wrote it.

Only files of the canonical form are opened, by readers that execute nothing. Anything else in the
folder is named and left alone, a pickle above all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import (
    AVERAGES,
    MANIFEST,
    MOMENTS,
    STATE,
    WEIGHTS,
    Checkpoint,
    CheckpointError,
)
from sptmod_dist.train.config import TrainConfig, to_dict
from sptmod_dist.train.progress import Progress
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.tables import columns

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib")
"""Endings of files that can run anything when they are read."""
_NEEDED = (WEIGHTS, MOMENTS, STATE, MANIFEST)


@dataclass(frozen=True)
class File:
    """A file of a checkpoint, or one that is in its folder."""

    name: str
    bytes: int
    fault: str
    """What is wrong with it; nothing where it is whole or none of ours."""
    is_ours: bool = True


def refuse_foreign(path: Path) -> None:
    """Refuse what is no checkpoint by its name and place alone, nothing of it being opened.

    Raises:
        CheckpointError: a file, a pickle, a folder of something else.
    """
    if path.suffix.lower() in PICKLES and not path.is_dir():
        raise CheckpointError(
            f"{path} is a pickle, which can run anything when it is read, so it is not opened: "
            "give a checkpoint's folder, such as runs/NAME/checkpoints/step-00001000"
        )
    if not path.is_dir():
        what = f"is a file: give its folder, {path.parent}" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {what}")
    if not (path / MANIFEST).exists():
        pickles = sorted(p.name for p in path.iterdir() if p.suffix.lower() in PICKLES)
        held = f", only pickles, which are never opened ({', '.join(pickles)})" if pickles else ""
        raise CheckpointError(
            f"{path} holds no checkpoint of ours (no {MANIFEST}){held}: give a run's folder or a "
            "checkpoint's"
        )


def checkpoints_of(path: Path) -> list[Path]:
    """A run's checkpoints, newest first; none where the folder is no run.

    Raises:
        CheckpointError: it is a run without any.
    """
    run = RunFolder(path)
    found = run.all_checkpoints()
    if run.is_run and not found:
        raise CheckpointError(f"{path} has no checkpoint yet: train it, or continue it")
    return found


def files_of(path: Path) -> list[File]:
    """Every file in a checkpoint's folder, and every one that is missing, ours compared byte by
    byte with what the manifest says of them."""
    entries, fault = _manifest(path)
    found = [_ours(path / MANIFEST, None, fault)]
    ours = {*_NEEDED, *({AVERAGES} & set(entries))}
    for name in sorted(ours.union(p.name for p in path.iterdir()) - {MANIFEST}):
        if name in ours:
            found.append(_ours(path / name, entries.get(name), ""))
        else:
            size = (path / name).lstat().st_size
            found.append(File(name, size, "", is_ours=False))
    return found


def _manifest(path: Path) -> tuple[dict[str, Any], str]:
    """What the manifest says of each file, or why it says nothing."""
    if not (path / MANIFEST).is_file():
        return {}, ""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        form, files = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, "is unreadable"
    if form != checkpoint.FORMAT:
        return files, f"has the format {form!r}; this version reads {checkpoint.FORMAT!r}"
    return files, ""


def _ours(path: Path, entry: Any, fault: str) -> File:
    if not path.is_file():  # opening a pipe would wait for ever
        return File(path.name, 0, "is no plain file" if path.exists() else "is missing")
    size = path.stat().st_size
    if path.name != MANIFEST:
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        if digest is None:
            fault = "is not in the manifest"
        elif digest != checkpoint.digest(path):
            fault = "is damaged"
    return File(path.name, size, fault)


def account(path: Path, files: list[File]) -> str:
    """All of it: where the training stood, its settings and data, its files, its parameters.

    Raises:
        CheckpointError: it is not whole, or its state says something impossible.
    """
    saved = checkpoint.load(path)
    sections = {
        str(path): columns(list(_summary(path, saved))),
        "settings that differ from the defaults": _table(
            ("setting", "value", "default"), _changed(saved.state["config"])
        ),
        "data": columns(list(_leaves(saved.state["data"], "")) or [("nothing", "")]),
        "files": file_table(files),
        "parameters": parameter_table(saved),
    }
    return "\n\n".join(f"{title}\n{_indented(text)}" for title, text in sections.items())


def file_table(files: list[File]) -> str:
    """A line a file."""
    rows = [
        (f.name, str(f.bytes), f.fault or ("whole" if f.is_ours else "not ours, not opened"))
        for f in files
    ]
    return _table(("file", "bytes", "state"), rows, {1})


def parameter_table(saved: Checkpoint) -> str:
    """A line a parameter with its shape and its norm, and what each network comes to."""
    rows = [
        (name, "x".join(map(str, weight.shape)) or "scalar", f"{_norm(weight):.6g}")
        for name, weight in saved.weights.items()
    ]
    totals = []
    for network in sorted({name.partition(".")[0] for name in saved.weights}):
        own = [w for name, w in saved.weights.items() if name.partition(".")[0] == network]
        count, size = sum(w.numel() for w in own), sum(w.nbytes for w in own)
        norm = sum(_norm(weight) ** 2 for weight in own) ** 0.5
        totals.append(f"{network}: {count:,} parameters, {size:,} bytes, norm {norm:.6g}")
    for kind, tensors in (("moments", saved.moments), ("averages", saved.averages)):
        size = sum(tensor.nbytes for tensor in tensors.values())
        totals.append(f"{kind}: {len(tensors)} tensors, {size:,} bytes")
    return "\n".join([_table(("parameter", "shape", "norm"), rows, {2}), *totals])


def _norm(weight: Tensor) -> float:
    return weight.double().norm().item()


def _summary(path: Path, saved: Checkpoint) -> Iterator[tuple[str, str]]:
    try:
        progress = Progress.from_dict(saved.state["progress"])
    except ValueError as error:
        raise CheckpointError(f"{path / STATE}: {error}: take another checkpoint") from None
    best = "none yet"
    if progress.best is not None:
        best = f"{progress.best:.4f} at iteration {progress.best_iteration}"
    yield "format", f"{checkpoint.FORMAT}, every file whole"
    yield "iteration", str(progress.iteration)
    yield "epoch", f"{progress.epoch}, group {progress.group} next"
    yield "best ST", best
    seconds = saved.state.get("seconds")
    if type(seconds) is float:
        yield "hours", f"{seconds / 3600:.2f}"
    versions = saved.state.get("versions")
    for name, version in sorted(versions.items()) if isinstance(versions, dict) else ():
        yield name, str(version)


def _changed(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Settings that are not the defaults of this version, with these."""
    defaults = dict(_leaves(to_dict(TrainConfig()), ""))
    rows = []
    for key, value in _leaves(config, ""):
        if value != defaults.get(key):
            rows.append((key, value, defaults.get(key, "not known")))
    return rows


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False)


def _table(
    titles: tuple[str, ...], rows: list[tuple[Any, ...]], to_the_right: set[int] | None = None
) -> str:
    return columns([titles, *rows], to_the_right or ())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
