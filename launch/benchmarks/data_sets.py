"""The recordings that loaders are measured on, and the same sequences in every loader's own form.

Source audio of the paper's kind (tone steps, excerpts of the demo's clips, generated events) goes
through a made-up gain reduction: what is measured does not depend on a device. It knows nothing of
time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data import stimulus
from sptmod_dist.data.controls import Control
from sptmod_dist.data.demo import CLIPS_FOLDER
from sptmod_dist.data.geometry import Needs
from sptmod_dist.data.recordings import Item, Manifest, load_item
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.files import atomic_write
from sptmod_dist.model.config import PRESETS

RATE = 44_100
AMOUNT = Control("amount", 0.0, 1.0)
SHARD_BYTES = 1 << 26
"""As MosaicML's writer takes by itself; webdataset shuffles and shares out whole shards."""
_PEAK = 0.9


@dataclass(frozen=True)
class Case:
    """A geometry, and how much audio it is measured on."""

    name: str
    preset: str
    lengths: tuple[int, ...]
    items: int
    excerpts: int
    """Of 4 s, after the tone steps of 16 s and before as many seconds of events as of them."""
    packed: int
    """Consecutive sequences in a record, where a set does not repeat every lookback."""

    @property
    def needs(self) -> Needs:
        """What the model needs of its data."""
        config = PRESETS[self.preset](1)
        input_length = config.plan(self.lengths[0]).input_length
        return Needs(self.lengths, input_length, n_params=1)

    @property
    def samples(self) -> int:
        """Of one sequence."""
        return self.needs.geometry(RATE, [AMOUNT], "").sequence_length

    @property
    def hop(self) -> int:
        """Samples from one sequence to the next."""
        return sum(self.lengths)


def record(folder: Path, case: Case, workers: int) -> Manifest:
    """Make a case's recordings, 24 bit; those that are there are kept."""
    path = folder / "manifest.yaml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        clips = [audio.read(clip)[0][0] for clip in sorted(CLIPS_FOLDER.glob("*.flac"))]
        with ThreadPoolExecutor(workers) as pool:
            made = [pool.submit(_record, folder, case, n, clips) for n in range(case.items)]
            items = tuple(item.result() for item in made)
        Manifest(path, RATE, "a made-up gain reduction", (AMOUNT,), items).write(path)
    return Manifest.read(path)


def _record(folder: Path, case: Case, number: int, clips: list[np.ndarray]) -> Item:
    turned = clips[number % len(clips) :] + clips[: number % len(clips)]
    amount = (number + 1) / case.items
    seconds = 2.0 * case.excerpts
    dry = _PEAK * stimulus.source_signal(turned, RATE, number, case.excerpts, seconds)
    paths = [folder / f"{number:03}-{end}.wav" for end in ("input", "output")]
    for path, signal in zip(paths, (dry, _reduce(dry, amount)), strict=True):
        audio.write(path, signal[None].astype(np.float32), RATE)
    return Item(f"{number:03}", paths[0], None, paths[1], {"amount": amount}, "train")


def _reduce(dry: np.ndarray, amount: float) -> np.ndarray:
    """Less gain where the last 10 ms were loud."""
    window = RATE // 100
    total = np.cumsum(np.concatenate([np.zeros(window), np.abs(dry)]))
    return dry / (1 + 4 * amount * (total[window:] - total[:-window]) / window)


def build(folder: Path, manifest: Manifest, case: Case, sample_format: str, packed: bool) -> Path:
    """One of our sets; the folder of its training split. It is kept if it is the right one."""
    build_sets(
        manifest,
        folder,
        case.needs,
        SHARD_BYTES,
        say=lambda line: None,
        sequences_per_record=case.packed if packed else 1,
        sample_format=sample_format,
    )
    return folder / "train"


def write_recordings(folder: Path, manifest: Manifest) -> Path:
    """The recordings uncut, as float32 arrays that can be mapped, and their controls."""
    if not (folder / "controls.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors = []
        for number, item in enumerate(manifest.items):
            recording = load_item(manifest, item)
            vectors.append(recording.vector)
            np.save(folder / f"{number:03}-input.npy", recording.input)
            np.save(folder / f"{number:03}-output.npy", recording.output)
        with atomic_write(folder / "controls.json") as temporary:
            temporary.write_text(json.dumps(vectors))
    return folder


def starts(frames: int, case: Case) -> range:
    """Where the sequences of a recording begin."""
    return range(0, frames - case.samples + 1, case.hop)


def write_mds(folder: Path, manifest: Manifest, case: Case) -> Path:
    """The same sequences in MosaicML's format, arrays of static type and shape, uncompressed."""
    if not (folder / "index.json").exists():
        shape = f"ndarray:float32:1,{case.samples}"
        columns = {"input": shape, "output": shape, "controls": "ndarray:float32:1"}
        with import_streaming().MDSWriter(out=str(folder), columns=columns) as writer:
            for sequence in _sequences(manifest, case):
                writer.write(sequence)
    return folder


def _sequences(manifest: Manifest, case: Case) -> Iterator[dict[str, np.ndarray]]:
    for item in manifest.items:
        recording = load_item(manifest, item)
        controls = np.array(recording.vector, np.float32)
        for start in starts(recording.input.shape[1], case):
            stretch = slice(start, start + case.samples)
            audio_in, audio_out = recording.input[:, stretch], recording.output[:, stretch]
            yield {"input": audio_in, "output": audio_out, "controls": controls}


def import_streaming() -> Any:
    """MosaicML's `streaming`, without its pictures: they need a torchvision that fits the torch."""
    sys.modules.setdefault("streaming.vision", ModuleType("streaming.vision"))
    import streaming

    return streaming


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sequences_of(folder: Path) -> int:
    """How many sequences one of our sets holds."""
    return ShardSet.open(folder).n_sequences
