"""The published model at its own size, on music at 44.1 kHz: every engine trains it alike.

Max pooling takes one sample of several. At the start the late blocks of the SPN hold values that
are equal up to rounding, so another order of summation takes other samples, and the first blocks,
whose gradients are near Adam's epsilon, step another way. Nobody can promise float32 weights that
equal those of one batch. What is held here: in the same order of summation they are equal to the
last bit; in another one they stay close, beside the way that they went; a fault leads far off.

How close depends on seed and music, so both are fixed. This seed gave 8.2e-4; three others gave
1.3e-3, 4.1e-3 and 7.3e-3 (and there a loss term off by 4.7e-4) on a single process that adds a
batch's gradients in two parts. Near-silent targets, with ESRs of thousands, gave 5.3e-3.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from parity import ONE, largest, last, launch, launch_zero, losses, strayed, train_one, worst_ratio
from poisons import poisoned, spn_on_zero_gradients
from toy import compress, toy_config
from variants import FULL_SIZE

from sptmod_dist import audio
from sptmod_dist.data.controls import Control
from sptmod_dist.data.demo import CLIPS_FOLDER
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.train.data import needs_of

# The first test waits for the trainings on one process.
pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
ZERO = pytest.mark.skipif(
    find_spec("deepspeed") is None or shutil.which("g++") is None,
    reason="needs the extra deepspeed, and g++, with which it compiles on the CPU",
)
ENGINES = ["ddp", *(pytest.param(stage, marks=ZERO, id=f"zero{stage}") for stage in (1, 2, 3))]

CONTROLS = (Control("drive", 1, 10), Control("level", 0, 1))
CLIPS = {
    "loop_mika": ("train", 2.0, 0.9),
    "bass_voxy_c": ("train", 8.0, 0.5),
    "loop_garzul": ("train", 5.0, 1.0),
    "drum_roll": ("train", 3.0, 0.7),
    "loop_safari": ("validation", 4.0, 0.8),
}
"""Split, drive and level of each recording."""


def record(folder: Path, sequence: int, hop: int) -> Manifest:
    """The first seconds of the repository's loops through a toy compressor.

    Two sequences in each train item, one in the validation item.
    """
    folder.mkdir()
    items = []
    for name, (split, drive, level) in CLIPS.items():
        dry, wet = folder / f"{name}.wav", folder / f"{name}-out.wav"
        source, rate = audio.read(CLIPS_FOLDER / f"{name}.flac")
        x = source[0, : sequence + (hop if split == "train" else 0)]
        audio.write(dry, x[None], rate, "FLOAT")
        audio.write(wet, level * compress(x, drive)[None], rate, "FLOAT")
        items.append(Item(name, dry, None, wet, {"drive": drive, "level": level}, split))
    manifest = Manifest(folder / "manifest.yaml", rate, "a toy compressor", CONTROLS, tuple(items))
    manifest.write(manifest.path)
    return manifest


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """The folder of the recordings, with trainings on one process: as published, with a batch in
    two slices, and with a fault."""
    folder = tmp_path_factory.mktemp("full_size")
    (folder / "start").mkdir()
    needs = needs_of(toy_config(folder, **FULL_SIZE["full"]))
    sequence = needs.input_length + sum(needs.lengths[1:])
    manifest = record(folder / "recordings", sequence, hop=sum(needs.lengths))
    build_sets(manifest, folder / "shards", needs, say=lambda line: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_one(folder, "full")
    train_one(folder, "sliced", "full", distributed={"micro_batches": 2})
    with poisoned(spn_on_zero_gradients):
        train_one(folder, "zeros", "full")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def engine(full_size, request):
    """The label of an engine with which two processes have trained."""
    if request.param == "ddp":
        launch(2, full_size, "ddp", ["full"], limit=120)
        return "ddp"
    label = f"zero{request.param}"
    launch_zero(request.param, full_size, label, ["full"], limit=120)
    return label


def test_weights_and_losses_stay_close_to_those_of_one_batch(full_size, engine):
    saved = last(full_size, "full", engine)
    assert sum(weight.numel() for weight in saved.weights.values()) > 100_000
    assert saved.state["progress"]["iteration"] == 12  # 4 groups
    one, other = (losses(full_size, "full", label) for label in (ONE, engine))
    assert len(one) == 12 * 5
    assert worst_ratio(one, other) <= 1e-5
    assert strayed(full_size, "full", engine) <= 2e-3


def test_in_the_same_order_of_summation_every_bit_is_the_same(full_size, engine):
    one, other = last(full_size, "sliced", ONE), last(full_size, "full", engine)
    apart = [largest(getattr(one, kind), getattr(other, kind)) for kind in ("weights", "moments")]
    assert apart == [0, 0]


def test_an_spn_on_zero_gradients_strays_far(full_size):
    ratio = strayed(full_size, "zeros", ONE, "full")
    print(f"weights have strayed by {ratio:.2g} of their way")
    assert ratio > 0.1  # where 2e-3 is allowed
