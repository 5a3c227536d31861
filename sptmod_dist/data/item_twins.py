"""Items of a manifest that belong on one side of a split, since one gives the other away.

The same sound out of the device, or the same sound into it at the same setting. It looks at the
samples, whatever the files are called. It must not know how items are divided.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.errors import UserError


def families(manifest: Manifest, distinct_settings: bool = False) -> list[list[int]]:
    """The numbers of the items that belong together; most are alone.

    Items hold together by the same output, as where a control does nothing at some settings of
    the others, and by the same input at the same setting, which differ by the device's noise.

    Args:
        manifest: whose audio is read.
        distinct_settings: items with the same setting of the controls belong together, too.

    Raises:
        UserError: audio that cannot be read, or `distinct_settings` of a device without controls.
    """
    if distinct_settings and not manifest.controls:
        raise UserError(
            f"{manifest.path}: the device has no controls by which items differ; leave "
            "--distinct-settings out"
        )
    sounds = _sounds(manifest.items)
    first: dict[Hashable, int] = {}
    family = list(range(len(manifest.items)))
    for number, item in enumerate(manifest.items):
        for key in _keys(item, sounds, distinct_settings):
            _join(family, family[first.setdefault(key, number)], family[number])
    members: dict[int, list[int]] = {}
    for number, label in enumerate(family):
        members.setdefault(label, []).append(number)
    return list(members.values())


def settings_key(item: Item) -> Hashable:
    """Equal for items at the same setting of the controls."""
    return tuple(sorted(item.settings.items()))


def _keys(item: Item, sounds: dict[Path, str], distinct_settings: bool) -> Iterator[Hashable]:
    setting = settings_key(item)
    key = None if item.sidechain is None else sounds[item.sidechain]
    yield "output", sounds[item.output]
    yield "input", sounds[item.input], key, setting
    if distinct_settings:
        yield "setting", setting


def _join(family: list[int], one: int, other: int) -> None:
    if one != other:
        family[:] = [one if label == other else label for label in family]


def _sounds(items: Sequence[Item]) -> dict[Path, str]:
    """A sum of each file's samples: headers may hold the time."""
    files = {path for i in items for path in (i.input, i.output, i.sidechain) if path is not None}
    listed = sorted(files)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # reading lets go of the lock
        return dict(zip(listed, pool.map(_sound, listed), strict=True))


def _sound(path: Path) -> str:
    samples, rate = audio.read(path)
    digest = hashlib.sha256(f"{rate} {samples.shape}".encode())
    digest.update(np.ascontiguousarray(samples).data)
    return digest.hexdigest()
