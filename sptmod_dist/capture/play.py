"""The file to play through hardware: all takes in the order of the plan, a pause before each.

In a pause the knobs are turned; a list says what to and when. It must not know what becomes of the
recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.capture.long_recording import clock
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.stimuli import Stimuli
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write

_LARGEST = 2**32 - 2**16
"""Bytes of a WAV file, whose sizes are written with 32 bits."""


def write_session(
    path: str | Path,
    takes: Sequence[Take],
    controls: Sequence[Control],
    stimuli: Stimuli,
    pause: float,
) -> str:
    """Write the file, and beside it `NAME.txt` with the time and the settings of each take.

    Args:
        path: a WAV file, of 24 bits.
        takes: in the order of playing.
        controls: for their units.
        stimuli: of the takes.
        pause: seconds before each take.

    Returns:
        The list, as text.

    Raises:
        UserError: it would be larger than a WAV file can be.
    """
    path = Path(path)
    rest = round(pause * stimuli.rate)
    lengths = [rest + audio.info(stimuli.paths[take.stimulus]).frames for take in takes]
    fitting = int(np.searchsorted(3 * np.cumsum(lengths), _LARGEST))
    if fitting < len(takes):
        part = f"{takes[0].number}-{takes[max(fitting, 1) - 1].number}"
        raise UserError(
            f"{path} would hold {clock(sum(lengths) / stimuli.rate)} of audio, more than a WAV "
            f"file can: write it in parts, such as --takes {part}."
        )
    text = _cues(takes, controls, lengths, stimuli.rate)
    audio.write_blocks(path, _blocks(takes, stimuli, rest), stimuli.rate, 1)
    with atomic_write(path.with_suffix(".txt")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return text


def _blocks(takes: Sequence[Take], stimuli: Stimuli, rest: int) -> Iterator[np.ndarray]:
    for take in takes:
        yield np.zeros((1, rest), np.float32)
        yield stimuli.read(take.stimulus).audio


def _cues(
    takes: Sequence[Take], controls: Sequence[Control], lengths: Sequence[int], rate: int
) -> str:
    starts = np.cumsum([0, *lengths[:-1]]) / rate
    lines = ["time     take  settings: turn when the time has come, the audio follows the pause"]
    for take, start in zip(takes, starts, strict=True):
        shown = [control.told(take.settings[control.name]) for control in controls]
        lines.append(f"{clock(start):>7}  {take.number:4}  {', '.join(shown) or 'as it is'}")
    return "\n".join(lines)
