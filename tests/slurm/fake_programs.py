"""SLURM's programs as stand-ins that write down what they were called with, for fast tests of the
scripts; the real ones are in `cluster.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

RECORDER = f"""#!{sys.executable}
import json, os, sys
name = os.path.basename(sys.argv[0])
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
codes = json.loads(os.environ.get("CODES", "{{}}"))
sys.exit(next((code for word, code in codes.items() if word in sys.argv), 0))
"""
NAMES = ("sbatch", "srun", "scontrol", "getent")


class Fakes:
    """Stand-ins in a folder that comes first in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls_file = folder / "bin", folder / "calls"
        self.folder.mkdir()
        for name in NAMES:
            (self.folder / name).write_text(RECORDER)
            (self.folder / name).chmod(0o755)

    def run(self, *words: str, codes: dict[str, int] | None = None, **variables: str) -> int:
        """Run something among them; `codes`: a word of a call and the code that it then ends with.

        What it prints is kept in `said`.
        """
        self.calls_file.unlink(missing_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SLURM")},
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "CALLS": str(self.calls_file),
            "CODES": json.dumps(codes or {}),
            **variables,
        }
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
        self.said = done.stdout + done.stderr
        return done.returncode

    @property
    def calls(self) -> list[list[str]]:
        """Every call, the program's name first."""
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]
