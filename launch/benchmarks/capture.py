"""How fast a plan is captured: a Latin hypercube of 96 s items through pedalboard's compressor.

The commands themselves run, as a user would type them, in a process each; the clock is on
`capture`, from its start to its end, with every take checked, aligned and written.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.jobs import BenchmarkError
from benchmarks.report import Figure, Section, cores
from sptmod_dist.data.stimulus import SOURCE_SECONDS
from sptmod_dist.errors import UserError

ITEMS, QUICK_ITEMS = 160, 2
TARGET = 50.0
"""Times real time, on two cores."""
CONTROLS = """\
format: sptmod-controls-1
controls:
  - {name: threshold, minimum: -50, maximum: 0, unit: dB, default: -20}
  - {name: ratio, minimum: 1, maximum: 20, scale: log, unit: ":1", default: 4}
  - {name: attack, minimum: 0.1, maximum: 100, scale: log, unit: ms, default: 5}
  - {name: release, minimum: 10, maximum: 1000, scale: log, unit: ms, default: 100}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that no other benchmark has."""
    parser.add_argument("--items", type=int, help=f"of the plan ({ITEMS}; --quick: {QUICK_ITEMS})")
    parser.add_argument("--workers", type=int, help="takes at once (one a core)")
    parser.add_argument(
        "--folder", type=Path, help="keep the session here (2 GB; otherwise a temporary folder)"
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Plan, make the stimulus, and time the capture.

    Raises:
        UserError: an impossible option, no pedalboard, a folder that is not empty, or a command
            that fails.
    """
    items = options.items or (QUICK_ITEMS if options.quick else ITEMS)
    if importlib.util.find_spec("pedalboard") is None:
        raise UserError('the compressor is pedalboard\'s: pip install "sptmod-dist[devices]"')
    with _folder(options.folder) as session:
        controls = session.parent / f"{session.name}.yaml"
        controls.write_text(CONTROLS)
        plan = ["lhs", str(controls), str(session), "--items", str(items), "--seed", "0"]
        planning = _timed("plan", *plan)
        stimulus = _timed("stimulus", str(session / "stimulus"))
        workers = ["--workers", str(options.workers)] if options.workers else []
        seconds = _timed("capture", str(session), "plugin", "Compressor", *workers)
        written = sum(file.stat().st_size for file in session.rglob("*.wav")) / 1e6
    return [_section(items, planning, stimulus, seconds, written)]


def _section(
    items: int, planning: float, stimulus: float, seconds: float, written: float
) -> Section:
    text = (
        f"{items} items of a Latin hypercube of four controls, {SOURCE_SECONDS} s each at 44.1 kHz "
        f"({seconds:.1f} s in all, {cores()} cores): processed, checked, aligned, written, and "
        f"compared with each other at the end. Before that, {planning:.1f} s for the plan and "
        f"{stimulus:.1f} s for the stimulus."
    )
    figures = [
        Figure(
            "capture.compressor.real_time", items * SOURCE_SECONDS / seconds, "1", TARGET,
            "higher", "seconds of items in a second",
        ),
        Figure("capture.compressor.seconds", seconds, "s", None, "lower", "the whole command"),
        Figure("capture.compressor.written", written, "MB", None, "lower", "all WAV files"),
    ]  # fmt: skip
    return Section("Capture through a plug-in", figures, text)


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        if given is None:
            given = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-capture-")))
        session = given / "session"
        if session.exists():
            raise UserError(f"{session} exists already: name another folder with --folder")
        given.mkdir(parents=True, exist_ok=True)
        yield session


def _timed(*words: str) -> float:
    """Seconds that a command takes.

    Raises:
        BenchmarkError: it fails.
    """
    begun = time.perf_counter()
    done = _command(words)
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-3:]
        raise BenchmarkError(f"`sptmod-dist {words[0]}` ended with {done.returncode}: {lines}")
    return time.perf_counter() - begun


def _command(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, "-m", "sptmod_dist", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)
