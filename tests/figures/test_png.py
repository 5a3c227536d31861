"""Small PNGs look like large ones."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sptmod_dist.figures import spectrograms
from sptmod_dist.figures.png import encode


def test_a_palette_changes_no_colour_that_is_seen():
    random = np.random.default_rng(1)
    loud = random.normal(size=(1, 16_000)) * np.geomspace(1e-5, 1, 16_000)
    figure = Figure(figsize=(6, 3), dpi=100)
    spectrograms.fill(figure, {"a": loud, "b": loud[:, ::-1], "c": loud * 0.1}, 16_000)
    full = io.BytesIO()
    figure.savefig(full, format="png")
    small, width, height = encode(figure)
    assert (width, height) == (600, 300) and len(small) < 0.6 * len(full.getvalue())
    pictures = [Image.open(file).convert("RGB") for file in (full, io.BytesIO(small))]
    one, other = (np.asarray(picture).astype(int) for picture in pictures)
    assert abs(one - other).max() <= 12 and abs(one - other).mean() < 1
