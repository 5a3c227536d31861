"""`controls.yaml`: what a device can be set to.

    format: sptmod-controls-1
    controls:
      - {name: threshold, minimum: -40, maximum: 0, unit: dB, default: -20}
      - {name: attack, minimum: 0.1, maximum: 30, scale: log, unit: ms, default: 5}
      - {name: ratio, positions: [2, 4, 10, 20], unit: ":1", default: 4}
      - {name: knee, positions: [hard, soft]}

It must not know of devices or plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sptmod_dist.data.controls import Control, unique_controls
from sptmod_dist.data.documents import check_keys
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.yaml_files import dump, read_mapping

FORMAT = "sptmod-controls-1"


def read_controls(path: str | Path) -> tuple[Control, ...]:
    """Read and check a file of controls; `controls: []` says that a device has none.

    Raises:
        UserError: anything unknown, missing, doubled, of a wrong type or impossible.
    """
    path = Path(path)
    top = check_keys(read_mapping(path), ("format", "controls"), (), str(path))
    if top["format"] != FORMAT:
        raise UserError(f"{path}: format is {top['format']!r:.40}, not '{FORMAT}'; correct it.")
    if not isinstance(top["controls"], list):
        raise UserError(f"{path}: 'controls' must be a list; write [] for none.")
    return unique_controls(top["controls"], path)


def write_controls(path: str | Path, controls: Sequence[Control]) -> None:
    """Write such a file, whole or not at all."""
    top = {"format": FORMAT, "controls": [control.to_dict() for control in controls]}
    with atomic_write(path) as temporary:
        text = dump(top, default_flow_style=None)
        temporary.write_text(text, encoding="utf-8")
