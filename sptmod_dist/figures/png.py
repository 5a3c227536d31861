"""A figure as a small PNG: a palette of colours is enough for lines, and for one colour map.

It knows pixels and nothing of what they show.
"""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

COLORS = 256


def encode(figure: Figure) -> tuple[bytes, int, int]:
    """The figure at its own size and resolution, about a third of a PNG in full colour.

    Returns:
        The file, and its width and height in pixels.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    full = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    # The method that keeps rare colours too: those of a colour map's ends.
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    few = full.convert("RGB").quantize(COLORS, method, dither=dither)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return buffer.getvalue(), few.width, few.height
