"""Any program as a device: `ffmpeg -i {input} -af acompressor=ratio={ratio} {output}`.

`{input}` and `{output}` stand for WAV files, every control for its value: `{ratio}`, or with a
format, `{ratio:.1f}`. No shell reads the line. It must not know of sessions or checks.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import string
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist import audio as audio_files
from sptmod_dist.capture.device import Wet
from sptmod_dist.capture.plan import Take
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

FILES = ("input", "output")
PATIENCE = 60.0
"""Seconds that a program may take beyond the audio's own, unless a limit is given."""
_VERSIONS = {"ffmpeg": "-version", "sox": "--version"}
"""Programs that are known to tell; no other is run with options of ours."""
_LARGEST = 1 << 28
"""Bytes of a file in the command whose contents count."""


class CommandDevice:
    """A command line with `{input}`, `{output}` and the controls.

    Args:
        template: the line, with quotes as for a shell.
        controls: each must stand in it.
        limit: seconds for a take; None: as long as its audio, and a minute.
        scratch: a folder for the files of takes at work; None: the system's.

    Raises:
        UserError: the program is not there, or the placeholders are not those of the plan.
    """

    latency: int | None = None
    by_hand = False

    def __init__(
        self,
        template: str,
        controls: Sequence[Control],
        limit: float | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.template, self.limit = template, limit
        self._scratch = None if scratch is None else scratch.resolve()
        self._words = _words(template)
        _check_names(template, [control.name for control in controls])
        self._program = shutil.which(self._words[0])
        if self._program is None:
            raise UserError(
                f"the program {self._words[0]!r} of the command is not there; install it, or give "
                "its path."
            )
        self._about = _about(self._program, self._words)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def check(self, takes: Sequence[Take]) -> None:
        """Fill in every take's settings.

        Raises:
            UserError: a value that its format does not suit.
        """
        for take in takes:
            self._filled(take, Path("in"), Path("out"))

    def process(self, audio: np.ndarray, rate: int, take: Take) -> Wet:
        """Run the command in files of its own, which are gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="take-", dir=self._scratch) as folder:
            dry, wet = Path(folder, "input.wav"), Path(folder, "output.wav")
            audio_files.write(dry, audio, rate, "PCM_24")
            limit = self.limit or PATIENCE + audio.shape[1] / rate
            self._run(self._filled(take, dry, wet), Path(folder, "said"), limit, take)
            if not wet.is_file():
                raise UserError(
                    f"take {take.number} ({take.id}): the command ended well and wrote nothing to "
                    "{output}; correct the command."
                )
            try:
                return Wet(*audio_files.read(wet))
            except UserError:
                raise UserError(
                    f"take {take.number} ({take.id}): the command ended well, and what it wrote to "
                    "{output} is no audio that can be read; let it write a WAV file."
                ) from None

    def describe(self) -> str:
        """The command, and what is known of the program."""
        return f"command {self.template!r}, {self._about}"

    def fingerprint(self, take: Take) -> str:
        """The command, and the contents of the program and of the files that it names."""
        return self.describe()

    def close(self) -> None:
        """End what still runs; nothing can be started afterwards."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _end(process)

    def _filled(self, take: Take, dry: Path, wet: Path) -> list[str]:
        values = {**take.settings, "input": str(dry), "output": str(wet)}
        try:
            return [_fill(word, values) for word in self._words]
        except ValueError as error:
            raise UserError(
                f"take {take.number} ({take.id}): a value does not suit its place in the command: "
                f"{error}; correct the format behind the colon."
            ) from error

    def _run(self, words: list[str], said: Path, limit: float, take: Take) -> None:
        with open(said, "wb") as sink:
            process = self._start(words, sink.fileno())
        try:
            code = process.wait(limit)
            fault = f"ended with code {code}"
        except subprocess.TimeoutExpired:
            fault = f"was not done after {limit:.0f} s, the limit"
            code = 1
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)
        if code:
            raise UserError(f"take {take.number} ({take.id}): the command {fault}: {_last(said)}")

    def _start(self, words: list[str], sink: int) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise UserError("the capture was ended.")
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    start_new_session=True,  # so that all that it started can be ended with it
                )
            except OSError as error:
                raise UserError(f"{words[0]} cannot be run: {error.strerror}.") from error
            self._running.add(process)
        return process


def _words(template: str) -> list[str]:
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise UserError(f"the command {template!r} cannot be read: {error}; mend it.") from error
    if not words:
        raise UserError("the command is empty; give one with {input} and {output}.")
    return words


def _check_names(template: str, controls: Sequence[str]) -> None:
    known = [*FILES, *controls]
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UserError(
            f"the command {template!r} cannot be read: {error}; write a brace of its own twice."
        ) from error
    for name in names:
        if name not in known:
            raise UserError(f"the command has the unknown place {{{name}}}: {advice(name, known)}")
    for name in known:
        if name not in names:
            raise UserError(
                f"the command lacks {{{name}}}; write it where "
                f"{'the file' if name in FILES else 'the value of that control'} belongs."
            )


def _fill(word: str, values: Mapping[str, float | str]) -> str:
    parts = []
    for text, name, form, _ in string.Formatter().parse(word):
        parts.append(text)
        if name is not None:
            value = values[name]
            plain = f"{value:.9g}" if isinstance(value, float) else str(value)
            parts.append(format(value, form) if form else plain)
    return "".join(parts)


def _about(program: str, words: Sequence[str]) -> str:
    """A version where one is known to be told, and short sums of the files behind the command."""
    name = Path(program).name
    told = []
    if name in _VERSIONS:
        done = subprocess.run(
            [program, _VERSIONS[name]], capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        told = [line.partition(" Copyright")[0] for line in done.stdout.splitlines()[:1]]
    files = [Path(program), *(Path(word) for word in words[1:] if _is_small_file(word))]
    return ", ".join([*told, *(f"{file.name} {_sum(file)}" for file in files)])


def _is_small_file(word: str) -> bool:
    try:
        return Path(word).is_file() and Path(word).stat().st_size <= _LARGEST
    except OSError:
        return False


def _sum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill all of the command's processes, also those that it left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _last(said: Path, lines: int = 3) -> str:
    """The end of what a command said."""
    text = said.read_bytes()[-2000:].decode(errors="replace")
    found = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return " / ".join(found) or "it said nothing"
