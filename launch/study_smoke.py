"""The smoke study: all the machinery of a study on tiny models, killed twice and continued.

    python launch/study_smoke.py                # what `make study-smoke` does
    python launch/study_smoke.py --recordings   # only makes the recordings that the study trains on

Each kill comes at a random moment and without a warning: once the worker with all its trainings,
once the worker alone. What was finished by then must not be trained again.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from sptmod_dist import audio
from sptmod_dist.files import atomic_write

STUDY = Path(__file__).parent / "configs" / "study_smoke.yaml"
RATE, ITEMS, SECONDS = 8000, 12, 1


def compress(x: np.ndarray, drive: float) -> np.ndarray:
    """A gain with memory: a one-pole envelope divides the signal."""
    envelope, gains = 0.0, []
    for value in np.abs(x).tolist():
        envelope += 0.02 * (value - envelope)
        gains.append(1 / (1 + drive * envelope))
    return x * np.array(gains)


def make_recordings(folder: Path) -> Path:
    """Noise bursts through a toy compressor at settings of its one control; a manifest of them.

    Nothing is made anew where the manifest stands, which comes last.
    """
    path = folder / "manifest.yaml"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    draw, items = np.random.default_rng(5), []
    for number in range(ITEMS):
        name, drive = f"item{number:02d}", 1.0 + 9.0 * number / (ITEMS - 1)
        steps = np.repeat(draw.uniform(0.05, 0.9, RATE * SECONDS // 400), 400)
        x = draw.uniform(-1, 1, len(steps)) * steps
        for kind, signal in (("in", x), ("out", compress(x, drive))):
            path_of = folder / f"{name}-{kind}.wav"
            audio.write(path_of, signal[None].astype(np.float32), RATE, "FLOAT")
        files = {"input": f"{name}-in.wav", "output": f"{name}-out.wav"}
        items.append({"id": name, **files, "controls": {"drive": drive}})
    control = {"name": "drive", "minimum": 1, "maximum": 10, "scale": "linear"}
    about = {"format": "sptmod-recordings-1", "sample_rate": RATE, "device": "a toy compressor"}
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump({**about, "controls": [control], "items": items}))
    return path


def main() -> int:
    """Run the study and check what it left."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--study", type=Path, default=STUDY, help="the study's file")
    parser.add_argument("--recordings", action="store_true", help="make these alone")
    parser.add_argument("--kills", type=int, default=2, help="how many; 2")
    parser.add_argument("--seed", type=int, help="of the moments; another one each time")
    options = parser.parse_args()
    about = yaml.safe_load(options.study.read_text())
    manifest = Path(about["datasets"]["toy"]["manifest"])
    make_recordings(manifest.parent)
    if options.recordings:
        print(f"the recordings are {manifest}")
        return 0
    return _run(options.study, Path(about["folder"]), options.kills, options.seed)


def _run(study: Path, folder: Path, kills: int, seed: int | None) -> int:
    begun, draw = time.monotonic(), random.Random(seed)
    done: dict[str, float] = {}
    for number in range(kills):
        seconds = draw.uniform(1, 20)
        process = _start(study)
        if not _trains(process, folder) or _ends(process, seconds):
            break
        tree = [process] if number % 2 else [process, *_below(process)]
        for each in tree:
            _kill(each)
        process.wait()
        done |= _finished(folder, done)
        whole = "alone" if number % 2 else f"and {len(tree) - 1} trainings"
        print(f"==> killed the worker {whole} after {seconds:.0f} s: {len(done)} finished")
    code = _start(study).wait()
    again = [name for name, date in done.items() if _date(folder, name) != date]
    states = [entry["state"] for entry in _status(study)]
    print(f"==> {states.count('finished')} of {len(states)} finished, {len(again)} trained again")
    print(f"==> {time.monotonic() - begun:.0f} s in all, {kills} kills among them")
    good = not code and set(states) == {"finished"} and not again
    good = good and (folder / "report" / "report.md").is_file()
    print("==> the study is complete" if good else f"==> something is wrong: {again or states}")
    return 0 if good else 1


def _start(study: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sptmod_dist", "study", "run", str(study)]
    return subprocess.Popen(command, start_new_session=True)


def _trains(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Wait until a new attempt has begun; whether one has before the worker's end."""
    before = set(folder.glob("state/*/attempt-*.json"))
    while process.poll() is None:
        if set(folder.glob("state/*/attempt-*.json")) - before:
            return True
        time.sleep(0.1)
    return False


def _ends(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _kill(process: Any) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        pass


def _finished(folder: Path, known: dict[str, float]) -> dict[str, float]:
    names = [path.parent.name for path in folder.glob("state/*/result.json")]
    return {name: _date(folder, name) for name in names if name not in known}


def _date(folder: Path, name: str) -> float:
    """When a training ended; its attempts tell too, but this is what another end would change."""
    return (folder / "state" / name / "result.json").stat().st_mtime


def _status(study: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "sptmod_dist", "study", "status", str(study), "--json"]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True).stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
