"""What TensorBoard reads of a run, scalars, sounds, pictures and texts alike.

Texts by the reader of its plug-ins: the other one does not forget those that a restart made void.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def shown(run: Path) -> dict[str, list[tuple[int, Any]]]:
    """Every tag's steps and what was shown there, but for scalars that tell the time."""
    kinds: dict[str, Callable[[Any], Any]] = {
        "scalars": lambda event: event.value,
        "audio": lambda event: event.encoded_audio_string,
        "images": lambda event: event.encoded_image_string,
    }
    folder = str(run / "tensorboard")
    events = EventAccumulator(folder, size_guidance={kind: 0 for kind in kinds})
    events.Reload()
    read = {"scalars": events.Scalars, "audio": events.Audio, "images": events.Images}
    found = {
        tag: [(event.step, kinds[kind](event)) for event in read[kind](tag)]
        for kind in kinds
        for tag in events.Tags()[kind]
        if not tag.startswith(("speed/", "time/"))
    }
    texts = plugin_event_accumulator.EventAccumulator(folder, size_guidance={"tensors": 0})
    texts.Reload()
    for tag in texts.PluginTagToContent("text"):
        seen = texts.Tensors(tag)
        found[tag] = [(event.step, event.tensor_proto.string_val[0].decode()) for event in seen]
    return found
