"""Sounds and pictures as TensorBoard takes them, out of arrays.

matplotlib is imported when the first picture is drawn, so that a training starts fast. What is in a
picture is the matter of `figures/`; when one is made that of `showing.py`.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary

from sptmod_dist.figures import STYLE
from sptmod_dist.metrics.energies import energy, error_energy, ratio
from sptmod_dist.metrics.levels import frame_samples, gain_curve
from sptmod_dist.train.listening import Curves, Heard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {**STYLE, "font.size": 14, "lines.linewidth": 2.5}
_DPI = 100


def audio(tag: str, signal: np.ndarray, rate: int) -> Summary:
    """A WAV of 16 bits; what is beyond full scale is clipped, as a converter does.

    Shape: signal [C, n].
    """
    samples = np.round(np.clip(signal, -1, 1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.T.tobytes())
    entry = Summary.Audio(
        sample_rate=rate,
        num_channels=len(samples),
        length_frames=samples.shape[1],
        encoded_audio_string=buffer.getvalue(),
        content_type="audio/wav",
    )
    return Summary(value=[Summary.Value(tag=tag, audio=entry)])


def spectrograms(tag: str, title: str, heard: Heard, rate: int) -> Summary:
    """Target, prediction and difference side by side, and how far the difference is below."""
    from sptmod_dist.figures.spectrograms import fill

    share = ratio(error_energy(heard.prediction, heard.target), energy(heard.target))
    below = f"{10 * math.log10(share):.1f} dB" if 0 < share < math.inf else "none"
    panels = {
        "target": heard.target,
        "prediction": heard.prediction,
        f"difference ({below})": heard.prediction - heard.target,
    }
    return _image(tag, (12, 4.4), title, lambda figure: fill(figure, panels, rate))


def gains(tag: str, title: str, heard: Heard, rate: int) -> Summary:
    """The gain over time, the device's and the model's."""
    from sptmod_dist.figures.gain import draw_gain

    outputs = {"device": heard.target, "model": heard.prediction}
    curves = {name: gain_curve(heard.input, output, rate) for name, output in outputs.items()}
    seconds = (np.arange(len(curves["device"])) + 0.5) * frame_samples(rate) / rate
    where = (0.075, 0.985, 0.15, 0.89)
    return _image(
        tag, (12, 4), title, lambda figure: draw_gain(_axes(figure, where), seconds, curves)
    )


def level_curves(tag: str, curves: Mapping[str, Curves]) -> Summary:
    """Output level over input level, the device's and the model's, by the setting in words."""
    from sptmod_dist.figures.level_curves import CurvePair, fill

    pairs = {setting: CurvePair(*pair) for setting, pair in curves.items()}
    where = (0.125, 0.985, 0.11, 0.93)
    return _image(tag, (7, 6), "", lambda figure: fill(_axes(figure, where), pairs))


def _axes(figure: Figure, where: tuple[float, float, float, float]) -> Axes:
    """The only axes of a figure: left, right, bottom, top."""
    left, right, bottom, top = where
    return figure.add_axes((left, bottom, right - left, top - bottom))


def _image(
    tag: str, size: tuple[float, float], title: str, fill: Callable[[Figure], None]
) -> Summary:
    """A PNG of so many inches."""
    import matplotlib
    from matplotlib.figure import Figure

    from sptmod_dist.figures.png import encode

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, dpi=_DPI)
        if title:
            figure.suptitle(title, y=0.975, va="top", fontsize=15, parse_math=False)
        fill(figure)
        png, width, height = encode(figure)
    entry = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=entry)])
