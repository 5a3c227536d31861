"""A plug-in as a device: a plan's controls turn its parameters; the rest stays, or is fixed.

    device = open_plugin("Compressor", controls, fixed={"attack_ms": "5"})

It must not know of sessions or of what is done with the audio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sptmod_dist.capture.built_in import BuiltIn
from sptmod_dist.capture.device import Wet
from sptmod_dist.capture.hosted import Hosted
from sptmod_dist.capture.parameters import Parameter, find, match
from sptmod_dist.capture.plan import Take
from sptmod_dist.data.controls import Control, shown
from sptmod_dist.errors import UserError
from sptmod_dist.typed import number_or_text


class Host(Protocol):
    """What runs a plug-in, in any thread: `BuiltIn` or `Hosted`."""

    name: str
    about: str
    identity: str
    channels: str
    latency: int | None
    parameters: dict[str, Parameter]

    def run(
        self, audio: np.ndarray, rate: int, values: Mapping[str, float | str]
    ) -> np.ndarray:
        """Process `[1, T]` from a fresh state with these parameters."""

    def shown(self, settings: Sequence[Mapping[str, float | str]]) -> list[dict[str, Any]]:
        """What the plug-in says of its parameters after each of these was set."""

    def close(self) -> None:
        """End what still runs."""


def open_host(name: str, plugin_name: str | None = None) -> Host:
    """A built-in effect by its name, or a plug-in by its path.

    Raises:
        UserError: it is not there, or cannot be loaded.
    """
    if name.endswith(".vst3") or "/" in name or Path(name).exists():
        return Hosted(name, plugin_name)
    if plugin_name is not None:
        raise UserError(f"--name {plugin_name} chooses in a VST3 file, which {name} is not.")
    return BuiltIn(name)


def open_plugin(
    name: str,
    controls: Sequence[Control],
    mapping: Mapping[str, str] | None = None,
    fixed: Mapping[str, str] | None = None,
    plugin_name: str | None = None,
) -> PluginDevice:
    """A plug-in, matched to the controls of a plan.

    Args:
        name: of a built-in effect of pedalboard, or the path of a VST3.
        controls: each turns one parameter, found by its name.
        mapping: parameters by controls, where names do not tell.
        fixed: values by parameters which no control turns, as text.
        plugin_name: which, where a file holds several.

    Raises:
        UserError: no such plug-in, parameter or value; see `match`.
    """
    host = open_host(name, plugin_name)
    values = _fixed(host, fixed or {})
    pairs = match(controls, host.parameters, mapping or {}, values)
    return PluginDevice(host, pairs, values)


class PluginDevice:
    """A plug-in with its controls; `open_plugin` makes one.

    Args:
        host: runs it.
        pairs: parameters by controls.
        fixed: values by parameters.
    """

    def __init__(
        self, host: Host, pairs: Mapping[str, str], fixed: Mapping[str, float | str]
    ) -> None:
        self._host, self._pairs, self._fixed = host, dict(pairs), dict(fixed)
        self.latency = host.latency

    by_hand = False

    def check(self, takes: Sequence[Take]) -> None:
        """Set everything once, and compare what the plug-in then shows.

        Raises:
            UserError: a value that its parameter cannot be, with the take.
        """
        for take in takes:
            for control, name in self._pairs.items():
                where = f"{_title(take)}: control '{control}'"
                self._host.parameters[name].require(take.settings[control], where)
        settings = [self._values(take) for take in takes]
        try:
            stand = self._host.shown(settings)
        except UserError:
            self._refuse_first(takes)
            raise
        for take, wanted, found in zip(takes, settings, stand, strict=True):
            self._compare(take, wanted, found)

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        """One take through a fresh plug-in."""
        return Wet(self._host.run(audio, rate, self._values(take)), rate)

    def describe(self) -> str:
        """Plug-in and versions, what each control turns, and what is fixed."""
        turned = [f"{control} turns {name}" for control, name in self._pairs.items()]
        fixed = [f"{name} fixed at {shown(value)}" for name, value in self._fixed.items()]
        return ", ".join([self._host.about, *turned, *fixed])

    def fingerprint(self, take: Take) -> str:
        """The plug-in's versions and code, the pairs, and what is fixed."""
        return f"{self._host.identity} {sorted(self._pairs.items())} {list(self._fixed.items())}"

    def close(self) -> None:
        """End the plug-in's processes."""
        self._host.close()

    def _values(self, take: Take) -> dict[str, float | str]:
        turned = {name: take.settings[control] for control, name in self._pairs.items()}
        return {**self._fixed, **turned}

    def _refuse_first(self, takes: Sequence[Take]) -> None:
        """Say of which take a setting is refused."""
        for take in takes:
            try:
                self._host.shown([self._values(take)])
            except UserError as error:
                raise UserError(f"{_title(take)}: {error}") from error

    def _compare(
        self, take: Take, wanted: Mapping[str, float | str], found: Mapping[str, Any]
    ) -> None:
        for name, value in wanted.items():
            if not _agree(value, found[name], self._host.parameters[name]):
                raise UserError(
                    f"{_title(take)}: {self._host.name} was set to {name} = {shown(value)} and "
                    f"shows {shown(found[name])}; plan values that it can take."
                )


def _title(take: Take) -> str:
    return f"take {take.number} ({take.id})"


def _fixed(host: Host, texts: Mapping[str, str]) -> dict[str, float | str]:
    settable = {name: known for name, known in host.parameters.items() if not known.readable}
    values: dict[str, float | str] = {}
    for wanted, text in texts.items():
        name = find(wanted, settable, f"--set {wanted}={text}")
        value = _typed(settable[name], text)
        settable[name].require(value, f"--set {name}")
        values[name] = value
    return values


def _typed(parameter: Parameter, text: str) -> float | str:
    named = any(isinstance(choice, str) for choice in parameter.choices)
    return text if named else number_or_text(text)


def _agree(wanted: float | str, found: Any, parameter: Parameter) -> bool:
    """Whether a plug-in took a value, up to its steps and to what it rounds for display."""
    if isinstance(wanted, str) or isinstance(found, str):
        return str(wanted) == str(found)
    reach = 0.0
    if parameter.minimum is not None and parameter.maximum is not None:
        reach = parameter.maximum - parameter.minimum
    return abs(float(found) - wanted) <= max(0.01 * abs(wanted), 0.005 * reach, 1e-6)
