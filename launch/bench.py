"""Measure this machine, and print what came out as Markdown tables.

    python launch/bench.py scaling
    python launch/bench.py scaling --json figures.json
    python launch/bench.py scaling --quick         # seconds, to see that it runs

`launch/benchmarks.md` says what each benchmark measures and what it gave. A slow figure is no
failure: the exit code is 0 wherever figures came out, 2 where the user can mend something, 1 where
a process failed.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

BENCHMARKS = {
    "scaling": "what it costs to spread a training over processes",
    "data": "how fast training data is read, by ours and by other loaders",
    "checkpoint": "what checkpoints cost, and how soon a resumed training learns",
    "capture": "how fast a plan is captured through a plug-in",
    "study": "how well a study is foreseen, and how long the published one would take",
    "step": "how fast an iteration is, against the definition and against the machine's limits",
    "loss": "how fast the loss is, against its definition",
    "realtime": "how many times faster than real time a stream runs on one core",
}
"""Each is a module of `benchmarks` with `add_options(parser)` and `run(options)`."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a sentence."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UserError(f"{message}: see `python launch/bench.py --help`")


def main(argv: Sequence[str]) -> int:
    """Run one benchmark and return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its processes leave with it
    try:
        options = _options(argv)
        if options.json is not None:
            _check_writable(options.json)
        from benchmarks import report

        about = report.Machine()
        sections = importlib.import_module(f"benchmarks.{options.name}").run(options)
        print(report.markdown(about, sections), flush=True)
        if options.json is not None:
            report.write_json(options.json, sections)
    except UserError as error:
        return _fail(str(error), error.code)
    except OSError as error:
        return _fail(f"{error.filename or 'writing'}: {error.strerror or error}", UserError.code)
    except KeyboardInterrupt:
        return 130
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    names = "\n".join(f"  {name:<12}{text}" for name, text in BENCHMARKS.items())
    parser = Parser(
        prog="bench.py",
        description=f"Measure this machine. NAME is one of\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    name = next((word for word in argv if not word.startswith("-")), None)
    if name in BENCHMARKS:
        importlib.import_module(f"benchmarks.{name}").add_options(parser)
    options, left = parser.parse_known_args(argv)
    if options.name not in BENCHMARKS:
        raise UserError(
            f"there is no benchmark {options.name!r}: {advice(options.name, BENCHMARKS)}"
        )
    if left:
        parser.error(f"{options.name} does not know {' '.join(left)}")
    return options


def _check_writable(path: Path) -> None:
    """Before minutes of work: a file can be made there."""
    if path.is_dir():
        raise UserError(f"--json {path} is a folder: give a file")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(
            f"--json {path} cannot be written ({error.strerror}): choose a folder that exists and "
            "that you may write to"
        ) from None


def _fail(sentence: str, code: int) -> int:
    print(f"bench.py: error: {sentence}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
