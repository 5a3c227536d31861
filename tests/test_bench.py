"""Benchmarks run, say what they found under names that stay, and refuse in a sentence."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import processes
import pytest
import torch

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.model.config import PRESETS

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]  # many processes to start
BENCH = [sys.executable, str(processes.ROOT / "launch" / "bench.py")]
TIMES = {
    "iteration_of_one", "iteration_of_two", "efficiency", "efficiency_of_machine",
    "efficiency_of_exchange", "communication",
}  # fmt: skip
if sys.platform == "linux":
    TIMES |= {"efficiency_bound", "communication_bound"}
SHARDS = ("virtual_shards2", "virtual_shards4")
NAMES = {
    *(f"scaling.{preset}.{name}" for preset in ("tiny", "sptmod25") for name in TIMES),
    *(f"scaling.tiny.{name}" for name in SHARDS),
    *(f"scaling.bytes.tiny.{w}.{k}" for w in ("ddp", *SHARDS) for k in ("gradients", "small")),
    *(f"scaling.bytes.sptmod25.ddp.{kind}" for kind in ("gradients", "small")),
    *(f"scaling.bytes.sptmod{year}.n{n}" for year in (24, 25) for n in (1, 3)),
    *(f"scaling.sent.sptmod{y}.{way}" for y in (24, 25) for way in ("ddp", "virtual_shards8")),
    *(f"scaling.projected.sptmod{year}.{w}" for year in (24, 25) for w in (8, 64, 512)),
}
FORMATS = ("float32", "pcm24", "pcm16", "flac")
STORED = {f"{kind}.{name}" for kind in ("local", "packed") for name in FORMATS} | {"memory_map"}
LOADERS = STORED | {"remote.float32", "stream.float32", "resident.ram", "webdataset"}
if torch.cuda.is_available():
    LOADERS |= {"resident.device"}
if importlib.util.find_spec("streaming"):
    STORED, LOADERS = STORED | {"mosaicml"}, LOADERS | {"mosaicml"}
DATA_NAMES = {
    *(f"data.n3.{name}" for name in ("local_over_streams", "local_over_map", "resident_over_map")),
    *(f"data.n3.{name}.{what}" for name in LOADERS for what in ("speed", "memory")),
    *(f"data.n3.{name}.size" for name in STORED),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], str]:
    """Figures by name and what was printed, of a real but tiny run of real processes."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    done = processes.run([*BENCH, "scaling", "--quick", "--json", str(file), "--step_ms", "10"])
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    assert len({figure["name"] for figure in figures}) == len(figures)
    return {figure["name"]: figure for figure in figures}, done.stdout


def test_figures_have_the_names_that_stay_and_all_fields(quick: Any) -> None:
    figures, _ = quick
    assert set(figures) == NAMES
    for figure in figures.values():
        assert set(figure) == {"name", "value", "unit", "target", "better"}
        assert figure["better"] in ("higher", "lower") and figure["unit"] in ("1", "ms", "bytes")
        assert isinstance(figure["value"], (int, float))
    assert figures["scaling.tiny.efficiency"]["target"] == 0.9


def test_the_table_shows_every_figure(quick: Any) -> None:
    figures, text = quick
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(figures)
    assert all(row.count("|") == 6 for row in rows)


def test_what_two_processes_exchange_is_what_was_computed(quick: Any) -> None:
    figures, _ = quick
    counted = {n: f for n, f in figures.items() if n.endswith((".gradients", ".small"))}
    assert len(counted) == 8
    for figure in counted.values():
        assert figure["value"] == figure["target"] > 0


@pytest.mark.parametrize("preset", ["sptmod24", "sptmod25"])
def test_an_iteration_exchanges_four_bytes_a_parameter(quick: Any, preset: str) -> None:
    figures, _ = quick
    config = PRESETS[preset](7)
    effect, spn = (
        sum(p.numel() for p in network(config).parameters())
        for network in (SPTMod, StatePredictionNetwork)
    )
    values = {name: figure["value"] for name, figure in figures.items()}
    assert values[f"scaling.bytes.{preset}.n1"] == 4 * (effect + spn)
    assert values[f"scaling.bytes.{preset}.n3"] == 4 * (effect + spn / 3)
    assert values[f"scaling.sent.{preset}.ddp"] == 4 * (effect + spn) * 2 * 7 / 8
    assert values[f"scaling.sent.{preset}.virtual_shards8"] == 4 * (effect + spn) * 7


def test_the_projection_falls_with_ranks_and_follows_the_step_time(quick: Any) -> None:
    figures, text = quick
    efficiencies = [figures[f"scaling.projected.sptmod25.{w}"]["value"] for w in (8, 64, 512)]
    assert 1 > efficiencies[0] > efficiencies[1] > efficiencies[2] > 0
    # 10 ms; two all-reduces of 2 log2(8) hops of 10 us and two all-gathers of log2(8)
    hops, news = 18 * 10e-6, (7 * 16 + 7 * 72) / 20e9
    exchange = hops + 478_584 * 2 * 7 / 8 / 20e9 + news
    assert efficiencies[0] == pytest.approx(0.01 / (0.01 + exchange))
    assert "t_step = 10 ms" in text


@pytest.mark.parametrize(("benchmark", "names"), [
    ("capture", {"capture.compressor.real_time"}),
    ("checkpoint", {"checkpoint.stall"}),
    ("step", {"step.sptmod24.first.fast_ratio", "step.sptmod25.later.share_of_floor"}),
    ("loss", {"loss.4096.ratio", "loss.16384.ours"}),
    ("realtime", {"realtime.sptmod25.512", "realtime.tiny.64"}),
    ("study", {"study.seconds.ratio", "study.memory.ratio", "study.paper.published_hours"}),
])
def test_a_quick_run_gives_figures_by_their_names(
    tmp_path: Path, benchmark: str, names: set[str]
) -> None:
    file = tmp_path / "figures.json"
    done = processes.run([*BENCH, benchmark, "--quick", "--json", str(file)], limit=280)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    found = {figure["name"] for figure in figures}
    assert len(found) == len(figures) and names <= found
    assert all(f"`{name}`" in done.stdout for name in found)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], str, Path]:
    """As `quick`, of the benchmark of reading, and the folder of its sets."""
    folder = tmp_path_factory.mktemp("bench-data")
    file, sets = folder / "figures.json", folder / "sets"
    arguments = ["data", "--quick", "--json", str(file), "--folder", str(sets)]
    done = processes.run([*BENCH, *arguments], limit=240)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    return {figure["name"]: figure for figure in figures}, done.stdout, sets / "n3"


def test_every_mode_and_format_has_speed_memory_and_size(data: Any) -> None:
    figures, text, _ = data
    assert set(figures) == DATA_NAMES
    assert all(figure["value"] > 0 for figure in figures.values())
    targets = {n.removeprefix("data.n3."): f["target"] for n, f in figures.items() if f["target"]}
    assert targets == {"local_over_streams": 3, "local_over_map": 0.8, "resident_over_map": 2}
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(figures)


def test_a_loader_that_is_not_installed_has_a_line_that_says_how_to(data: Any) -> None:
    _, text, _ = data
    lines = [line for line in text.splitlines() if line.startswith("- mosaicml-streaming ")]
    assert len(lines) == 1
    if "mosaicml" not in LOADERS:
        assert "was not measured: without streaming" in lines[0]
        assert "`pip install --no-deps mosaicml-streaming`" in lines[0]


def test_all_loaders_give_the_same_sequences(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of the recordings; those with an exact order give each one once an epoch."""
    monkeypatch.syspath_prepend(str(processes.ROOT / "launch"))
    source = importlib.import_module("benchmarks.data_contenders").Source
    case = importlib.import_module("benchmarks.data").QUICK.cases[0]
    windows = list(_windows(data[2] / "arrays", case.samples, case.hop))
    expected = {tuple(part.tobytes() for part in window) for window in windows}
    assert len(expected) == len(windows)
    folders = {"webdataset": "local-float32/train", "memory_map": "arrays", "mosaicml": "mds"}
    exact = dict.fromkeys(("local", "remote", "resident_ram"), "local-float32/train")
    packed = dict.fromkeys(("local", "resident_ram"), "packed-float32/train")
    loaders = [*(exact | folders).items(), *packed.items(), ("stream", exact["local"])]
    for loader, folder in loaders:
        if loader == "mosaicml" and "mosaicml" not in LOADERS:
            continue
        batches = source(loader, str(data[2] / folder), case.samples, case.hop, 4, 0).open()
        taken = islice(batches, len(windows) // 4)
        found = [
            tuple(part[row].numpy().tobytes() for part in batch)
            for batch in taken
            for row in range(4)
        ]
        batches.close()
        assert set(found) <= expected, loader
        if loader in exact or loader == "memory_map":
            assert len(set(found)) == len(found), loader


def _windows(folder: Path, samples: int, hop: int) -> Iterator[tuple[np.ndarray, ...]]:
    controls = np.array(json.loads((folder / "controls.json").read_text()), np.float32)
    for number, vector in enumerate(controls):
        ends = [np.load(folder / f"{number:03}-{end}.npy") for end in ("input", "output")]
        for start in range(0, ends[0].shape[1] - samples + 1, hop):
            yield *(end[:, start : start + samples] for end in ends), vector


REFUSED = {
    ("scalling",): "there is no benchmark 'scalling': did you mean scaling?",
    (): "the following arguments are required: NAME: see `python launch/bench.py --help`",
    ("scaling", "--sleep", "3"): "scaling does not know --sleep 3: see",
    ("scaling", "--step_ms", "0"): "--step_ms is 0.0, but must be greater than 0",
    ("scaling", "--step_ms", "nan"): "--step_ms is nan, but must be greater than 0",
    ("scaling", "--json", "/no/such/folder/a.json"): "--json /no/such/folder/a.json cannot be",
    ("data", "--workers", "2", "-1"): "--workers is -1, but must be at least 0",
    ("scaling", "--json", "."): "--json . is a folder: give a file",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_is_wrong_is_said_in_a_sentence_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = processes.run([*BENCH, *arguments], cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"bench.py: error: {REFUSED[arguments]}")
    assert done.stderr.count("\n") == 1


def test_a_process_that_cannot_work_ends_the_benchmark_in_a_sentence(tmp_path: Path) -> None:
    """Nothing is left behind, and the sentence has the process's own words."""
    (tmp_path / "accelerate.py").write_text("raise RuntimeError('no accelerate today')\n")
    done = processes.run([*BENCH, "scaling", "--quick"], PYTHONPATH=f"{tmp_path}:{processes.ROOT}")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("bench.py: error: the processes of '")
    assert done.stderr.endswith(
        "' ended before they began; their words: RuntimeError: no accelerate today\n"
    )
