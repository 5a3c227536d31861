"""The demo's recordings: loops, tone steps and events through a real compressor at three ratios.

The loops are real music that comes with the package, in `clips/`, with their origin and licence;
each belongs to one split. Items named `clip-…` are what a listener would play; the test split's are
loops that training and validation never saw. Items named `levels-…` hold the tone steps alone, for
the level curve. The source audio is the paper's in kind (DAFx25, section on data). It must not know
of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data import stimulus
from sptmod_dist.data.controls import Control
from sptmod_dist.data.devices import PedalboardCompressor
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write

CLIPS = {
    "train": (
        "loop_mika",
        "loop_garzul",
        "loop_compus",
        "loop_breakbeat",
        "loop_industrial",
        "drum_roll",
        "guit_em9",
        "guit_e_fifths",
        "bass_voxy_c",
        "bass_trance_c",
        "ambi_lunar_land",
        "ambi_piano",
    ),
    "validation": ("loop_tabla", "guit_harmonics"),
    "test": ("loop_safari", "guit_e_slide"),
}
CLIPS_FOLDER = Path(__file__).parent / "clips"
RATE = 44_100
RATIOS = (2.0, 4.0, 8.0)
RATIO = Control("ratio", 2.0, 8.0, scale="log", unit=":1")
DEVICE = PedalboardCompressor()
_VERSION = 1  # a change in what is made makes old folders out of date
_MARKER = "demo.json"


def make_demo(
    folder: str | Path,
    clips_folder: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Make the demo's recordings, unless the folder already has exactly them.

    Writes WAV files of 24 bits (about 100 MB in all), a marker, and last the manifest, so that a
    folder with a manifest is complete. Deterministic: equal clips and versions give equal bytes.

    Args:
        folder: where to; made if it is missing.
        clips_folder: holds `NAME.flac` for every name in `CLIPS`, mono, 44.1 kHz; None: the
            package's own.
        say: called with each line of progress.

    Returns:
        The manifest, as `Manifest.read` gives it.

    Raises:
        UserError: a clip is missing or unfit, pedalboard is missing, or the folder holds recordings
            that this function did not make.
    """
    folder, clips_folder = Path(folder), Path(clips_folder or CLIPS_FOLDER)
    digest = _digest(clips_folder)
    if _is_done(folder, digest):
        say(f"Demo recordings are ready in {folder}.")
        return Manifest.read(folder / "manifest.yaml")
    _clear(folder)
    say(f"Making demo recordings in {folder}: {DEVICE.describe()}.")
    items = [
        item
        for name, split, signal in _sources(clips_folder)
        for item in _record(folder, name, split, signal, say)
    ]
    _write_marker(folder, digest)
    Manifest(folder / "manifest.yaml", RATE, DEVICE.describe(), (RATIO,), tuple(items)).write(
        folder / "manifest.yaml"
    )
    say(f"Wrote {len(items)} recordings and {folder / 'manifest.yaml'}.")
    return Manifest.read(folder / "manifest.yaml")


def _sources(clips_folder: Path) -> list[tuple[str, str, np.ndarray]]:
    """Name, split and signal of every source file."""
    clips = {
        split: {name: _clip(_clip_path(clips_folder, name)) for name in names}
        for split, names in CLIPS.items()
    }
    train = list(clips["train"].values())
    loops = [stimulus.normalise_peak(clip, -1.0) for clip in train]
    source = stimulus.source_signal(train, RATE, seed=0, event_seconds=10.0)
    listening = [
        (f"clip-{name}", split, stimulus.normalise_peak(clip, -1.0))
        for split in ("validation", "test")
        for name, clip in clips[split].items()
    ]
    return [
        ("train", "train", np.concatenate([source, *loops])),
        *listening,
        ("levels", "test", stimulus.tone_steps(RATE)),
    ]


def _record(
    folder: Path, name: str, split: str, signal: np.ndarray, say: Callable[[str], None]
) -> list[Item]:
    """Write one source and what the device makes of it at each ratio."""
    dry = folder / f"{name}.wav"
    audio.write(dry, signal[None], RATE)
    items = []
    for ratio in RATIOS:
        wet = folder / f"{name}-ratio{ratio:g}.wav"
        audio.write(wet, DEVICE.process(signal[None], RATE, ratio), RATE)
        items.append(Item(wet.stem, dry, None, wet, {"ratio": ratio}, split))
    say(f"  {name}: {len(signal) / RATE:.1f} s, {len(RATIOS)} ratios ({split})")
    return items


def _clip_path(clips_folder: Path, name: str) -> Path:
    return clips_folder / f"{name}.flac"


def _clip(path: Path) -> np.ndarray:
    """A mono clip, `[T]`."""
    samples, rate = audio.read(path)
    if rate != RATE or samples.shape[0] != 1:
        raise UserError(
            f"{path} has {samples.shape[0]} channels at {rate} Hz; "
            f"the demo needs mono clips at {RATE} Hz, like those that come with the package."
        )
    return audio.remove_dc(samples)[0]


def _digest(clips_folder: Path) -> str:
    """Of everything that decides what is made."""
    if not clips_folder.is_dir():
        raise UserError(
            f"there are no clips in {clips_folder}: leave out --clips for those that come with "
            "the package"
        )
    digest = hashlib.sha256(
        repr((_VERSION, CLIPS, RATE, RATIOS, RATIO, DEVICE, DEVICE.describe())).encode()
    )
    for name in sorted(name for names in CLIPS.values() for name in names):
        path = _clip_path(clips_folder, name)
        audio.info(path)  # a missing clip is refused in words
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_done(folder: Path, digest: str) -> bool:
    """Whether a complete folder of this digest is there, no file missing or cut short."""
    if not (folder / "manifest.yaml").is_file() or not (folder / _MARKER).is_file():
        return False
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        same = all((folder / name).stat().st_size == size for name, size in marker["bytes"].items())
        return same and marker["digest"] == digest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _clear(folder: Path) -> None:
    """Make the folder; take away the manifest first, so that nothing half-made looks complete."""
    if (folder / "manifest.yaml").exists() and not (folder / _MARKER).exists():
        raise UserError(
            f"{folder} holds recordings that are not the demo's; choose another folder for it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.yaml").unlink(missing_ok=True)


def _write_marker(folder: Path, digest: str) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.wav"))}
    with atomic_write(folder / _MARKER) as temporary:
        temporary.write_text(
            json.dumps({"digest": digest, "bytes": sizes}, indent=1), encoding="utf-8"
        )
