"""What a model needs of its data, and what a set of shards was made for: the terms they compare.

Numbers only: it knows neither files nor models. A set's geometry is in its index; a model's comes
from its length plan and from the controls of the recordings that it learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError
from sptmod_dist.model.lengths import GroupLengths


class ShardError(UserError):
    """A set of shards that cannot be used: what is wrong, in which file, and the remedy."""


@dataclass(frozen=True)
class Geometry(GroupLengths):
    """Everything that must agree between a set of shards and whoever reads it."""

    sample_rate: int
    """Samples a second."""
    input_channels: int
    """Audio channels of the input and of the output, `C`."""
    sidechain_channels: int
    """Sidechain channels after the audio channels in the input, `S`."""
    controls: tuple[Control, ...]
    """The device's controls, in the order of the control vector; empty for a snapshot."""
    lengths: tuple[int, ...]
    input_length: int

    def in_words(self) -> list[tuple[str, str]]:
        """Each field's name and value; equal words mean equal fields."""
        return [
            ("sample_rate", f"{self.sample_rate} Hz"),
            ("input_channels", f"{self.input_channels}"),
            ("sidechain_channels", f"{self.sidechain_channels}"),
            ("controls", _in_words(self.controls)),
            ("lengths", f"{list(self.lengths)}"),
            ("input_length", f"{self.input_length}"),
        ]

    def differences(self, needed: Geometry) -> list[str]:
        """Every way in which this geometry is not the needed one, in words."""
        wanted = dict(needed.in_words())
        return [
            f"{name} {value} instead of {wanted[name]}"
            for name, value in self.in_words()
            if value != wanted[name]
        ]


@dataclass(frozen=True)
class Needs:
    """What a model needs of its data, before any recording is known.

    Args:
        lengths: `L_0 … L_{N-1}`.
        input_length: `config.plan(lengths[0]).input_length`.
        input_channels: `C`.
        sidechain_channels: `S`.
        n_params: the number of controls.
    """

    lengths: tuple[int, ...]
    input_length: int
    input_channels: int = 1
    sidechain_channels: int = 0
    n_params: int = 0

    def geometry(self, sample_rate: int, controls: Sequence[Control], where: str) -> Geometry:
        """The geometry that results with the controls and the rate of some recordings or set.

        Args:
            sample_rate: of the recordings, in Hz.
            controls: of the recordings.
            where: the file that states them, for the message.

        Raises:
            ShardError: the model takes another number of controls.
        """
        if len(controls) != self.n_params:
            names = ", ".join(control.name for control in controls) or "none"
            raise ShardError(
                f"{where}: {len(controls)} controls ({names}) where the model takes "
                f"{self.n_params}: set the model's n_params to {len(controls)}, or use other data"
            )
        return Geometry(
            sample_rate=sample_rate,
            input_channels=self.input_channels,
            sidechain_channels=self.sidechain_channels,
            controls=tuple(controls),
            lengths=tuple(self.lengths),
            input_length=self.input_length,
        )


def _in_words(controls: Sequence[Control]) -> str:
    return ", ".join(control.in_words() for control in controls) or "none"
