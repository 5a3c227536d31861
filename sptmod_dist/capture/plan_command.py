"""`plan`: the list of takes to record, as a table and as a sheet to print."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice, listed
from sptmod_dist.typed import pairs

if TYPE_CHECKING:
    import numpy as np

    from sptmod_dist.capture.plan import Take
    from sptmod_dist.data.controls import Control, Setting

KINDS = ("snapshot", "grid", "lhs")
_FORM = "NAME=VALUE, such as ratio=4"
_FORM_OF_LEVELS = "NAME=V1,V2,…, such as ratio=2,4,8"
_MOST = 100_000
_MOST_SPREAD = 4_000  # the ways between all pairs are held in memory
_MOST_SEED = 999_999_999


def parser() -> ArgumentParser:
    """Options of `plan`."""
    found = plain_parser("plan")
    found.add_argument("kind", choices=list(KINDS), help="one setting, a grid, a Latin hypercube")
    found.add_argument("controls", help="the file controls.yaml")
    found.add_argument("session", help="the folder to make, with the plan")
    found.add_argument("--items", type=int, help="takes of a snapshot (16) or hypercube (160)")
    found.add_argument("--seed", type=int, default=0, help="of the hypercube, of the stimulus; 0")
    found.add_argument(
        "--control",
        action="append",
        metavar="NAME=VALUE",
        help="where a control stays that the plan does not turn, instead of at its default",
    )
    found.add_argument(
        "--levels",
        action="append",
        metavar="NAME=V1,V2,…",
        help="the values of a control in a grid; of a switch: all its positions unless given",
    )
    found.add_argument("--overwrite", action="store_true", help="replace a plan that is there")
    return found


def run(argv: Sequence[str]) -> int:
    """Write the plan.

    Raises:
        UserError: controls, options or folder do not fit together.
    """
    options = parse(parser(), argv)
    from sptmod_dist.capture.controls_file import read_controls
    from sptmod_dist.capture.plan import Plan, Take

    controls, session = read_controls(options.controls), Path(options.session)
    if not options.overwrite:
        _require_free(session, options.controls)
    names = [control.name for control in controls]
    for name in pairs("--control", options.control, _FORM):
        if name not in names:
            raise UserError(f"--control {name}: no such control: {advice(name, names)}")
    if not 0 <= options.seed <= _MOST_SEED - _MOST:
        raise UserError(f"--seed is {options.seed}, but must be 0 to {_MOST_SEED - _MOST}")
    kinds = {"snapshot": _snapshot, "grid": _grid, "lhs": _hypercube}
    settings = kinds[options.kind](controls, options)
    width = max(3, len(str(len(settings) - 1)))
    takes = tuple(
        Take(n, f"item-{n - 1:0{width}}", options.seed + (n - 1) * (options.kind == "snapshot"), s)
        for n, s in enumerate(settings, 1)
    )
    Plan(session, controls, takes).write(session)
    _tell(options.kind, session, controls, takes)
    return 0


def _require_free(session: Path, given: str) -> None:
    from sptmod_dist.capture.plan import CONTROLS, TABLE

    if (session / TABLE).exists():
        raise UserError(f"{session} holds a plan already; add --overwrite to replace it.")
    path = session / CONTROLS
    if path.exists() and path.resolve() != Path(given).resolve():
        raise UserError(f"{path} is there already; plan with it, or add --overwrite to replace it.")


def _snapshot(controls: Sequence[Control], options: Any) -> list[dict[str, Setting]]:
    _refuse(options.levels, "--levels belongs to a grid")
    return [_fixed(controls, options.control)] * _count(options["items"], 16)


def _grid(controls: Sequence[Control], options: Any) -> list[dict[str, Setting]]:
    from sptmod_dist.capture.designs import grid, turns

    _refuse(options["items"], "--items: a grid has as many as its --levels make")
    levels = _levels(controls, options.levels or [])
    for control in controls:
        if control.positions and control.name not in pairs("--control", options.control, _FORM):
            levels.setdefault(control.name, [control.normalise(p) for p in control.positions])
    if not levels:
        raise UserError("a grid needs --levels NAME=V1,V2,… of at least one control")
    turned = [control for control in controls if control.name in levels]
    count = 1
    for control in turned:
        count *= len(levels[control.name])
    _count(count, 1)
    both = [name for name in levels if name in pairs("--control", options.control, _FORM)]
    if both:
        raise UserError(f"--control {both[0]} and --levels {both[0]} contradict each other")
    fixed = _fixed([c for c in controls if c.name not in levels], options.control)
    rows = grid([levels[control.name] for control in turned])
    print(f"{len(rows)} settings of {len(turned)} controls; {turns(rows)} turns of a knob in all")
    return [_settings(turned, row) | fixed for row in rows]


def _hypercube(controls: Sequence[Control], options: Any) -> list[dict[str, Setting]]:
    from sptmod_dist.capture import designs

    _refuse(options.levels, "--levels belongs to a grid")
    fixed = pairs("--control", options.control, _FORM)
    turned = [control for control in controls if control.name not in fixed]
    if not turned:
        raise UserError("a hypercube needs a control that is turned; take a snapshot")
    count = _count(options["items"], 160, _MOST_SPREAD)
    rows = designs.latin_hypercube(turned, count, options.seed)
    ordered = rows[designs.easy_order(rows)]
    print(
        f"centred discrepancy {designs.discrepancy(turned, rows):.5f}; drawn blindly it is "
        f"{designs.random_discrepancy(turned, count, options.seed):.5f} (0 is perfectly even)\n"
        f"turns of a knob: {designs.turns(ordered)} in this order, {designs.turns(rows)} in the "
        "order drawn"
    )
    rest = _fixed([c for c in controls if c.name in fixed], options.control)
    return [_settings(turned, row) | rest for row in ordered]


def _tell(kind: str, session: Path, controls: Sequence[Control], takes: Sequence[Take]) -> None:
    """What was planned, where it is, and what comes next."""
    turned = [c.name for c in controls if len({take.settings[c.name] for take in takes}) > 1]
    still = [c.told(takes[0].settings[c.name]) for c in controls if c.name not in turned]
    what = "one setting" if not turned else f"turning {listed(turned)}"
    stays = f"; {listed(still)} {'stay' if len(still) > 1 else 'stays'}" if still else ""
    print(f"Planned {len(takes)} takes ({kind}): {what}{stays}.")
    print(
        f"Wrote {session / 'plan.csv'} (settings may be edited there), {session / 'controls.yaml'} "
        f"and {session / 'sheet.html'} (to print, for hardware)."
    )
    place = shlex.quote(str(session))
    print(
        f"Next: `{PROGRAM} capture {place} plugin NAME`, or `command '… {{input}} … {{output}}'`; "
        f"for hardware `{PROGRAM} capture {place} play all.wav`, which makes what is to be played."
    )


def _settings(controls: Sequence[Control], row: np.ndarray) -> dict[str, Setting]:
    return {c.name: c.at(float(place)) for c, place in zip(controls, row, strict=True)}


def _fixed(controls: Sequence[Control], given: Sequence[str] | None) -> dict[str, Setting]:
    """Where the controls stay that a plan does not turn."""
    typed, settings = pairs("--control", given, _FORM), {}
    for control in controls:
        if control.name in typed:
            settings[control.name] = control.setting(control.read(typed[control.name]))
        elif control.default is not None:
            settings[control.name] = control.default
        else:
            raise UserError(
                f"control '{control.name}' has no default: give --control {control.name}=VALUE"
            )
    return settings


def _levels(controls: Sequence[Control], given: Sequence[str]) -> dict[str, list[float]]:
    known = {control.name: control for control in controls}
    levels = {}
    for name, text in pairs("--levels", given, _FORM_OF_LEVELS).items():
        if name not in known:
            raise UserError(f"--levels {name}: no such control: {advice(name, known)}")
        control = known[name]
        places = [control.normalise(control.read(value.strip())) for value in text.split(",")]
        if len(set(places)) < len(places):
            raise UserError(f"--levels {name}={text}: a value stands twice; give it once")
        levels[name] = places
    return levels


def _count(items: int | None, default: int, most: int = _MOST) -> int:
    count = default if items is None else items
    if not 1 <= count <= most:
        raise UserError(f"{count} takes are asked for, but there must be 1 to {most:,}")
    return count


def _refuse(given: object, why: str) -> None:
    if given is not None:
        raise UserError(f"{why}; see `{PROGRAM} plan --help`")
