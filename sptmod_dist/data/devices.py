"""Devices that turn a source into recordings: existing implementations only, none of ours.

It must not know of files, manifests or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from sptmod_dist.errors import UserError


@dataclass(frozen=True)
class PedalboardCompressor:
    """The compressor that comes with Spotify's pedalboard (JUCE's: peak detector, hard knee).

    Args:
        threshold_db: dB of full scale.
        attack_ms, release_ms: time constants of the level detector.
    """

    threshold_db: float = -30.0
    attack_ms: float = 5.0
    release_ms: float = 100.0

    def process(self, audio: np.ndarray, rate: int, ratio: float) -> np.ndarray:
        """Compress one item, from a fresh device: nothing is left of the item before.

        Args:
            audio: float32 samples.
            rate: in Hz.
            ratio: 4 means 4:1.

        Shape:
            `[C, T]` to `[C, T]`

        Raises:
            UserError: pedalboard is not installed.
        """
        compressor = import_pedalboard().Compressor
        device = compressor(self.threshold_db, ratio, self.attack_ms, self.release_ms)
        return device.process(np.ascontiguousarray(audio, np.float32), rate, reset=True)

    def describe(self) -> str:
        """For the manifest: what was recorded, the package's version included.

        Raises:
            UserError: pedalboard is not installed.
        """
        return (
            f"pedalboard {import_pedalboard().__version__} Compressor, "
            f"threshold {self.threshold_db:g} dB, attack {self.attack_ms:g} ms, "
            f"release {self.release_ms:g} ms"
        )


def import_pedalboard() -> ModuleType:
    """The package pedalboard, an extra of ours.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pedalboard
    except ImportError as error:
        raise UserError(
            "compressors and plug-ins are run by the package pedalboard, which is not installed: "
            'pip install "sptmod-dist[devices]".'
        ) from error
    return pedalboard
