"""The command `capture`: record every take of a plan, through a plug-in, a program or hardware."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.data.locks import locked
from sptmod_dist.errors import UserError
from sptmod_dist.typed import pairs

if TYPE_CHECKING:
    from sptmod_dist.capture.device import Device
    from sptmod_dist.capture.plan import Plan, Take
    from sptmod_dist.capture.session import Session
    from sptmod_dist.capture.stimuli import Stimuli

KINDS = ("plugin", "command", "recordings", "play")
OWN = {
    "map": "plugin", "set": "plugin", "name": "plugin", "limit": "command",
    "pause": "play", "hardware": "recordings",
}  # fmt: skip
"""Options that one kind alone has."""
PAUSE = 10.0


def parser() -> ArgumentParser:
    """Options of `capture`."""
    parser = plain_parser("capture")
    parser.add_argument("session", help="the folder of the plan")
    parser.add_argument(
        "kind",
        choices=KINDS,
        help="plugin: an effect of pedalboard or a VST3; command: any program; recordings: what "
        "you recorded; play: write a file to play through hardware, for recordings",
    )
    parser.add_argument(
        "what",
        help="plugin: Compressor, FILE.vst3; command: 'PROGRAM {input} … {CONTROL} … {output}'; "
        "recordings: a folder with a file a take, named by its id or number, or one long file; "
        "play: the WAV file to write",
    )
    parser.add_argument("--takes", metavar="A-B", help="only these of the plan, such as 1-80")
    parser.add_argument("--stimulus", metavar="FOLDER", help="of the stimuli; SESSION/stimulus")
    parser.add_argument("--rate", type=int, help="in Hz, of stimuli that are not there yet")
    parser.add_argument("--music", metavar="FOLDER", help="for stimuli that are not there yet")
    parser.add_argument(
        "--map", action="append", metavar="CONTROL=PARAMETER", help="what a control turns; repeat"
    )
    parser.add_argument(
        "--set", action="append", metavar="PARAMETER=VALUE", help="what stays fixed; repeat"
    )
    parser.add_argument("--name", help="which plug-in, where a file holds several")
    parser.add_argument("--limit", type=float, help="seconds that a command may take for a take")
    parser.add_argument("--pause", type=float, help=f"seconds before a take to play; {PAUSE:g}")
    parser.add_argument("--hardware", metavar="TEXT", help="what was recorded, for the manifest")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace takes of another device or recording, or the file",
    )
    parser.add_argument("--fraction", action="store_true", help="remove parts of a sample, too")
    parser.add_argument("--polarity", action="store_true", help="turn what comes out inverted")
    parser.add_argument("--workers", type=int, help="takes at once; one a core, at most 8")
    return parser


def run(argv: Sequence[str]) -> int:
    """Record, or write the file to play; 2 where the takes together show a fault.

    Raises:
        UserError: options that do not fit, and as `Capture.run`.
    """
    options = parse(parser(), argv)
    _check(options)
    from sptmod_dist.capture.plan import Plan
    from sptmod_dist.capture.stimuli import make_missing

    session = Path(options.session)
    plan = Plan.read(session)
    takes = _chosen(plan, options.takes)
    folder = options.stimulus or session / "stimulus"
    seeds = [take.stimulus for take in takes]
    stimuli = make_missing(folder, seeds, options.rate, options.music)
    if options.kind == "play":
        return _play(options, plan, takes, stimuli)
    return _record(options, plan, takes, stimuli)


def _check(options: Any) -> None:
    for name, kind in OWN.items():
        if getattr(options, name) not in (None, False) and options.kind != kind:
            raise UserError(f"{PROGRAM} capture: --{name} belongs to {kind}, not to {options.kind}")
    for name, least in (("workers", 1), ("limit", 0.1), ("pause", 0)):
        given = getattr(options, name)
        if given is not None and not least <= given < 1e6:
            raise UserError(f"{PROGRAM} capture: --{name} is {given}, but must be {least} or more")


def _play(options: Any, plan: Plan, takes: Sequence[Take], stimuli: Stimuli) -> int:
    from sptmod_dist.capture.play import write_session

    path = Path(options.what)
    for file in (path, path.with_suffix(".txt")):
        if file.exists() and not options.overwrite:
            raise UserError(f"{file} exists already; add --overwrite to replace it.")
    pause = PAUSE if options.pause is None else options.pause
    print(write_session(path, takes, plan.controls, stimuli, pause))
    print(
        f"Wrote {path}, and this list beside it. Play it through the device, record what comes "
        f"out in one file at {stimuli.rate} Hz, and give it to `capture {options.session} "
        f"recordings FILE{f' --takes {options.takes}' if options.takes else ''}`."
    )
    return 0


def _record(options: Any, plan: Plan, takes: Sequence[Take], stimuli: Stimuli) -> int:
    from sptmod_dist.capture.session import scratch

    session = Path(options.session)
    with _alone(session), scratch(session) as place:
        return _record_alone(options, plan, takes, stimuli, place)


@contextmanager
def _alone(session: Path) -> Iterator[None]:
    """Against another capture of the session, which would mix its takes with ours."""
    try:
        with locked(session / ".lock", wait=False):
            yield
    except BlockingIOError:
        raise UserError(
            f"another capture is at work in {session}; wait for its end, or end it first."
        ) from None


def _record_alone(
    options: Any, plan: Plan, takes: Sequence[Take], stimuli: Stimuli, place: Path
) -> int:
    from sptmod_dist.capture.capture import Alignment, Capture
    from sptmod_dist.capture.session import Session
    from sptmod_dist.capture.session_report import finish

    device = _device(options, plan, takes, stimuli, place)
    print(f"Recording {len(takes)} takes: {device.describe()}.")
    for line in getattr(device, "assignment", list)():
        print(f"    {line}")
    absent = getattr(device, "missing", ())
    there = [take for take in takes if take not in absent]
    session = Session(options.session, plan)
    alignment = Alignment(options.fraction, options.polarity)
    workers = options.workers or min(8, os.cpu_count() or 1)
    capture = Capture(session, device, stimuli, alignment)
    try:
        capture.run(there, workers, options.overwrite)
    except (KeyboardInterrupt, SystemExit):
        _tell_ended(session)
        raise
    missing = [take for take in absent if take in session.missing()]
    sound = finish(session, device.describe(), stimuli.rate, capture.sketches, workers)
    if missing:
        names = ", ".join(take.id for take in missing)
        raise UserError(
            f"{options.what} has no file for {len(missing)} of {len(takes)} takes: {names}; the "
            "others are done: record these, and run the same command again."
        )
    return 0 if sound else UserError.code


def _tell_ended(session: Session) -> None:
    done = sum(session.done(take) is not None for take in session.plan.takes)
    print(
        f"\nThe capture was ended: {done} of {len(session.plan.takes)} takes are there; the same "
        "command records the rest.",
        file=sys.stderr,
    )


def _device(
    options: Any, plan: Plan, takes: Sequence[Take], stimuli: Stimuli, place: Path
) -> Device:
    make: dict[str, Callable[[], Device]] = {
        "plugin": lambda: _plugin(options, plan),
        "command": lambda: _command(options, plan, place),
        "recordings": lambda: _recordings(options, takes, stimuli),
    }
    return make[options.kind]()


def _plugin(options: Any, plan: Plan) -> Device:
    from sptmod_dist.capture.plugin import open_plugin

    mapping = pairs("--map", options.map, "CONTROL=PARAMETER")
    fixed = pairs("--set", options.set, "PARAMETER=VALUE")
    return open_plugin(options.what, plan.controls, mapping, fixed, options.name)


def _command(options: Any, plan: Plan, place: Path) -> Device:
    from sptmod_dist.capture.command_device import CommandDevice

    return CommandDevice(options.what, plan.controls, options.limit, place)


def _recordings(options: Any, takes: Sequence[Take], stimuli: Stimuli) -> Device:
    from sptmod_dist.capture.long_recording import LongRecording
    from sptmod_dist.capture.recorded import RecordedFiles

    about = options.hardware or ""
    if Path(options.what).is_dir():
        return RecordedFiles(options.what, takes, about)
    return LongRecording(options.what, takes, stimuli.layout(), about)


def _chosen(plan: Plan, text: str | None) -> list[Take]:
    """The takes that `--takes` names, `3` or `1-80`."""
    if text is None:
        return list(plan.takes)
    first, dash, last = text.partition("-")
    numbers = [first, last if dash else first]
    if not all(number.isdecimal() for number in numbers):
        raise UserError(f"--takes {text}: give take numbers like 1-80, or one")
    chosen = [take for take in plan.takes if int(numbers[0]) <= take.number <= int(numbers[1])]
    if not chosen:
        raise UserError(f"--takes {text}: the plan has takes 1 to {len(plan.takes)}")
    return chosen
