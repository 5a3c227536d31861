"""A folder of pairs: what went into a device and what came out, with the settings.

Either a manifest says what belongs together, or the names do: `NAME-input.*` with `NAME-output.*`,
or `NAME-dry.*` with `NAME-wet.*`, and `NAME-sidechain.*` for a model that has one. It knows files
and a model's controls, not what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from sptmod_dist import audio
from sptmod_dist.data.controls import Setting, normalised_vector, read_settings
from sptmod_dist.data.recordings import Item, Manifest, load_item
from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.errors import UserError
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.load import Model

MANIFEST = "manifest.yaml"
ENDS = (("-input", "-output"), ("-dry", "-wet"))
SIDECHAIN = "-sidechain"
_NAMES = "NAME-input.* with NAME-output.*, or NAME-dry.* with NAME-wet.*"


class Pairs:
    """The pairs of a folder or a manifest, for one model.

    Of a manifest whose items have splits, those of the split test serve: a model is not measured
    on what it learned. Everything is read once at the start, so that a bad file at the end does
    not cost the work before it; what is clipped is noted and measured as it is.

    Args:
        model: whose rate, channels and controls the pairs must have.
        place: a folder or a manifest.
        settings: of controls by name, for all pairs; what is missing stands at its default.

    Raises:
        UserError: no pairs, a file without its other half, another rate, other channels, lengths
            that differ, samples that are not finite, silence, or settings that are missing,
            unknown or out of range.
    """

    fingerprint = None

    def __init__(self, model: Model, place: Path, settings: Mapping[str, Setting]) -> None:
        self._model = model
        self._manifest, self._items, self.source = _listed(model, place)
        own = bool(self._manifest.controls)
        if own and settings:
            raise UserError(
                f"--control {next(iter(settings))}: {self._manifest.path} says the settings of "
                "each item; leave --control out"
            )
        common = None if own else with_defaults(model, settings)
        self.subjects = [Subject(item.id, common or item.settings) for item in self._items]
        self._vectors = [self._vector(subject) for subject in self.subjects]
        for item in self._items:
            _check_headers(model, item)
        clipped: dict[Path, float] = {}  # a file may serve many items
        for item in self._items:
            load_item(self._manifest, item, clipped.setdefault)
        self.notes = tuple(
            f"{path.name} is flat at full scale at {seconds:.3f} s: unless the device does that, "
            "these are figures of a clipped recording"
            for path, seconds in clipped.items()
        )

    def read(self, number: int) -> Audio:
        """One pair without the output's DC offset."""
        recording = load_item(self._manifest, self._items[number], lambda *_: None)
        return Audio(recording.input, recording.output, self._vectors[number])

    def _vector(self, subject: Subject) -> np.ndarray:
        try:
            return np.array(normalised_vector(self._model.controls, subject.settings), np.float32)
        except UserError as error:
            raise UserError(f"{self._manifest.path}, item '{subject.id}': {error}") from None


def with_defaults(model: Model, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings of all of a model's controls, texts as people type them among them.

    Raises:
        UserError: a control without a setting and a default, an unknown one, a value out of range.
    """
    defaults = {c.name: c.default for c in model.controls if c.default is not None}
    given = defaults | read_settings(model.controls, settings)
    for control in model.controls:
        if control.name not in given:
            raise UserError(
                f"control '{control.name}' has no default: give --control {control.name}=VALUE"
            )
    normalised_vector(model.controls, given)  # refuses what is unknown or out of range
    return {control.name: control.setting(given[control.name]) for control in model.controls}


def _listed(model: Model, place: Path) -> tuple[Manifest, tuple[Item, ...], str]:
    if place.is_dir() and not (place / MANIFEST).is_file():
        items = tuple(_by_name(place, bool(model.architecture.sidechain_channels)))
        if not items:
            raise UserError(f"{place} holds no pairs: name the files {_NAMES}")
        manifest = Manifest(place, model.sample_rate, "", (), items)
        return manifest, items, f"the pairs of {place.resolve().name}"
    path = place / MANIFEST if place.is_dir() else place
    manifest = Manifest.read(path)
    if manifest.sample_rate != model.sample_rate:
        raise UserError(
            f"{path} states {manifest.sample_rate} Hz and the model works at {model.sample_rate} "
            "Hz; resample the recordings"
        )
    whole = f"the recordings of {path.resolve().parent.name}/{path.name}"
    test = manifest.of_split("test")
    return manifest, test or manifest.items, f"the test split of {whole}" if test else whole


def _by_name(folder: Path, sidechain: bool) -> Iterator[Item]:
    """Pairs by the ends of their names, in the order of the names."""
    files: dict[str, Path] = {}
    known = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga"}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in known and path.is_file() and not path.name.startswith("."):
            if path.stem in files:
                raise UserError(f"{path} and {files[path.stem]} have one name; remove one of them")
            files[path.stem] = path
    seen: dict[str, Path] = {}
    for stem in files:
        for before, after in ENDS:
            if stem.endswith(before) and stem != before:
                name = stem.removesuffix(before)
                twin = seen.setdefault(name, files[stem])
                if twin != files[stem]:
                    raise UserError(f"{twin} and {files[stem]} are inputs of one name; rename one")
                yield _pair(files, name, before, after, sidechain)
            elif stem.endswith(after) and stem.removesuffix(after) + before not in files:
                raise UserError(f"{files[stem]} has no input beside it: name the files {_NAMES}")


def _pair(files: Mapping[str, Path], name: str, before: str, after: str, sidechain: bool) -> Item:
    dry, wet = files[name + before], files.get(name + after)
    if wet is None:
        raise UserError(f"{dry} has no output beside it: name the files {_NAMES}")
    side = files.get(name + SIDECHAIN) if sidechain else None
    return Item(name, dry, side, wet, {}, "")


def _check_headers(model: Model, item: Item) -> None:
    """Rate, channels and lengths, before hours are spent on the items before."""
    wanted = model.architecture
    if bool(item.sidechain) != bool(wanted.sidechain_channels):
        raise UserError(
            f"{item.sidechain} is a sidechain, and the model has none; leave it out"
            if item.sidechain
            else f"{item.input} has no sidechain beside it, by which this model is steered"
        )
    source = audio.info(item.input)
    for path in (item.input, item.output, *([item.sidechain] if item.sidechain else [])):
        channels = wanted.sidechain_channels if path == item.sidechain else wanted.input_channels
        found = audio.info(path)
        if found.rate != model.sample_rate:
            raise UserError(
                f"{path} has {found.rate} Hz and the model works at {model.sample_rate} Hz; "
                "resample it"
            )
        if found.channels != channels:
            raise UserError(
                f"{path} has {found.channels} channels and the model takes {channels} there; "
                "export it so"
            )
        if found.frames != source.frames:
            raise UserError(
                f"{path} has {found.frames} samples and its input {item.input} has "
                f"{source.frames}; cut them to the same length, aligned to the sample."
            )
