"""A fit from end to end: check, cut, shards, training, and what was learned.

Each step finds what an earlier call left, so a call that was stopped is gone on with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.fit.cutting import Piece, cut
from sptmod_dist.fit.defaults import settle
from sptmod_dist.fit.folder import FitFolder
from sptmod_dist.fit.learned import tell
from sptmod_dist.fit.pair import Pair, read_pair
from sptmod_dist.fit.recordings import sounds, write_recordings
from sptmod_dist.fit.training import train
from sptmod_dist.quality.picture import draw
from sptmod_dist.quality.report import write_report
from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.data import needs_of

Say = Callable[[str], None]


def fit(
    dry: Path,
    wet: Path,
    out: Path,
    config: TrainConfig,
    minutes: float | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> FitFolder:
    """Learn a device from what went in and what came out.

    Args:
        dry: what went into the device.
        wet: what came out of it, at one setting of its controls.
        out: the folder for all that is made; that of an earlier fit is gone on with.
        config: settings, from `defaults.DEFAULTS` and the user.
        minutes: train about so long in all; None: so many iterations.
        overwrite: replace another fit in the folder.
        say: called with each line of the account.

    Returns:
        The folder, whose `run` is trained.

    Raises:
        UserError: the pair is unfit, the settings or the folder do not fit to it, or the training
            did not end well.
    """
    say(f"==> checking {dry} and {wet}")
    pair = read_pair(dry, wet, say)
    config = settle(config, out, len(pair.dry))
    pieces = _cut(pair, config, dry)
    folder = FitFolder(out)
    folder.claim(f"{file_sha256(dry)} {file_sha256(wet)}", config, overwrite)
    _keep_check(folder, pair, f"{dry} {wet}")
    say(f"==> cutting {pair.dry.shape[1] / pair.rate:.1f} s into {_in_words(pieces, pair.rate)}")
    device = f"what {wet.name} has of {dry.name}"
    manifest = write_recordings(folder.recordings, pair, pieces, device)
    _build(folder, manifest, config, say)
    try:
        trained = train(folder, config, minutes, lambda line: say(f"==> {line}"))
    except (KeyboardInterrupt, SystemExit):
        say("==> stopped: the same command goes on where it stands")
        raise
    if not trained and folder.learned.is_file():
        say(f"==> {out} is done")
        say(folder.learned.read_text().rstrip())
        say("More minutes (--minutes) let it go on.")
        return folder
    say("==> what was learned, on the test pieces")
    say(tell(folder, manifest, pair.report.best_esr))
    return folder


def _cut(pair: Pair, config: TrainConfig, dry: Path) -> tuple[Piece, ...]:
    lengths = needs_of(config).geometry(pair.rate, (), str(dry))
    samples = pair.dry.shape[1]
    return cut(
        samples, pair.rate, lengths, config.batch_size, lambda *edges: sounds(pair, *edges)
    )


def _keep_check(folder: FitFolder, pair: Pair, source: str) -> None:
    folder.check.mkdir(exist_ok=True)
    write_report(folder.check / "report.json", source, [pair.report], ())
    draw(folder.check / "picture.png", pair.report, pair.curves)


def _build(folder: FitFolder, manifest: Manifest, config: TrainConfig, say: Say) -> None:
    data = config.data
    build_sets(
        manifest,
        folder.shards,
        needs_of(config),
        data.shard_megabytes * 1_000_000,
        say=lambda line: say(f"    {line}"),
        sequences_per_record=data.sequences_per_record,
        sample_format=data.sample_format,
    )


def _in_words(pieces: tuple[Piece, ...], rate: int) -> str:
    words = []
    for split in ("train", "validation", "test"):
        lengths = [piece.stop - piece.start for piece in pieces if piece.split == split]
        words.append(f"{sum(lengths) / rate:.1f} s for {split} in {len(lengths)}")
    return ", ".join(words)
