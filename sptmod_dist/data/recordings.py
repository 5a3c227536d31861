"""The manifest of a folder of recordings: files that belong together, their settings and split.

One *item* is a source recorded through the device under one setting. The manifest is written by
people and by programs, so everything in it is checked, and every refusal names the file. It must
not know of models, windows or shards.

    format: sptmod-recordings-1
    sample_rate: 44100
    device: "free text: what was recorded"
    controls:  # [] for a snapshot
      - {name: ratio, minimum: 1.5, maximum: 10, scale: log, unit: ":1"}
    items:  # or the name of a table: items.csv, items.jsonl (see item_tables.py)
      - {id: a2, input: a.wav, output: a-ratio2.wav, controls: {ratio: 2}, split: train}

Paths are relative to the manifest's folder and never leave it; `sidechain:` may name a third file.
Where `split` is missing, the items are still to be divided. `may_clip: true` says that waves which
are flat at full scale are the device's own; a fold has `divided_from:`, what it was made of.
Snapshots and grids of controls: DAFx25, section on data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.controls import Control, Setting, normalised_vector, unique_controls
from sptmod_dist.data.documents import check_keys
from sptmod_dist.data.item_tables import read_table, write_table
from sptmod_dist.data.recording_checks import check_finite, check_fits, check_heard, first_clipping
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.yaml_files import dump, read_mapping

FORMAT = "sptmod-recordings-1"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Item:
    """One recording: its files, and the setting of every control. `split` is one of `SPLITS`, or
    empty before the items are divided."""

    id: str
    input: Path
    sidechain: Path | None
    output: Path
    settings: dict[str, Setting]
    split: str


@dataclass(frozen=True)
class Manifest:
    """A folder of recordings; `path` is the manifest file, in whose folder the items' paths lie."""

    path: Path
    sample_rate: int
    device: str
    controls: tuple[Control, ...]
    items: tuple[Item, ...]
    may_clip: bool = False
    """Whether waves that are flat at full scale are the device's own, and not a converter's."""
    divided_from: dict[str, str] | None = None
    """Of a fold: `file`, the manifest beside it that was divided, and its `digest` at that time."""

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """Read and check a manifest, YAML or JSON. Audio is not opened yet, but it must be there.

        Raises:
            UserError: anything unknown, missing, doubled, of a wrong type or outside a range; a
                path that leaves the folder; one output in two items.
        """
        path = Path(path)
        top = check_keys(
            read_mapping(path),
            ("format", "sample_rate", "device", "controls", "items"),
            ("may_clip", "divided_from"),
            str(path),
        )
        if top["format"] != FORMAT:
            raise UserError(
                f"{path}: format is {brief(top['format'])}, not '{FORMAT}'; correct it."
            )
        controls = unique_controls(_list(path, top, "controls"), path)
        entries = _entries(path, top, controls)
        items = [_item(path, entry, where, controls) for where, entry in entries]
        _check_apart(path, items)
        device = _text(top["device"], "device", str(path))
        may_clip = top.get("may_clip", False)
        if not isinstance(may_clip, bool):
            raise UserError(f"{path}: may_clip is {brief(may_clip)}; write true or false.")
        rate = _rate(path, top["sample_rate"])
        divided_from = top.get("divided_from")
        _check_divided(path, divided_from)
        return cls(path, rate, device, controls, tuple(items), may_clip, divided_from)

    @property
    def digest(self) -> str:
        """Of all that it says of its items but for their splits."""
        entries = [_item_dict(replace(item, split=""), self.path.parent) for item in self.items]
        controls = [control.to_dict() for control in self.controls]
        says = json.dumps([self.sample_rate, controls, entries], sort_keys=True)
        return hashlib.sha256(says.encode()).hexdigest()

    def write(self, path: str | Path, items_file: str | None = None) -> None:
        """Write the manifest as YAML, whole or not at all, into the folder of its recordings.

        Args:
            path: of the file.
            items_file: list the items in a table of this name beside it, `.csv` or `.jsonl`.
        """
        path = Path(path)
        entries = [_item_dict(item, self.path.parent) for item in self.items]
        top = {
            "format": FORMAT,
            "sample_rate": self.sample_rate,
            "device": self.device,
            "controls": [control.to_dict() for control in self.controls],
            **({"may_clip": True} if self.may_clip else {}),
            **({"divided_from": self.divided_from} if self.divided_from else {}),
            "items": items_file or entries,
        }
        with atomic_write(path) as temporary:
            temporary.write_text(
                dump(top), encoding="utf-8"
            )
            if items_file is not None:  # in place just before the manifest that names it
                write_table(path.parent / items_file, entries, [c.name for c in self.controls])

    def of_split(self, split: str) -> tuple[Item, ...]:
        """The items of one split, in the manifest's order."""
        return tuple(item for item in self.items if item.split == split)


@dataclass(frozen=True)
class Recording:
    """An item's audio, float32: input `[C+S, T]` (the sidechain after the audio), output `[C, T]`,
    and the controls from 0 to 1 in the manifest's order."""

    input: np.ndarray
    output: np.ndarray
    vector: list[float]


def load_item(
    manifest: Manifest, item: Item, clipped: Callable[[Path, float], object] | None = None
) -> Recording:
    """Read an item's audio, check it, and remove the output's DC offset.

    Args:
        manifest: that lists the item.
        item: which.
        clipped: is told the file and the second of a clipping that may not be, in place of a
            refusal: what is only measured need not be perfect.

    Raises:
        UserError: a file that cannot be read, another rate than the manifest's, lengths or channels
            that differ, a NaN or infinite sample, clipping, or silence.
    """
    clipped = clipped or _refuse_clipping
    dry = _load(manifest, item.input, clipped)
    wet = _load(manifest, item.output, None if manifest.may_clip else clipped)
    if dry.shape[0] != wet.shape[0]:
        raise UserError(
            f"{item.output} has {wet.shape[0]} channels and its input {item.input} has "
            f"{dry.shape[0]}; record both with the same number."
        )
    check_fits(item.output, wet, item.input, dry)
    check_heard(item.input, dry)
    wet = audio.remove_dc(wet)
    check_heard(item.output, wet)
    if item.sidechain is not None:
        key = _load(manifest, item.sidechain, clipped)
        check_fits(item.sidechain, key, item.input, dry)
        dry = np.concatenate([dry, key])  # [C+S, T]
    return Recording(dry, wet, normalised_vector(manifest.controls, item.settings))


def _refuse_clipping(path: Path, seconds: float) -> None:
    raise UserError(
        f"{path} is clipped at {seconds:.3f} s; record it again at a lower level, or add may_clip: "
        "true to the manifest where the device itself does it."
    )


def _load(
    manifest: Manifest, path: Path, clipped: Callable[[Path, float], object] | None
) -> np.ndarray:
    rate = audio.info(path).rate
    if rate != manifest.sample_rate:
        raise UserError(
            f"{path} has a sample rate of {rate} Hz and {manifest.path} states "
            f"{manifest.sample_rate} Hz; resample the file or correct the manifest."
        )
    samples, _ = audio.read(path)
    check_finite(path, samples, rate)
    if clipped and (first := first_clipping(samples)) is not None:
        clipped(path, first / rate)
    return samples


def _check_divided(path: Path, divided_from: Any) -> None:
    """Refuse a fold whose manifest has been written anew: its files may hold other settings."""
    if divided_from is None:
        return
    entry = check_keys(divided_from, ("file", "digest"), (), f"{path}, divided_from")
    whole = path.parent / _text(entry["file"], "file", f"{path}, divided_from")
    if whole.is_file() and Manifest.read(whole).digest != entry["digest"]:
        raise UserError(
            f"{path} divides another {whole.name} than the one that stands beside it, so its "
            f"settings may be wrong: divide that anew with `sptmod-dist split {whole} --overwrite`."
        )


def _entries(
    path: Path, top: dict[str, Any], controls: tuple[Control, ...]
) -> list[tuple[str, Any]]:
    """Each item as keys and values, with where it stands."""
    if isinstance(top["items"], str):
        table = _file(path, top["items"], "items", str(path))
        return read_table(table, controls)
    return [(f"{path}, item {n}", entry) for n, entry in enumerate(_list(path, top, "items"), 1)]


def _item(path: Path, entry: Any, where: str, controls: tuple[Control, ...]) -> Item:
    needed, free = ["id", "input", "output"], ["sidechain", "split"]
    (needed if controls else free).append("controls")  # a snapshot has nothing to set
    check_keys(entry, needed, free, where)
    name = _text(entry["id"], "id", where)
    if not re.fullmatch(r"\w[\w.+=-]*", name):  # ids become file names
        raise UserError(
            f"{where}: id {name!r} is no plain name; use letters, digits and - _ . only."
        )
    where = re.sub(r", item \d+$", "", where) + f", item '{name}'"
    split = entry.get("split", "")
    if split not in ("", *SPLITS):
        raise UserError(f"{where}: split {brief(split)} is unknown; use {', '.join(SPLITS)}.")
    settings = check_keys(
        entry.get("controls", {}), (), [c.name for c in controls], f"{where}, controls"
    )
    try:
        normalised_vector(controls, settings)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    sidechain = entry.get("sidechain")
    return Item(
        name,
        _file(path, entry["input"], "input", where),
        None if sidechain is None else _file(path, sidechain, "sidechain", where),
        _file(path, entry["output"], "output", where),
        {control.name: control.setting(settings[control.name]) for control in controls},
        split,
    )


def _file(path: Path, name: Any, key: str, where: str) -> Path:
    relative = Path(_text(name, key, where))
    folder = path.parent
    try:
        inside = (folder / relative).resolve().is_relative_to(folder.resolve())
        there = (folder / relative).is_file()
    except (OSError, RuntimeError):  # a name too long for the disk, links that go round
        inside, there = True, False
    if relative.is_absolute() or ".." in relative.parts or not inside:
        raise UserError(
            f"{where}: {key} '{name}' leads out of the manifest's folder; "
            "put the recording inside and give its path from there."
        )
    if not there:
        raise UserError(f"{where}: {key} '{name}' is not a file in {folder}; correct the name.")
    return folder / relative


def _check_apart(path: Path, items: list[Item]) -> None:
    ids: set[str] = set()
    outputs: dict[Path, Item] = {}
    for item in items:
        if item.id in ids:
            raise UserError(f"{path}: id '{item.id}' is given to two items; rename one.")
        ids.add(item.id)
        if item.output.resolve() == item.input.resolve():
            raise UserError(
                f"{path}, item '{item.id}': input and output are the same file; correct one."
            )
        twin = outputs.setdefault(item.output.resolve(), item)
        if twin is not item:
            raise UserError(
                f"{path}: '{item.output.name}' is the output of {_named(twin)} and of "
                f"{_named(item)}; a recording belongs to one item and one split."
            )


def _named(item: Item) -> str:
    return f"'{item.id}' ({item.split})" if item.split else f"'{item.id}'"


def _list(path: Path, top: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(top[key], list):
        raise UserError(f"{path}: '{key}' must be a list; write [] for none.")
    if key == "items" and not top[key]:
        raise UserError(f"{path}: 'items' is empty; list at least one recording.")
    return top[key]


def _rate(path: Path, value: Any) -> int:
    low, high = audio.RATES
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{path}: sample_rate {brief(value)} is no rate in Hz; write it like 44100."
        )
    return value


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise UserError(
            f"{where}: '{key}' is {brief(value)}, which is no text; put a name in quotes."
        )
    return value


def _item_dict(item: Item, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": item.id, "input": item.input.relative_to(folder).as_posix()}
    if item.sidechain is not None:
        entry["sidechain"] = item.sidechain.relative_to(folder).as_posix()
    entry |= {
        "output": item.output.relative_to(folder).as_posix(),
        "controls": dict(item.settings),
    }
    return {**entry, "split": item.split} if item.split else entry
