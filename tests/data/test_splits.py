"""Folds of a manifest: every item in one split, in proportion, each fold another shuffle."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from sptmod_dist import audio
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.data.splits import counts, divide
from sptmod_dist.errors import UserError

RATIO = Control("ratio", scale="list", positions=(2.0, 4.0, 8.0, 16.0))
DRIVE = Control("drive", 0.0, 10.0)


def items(count: int) -> list[Item]:
    draw = np.random.default_rng(0)
    return [
        Item(f"i{n}", Path("in"), None, Path(f"out{n}"),
             {"ratio": 2.0 ** (1 + n % 4), "drive": float(draw.uniform(0, 10))}, "")
        for n in range(count)
    ]


@pytest.mark.parametrize(("ratios", "count", "expected"), [
    ((8, 4, 4), 16, [8, 4, 4]),
    ((128, 16, 16), 160, [128, 16, 16]),
    ((8, 1, 1), 160, [128, 16, 16]),
    ((8, 4, 4), 10, [5, 3, 2]),
    ((0.5, 0.25, 0.25), 16, [8, 4, 4]),
    ((1, 1, 0), 7, [4, 3, 0]),
])
def test_ratios_are_counts_or_shares(
    ratios: tuple[float, ...], count: int, expected: list[int]
) -> None:
    assert counts(ratios, count) == expected


def test_a_split_without_items_is_refused() -> None:
    with pytest.raises(UserError, match="of 3 items none is left for"):
        counts((8, 4, 4), 3) and counts((100, 1, 1), 3)


@pytest.mark.parametrize("by", [(), (RATIO,), (RATIO, DRIVE)], ids=len)
def test_every_fold_has_its_counts_and_folds_differ(by: tuple[Control, ...]) -> None:
    folds = [divide(items(160), (128, 16, 16), 0, fold, by) for fold in range(10)]
    for fold in folds:
        assert Counter(fold) == {"train": 128, "validation": 16, "test": 16}
    assert len({tuple(fold) for fold in folds}) == 10
    assert folds[3] == divide(items(160), (128, 16, 16), 0, 3, by)
    assert folds[3] != divide(items(160), (128, 16, 16), 1, 3, by)


@pytest.mark.parametrize("fold", range(4))
def test_a_stratified_split_has_its_share_of_every_position(fold: int) -> None:
    splits = divide(items(160), (8, 1, 1), 0, fold, (RATIO,))
    for split, share in (("train", 32), ("validation", 4), ("test", 4)):
        found = Counter(
            item.settings["ratio"]
            for item, s in zip(items(160), splits, strict=True) if s == split
        )
        assert all(abs(found[position] - share) <= 1 for position in RATIO.positions)


def test_without_stratifying_shares_are_left_to_chance() -> None:
    splits = [divide(items(160), (8, 1, 1), 0, fold) for fold in range(4)]
    tests = [Counter(i.settings["ratio"] for i, s in zip(items(160), one, strict=True)
                     if s == "test") for one in splits]
    assert any(max(t.values()) - min(t.get(p, 0) for p in RATIO.positions) > 2 for t in tests)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Sixteen items without a split, in a table."""
    draw, rows = np.random.default_rng(1), []
    for n in range(16):
        for name in (f"in{n}.wav", f"out{n}.wav"):
            samples = draw.uniform(-0.5, 0.5, (1, 800)).astype(np.float32)
            audio.write(tmp_path / name, samples, 8000)
        rows.append(f"i{n},in{n}.wav,out{n}.wav,{2 ** (1 + n % 4)},{'ab'[n % 2]}")
    (tmp_path / "items.csv").write_text("id,input,output,ratio,mode\n" + "\n".join(rows) + "\n")
    modes = {"name": "mode", "positions": ["a", "b"]}
    head = {
        "format": "sptmod-recordings-1",
        "sample_rate": 8000,
        "device": "none",
        "controls": [{"name": "ratio", "minimum": 2, "maximum": 16}, modes],
        "items": "items.csv",
    }
    (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(head))
    return tmp_path / "manifest.yaml"


def test_the_command_writes_a_manifest_a_fold(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(manifest), "--folds", "3", "--stratify", "mode"]) == 0
    assert "manifest-fold2.yaml" in capsys.readouterr().out
    whole = Manifest.read(manifest)
    for fold in range(3):
        found = Manifest.read(manifest.with_name(f"manifest-fold{fold}.yaml"))
        assert [item.id for item in found.items] == [item.id for item in whole.items]
        assert [len(found.of_split(s)) for s in ("train", "validation", "test")] == [8, 4, 4]
        modes = Counter(item.settings["mode"] for item in found.of_split("train"))
        assert modes == {"a": 4, "b": 4}
    assert main(["split", str(manifest), "--folds", "1"]) == 2
    assert "exists already; add --overwrite" in capsys.readouterr().err
    assert main(["split", str(manifest), "--folds", "1", "--overwrite"]) == 0
    older = "not replaced: manifest-fold1.yaml, manifest-fold2.yaml."
    assert older in capsys.readouterr().out


def test_a_fold_of_what_was_recorded_anew_is_refused(manifest: Path) -> None:
    assert main(["split", str(manifest), "--folds", "1"]) == 0
    fold = manifest.with_name("manifest-fold0.yaml")
    table = manifest.with_name("items.csv")
    before = table.read_text()
    assert Manifest.read(fold).of_split("train")
    table.write_text(_turned(before))
    with pytest.raises(UserError, match=r"divide that anew with `sptmod-dist split .*--overwrite`"):
        Manifest.read(fold)
    assert main(["split", str(manifest), "--folds", "1", "--overwrite"]) == 0
    assert Manifest.read(fold).of_split("train")


def _turned(table: str) -> str:
    """With the settings of the last two items exchanged."""
    *lines, one, two = table.splitlines()
    files = [line.rsplit(",", 2)[0] for line in (one, two)]
    rests = [line.rsplit(",", 2)[1:] for line in (two, one)]
    changed = [",".join([file, *rest]) for file, rest in zip(files, rests, strict=True)]
    return "\n".join([*lines, *changed]) + "\n"


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--ratios", "8/4"], "give the shares of train, validation, test"),
    (["--ratios", "8/0/4"], "the first two above 0"),
    (["--ratios", "a/b/c"], "such as 8/4/4"),
    (["--folds", "0"], "--folds is 0"),
    (["--seed", "-2"], "--seed is -2"),
    (["--stratify", "raito"], "did you mean ratio"),
])
def test_what_cannot_be_divided_so_is_a_sentence(
    manifest: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(manifest), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(manifest.parent.glob("*fold*"))


def folds_of(manifest: Path, count: int = 10) -> list[dict[str, str]]:
    """Each item's split, by its id."""
    paths = [manifest.with_name(f"manifest-fold{fold}.yaml") for fold in range(count)]
    return [{item.id: item.split for item in Manifest.read(path).items} for path in paths]


def copy_sound(folder: Path, source: str, target: str) -> None:
    """The same samples in a file of other bytes."""
    samples, rate = audio.read(folder / source)
    audio.write(folder / target, samples, rate, "FLOAT")
    assert (folder / source).read_bytes() != (folder / target).read_bytes()


def test_the_same_sound_in_two_items_stays_in_one_split(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(manifest)]) == 0
    assert any(fold["i3"] != fold["i5"] for fold in folds_of(manifest)), "else nothing is proved"
    assert "belong together" not in capsys.readouterr().out
    copy_sound(manifest.parent, "out5.wav", "out3.wav")
    assert main(["split", str(manifest), "--overwrite", "--stratify", "mode"]) == 0
    assert "belong together and stay in one split: i3, i5." in capsys.readouterr().out
    for fold in folds_of(manifest):
        assert fold["i3"] == fold["i5"]
        assert Counter(fold.values()) == {"train": 8, "validation": 4, "test": 4}


def test_the_same_input_at_the_same_setting_stays_in_one_split(manifest: Path) -> None:
    copy_sound(manifest.parent, "in1.wav", "in9.wav")  # both at ratio 4, mode b
    copy_sound(manifest.parent, "in2.wav", "in3.wav")  # at two settings
    assert main(["split", str(manifest)]) == 0
    assert all(fold["i1"] == fold["i9"] for fold in folds_of(manifest))
    assert any(fold["i2"] != fold["i3"] for fold in folds_of(manifest))


def test_settings_are_kept_apart_where_it_is_asked_for(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(manifest)]) == 0
    assert "more than one split of the first fold: 4; --distinct" in capsys.readouterr().out
    assert main(["split", str(manifest), "--distinct-settings", "--overwrite"]) == 0
    assert "more than one split" not in capsys.readouterr().out
    for fold in folds_of(manifest):
        assert all(len({fold[f"i{n}"] for n in range(k, 16, 4)}) == 1 for k in range(4))
        assert Counter(fold.values()) == {"train": 8, "validation": 4, "test": 4}


@pytest.mark.parametrize("together", [4, 8])
def test_items_that_belong_together_leave_the_counts_as_they_were(together: int) -> None:
    families = [[n] for n in range(16 - together)] + [list(range(16 - together, 16))]
    for fold in range(30):
        splits = divide(items(16), (8, 4, 4), 0, fold, (DRIVE,), families)
        assert Counter(splits) == {"train": 8, "validation": 4, "test": 4}
        assert len(set(splits[-together:])) == 1


def test_what_belongs_together_and_fills_a_split_alone_is_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(1, 15):
        copy_sound(manifest.parent, "out0.wav", f"out{n}.wav")
    assert main(["split", str(manifest)]) == 2
    assert "15 of 16 items belong together" in capsys.readouterr().err
    assert not list(manifest.parent.glob("*fold*"))


def test_settings_of_a_snapshot_cannot_be_kept_apart(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Manifest.read(manifest)
    bare = tuple(replace(item, settings={}) for item in whole.items[:3])
    replace(whole, controls=(), items=bare).write(manifest)
    assert main(["split", str(manifest), "--ratios", "1/1/1", "--distinct-settings"]) == 2
    assert "the device has no controls" in capsys.readouterr().err


def test_a_failure_while_folds_are_written_leaves_none(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], Manifest.write

    def failing(self: Manifest, path: Path, items_file: str | None = None) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("the disk is full")
        write(self, path, items_file)

    monkeypatch.setattr(Manifest, "write", failing)
    before = sorted(manifest.parent.iterdir())
    with pytest.raises(OSError):
        main(["split", str(manifest)])
    assert sorted(manifest.parent.iterdir()) == before


def test_a_grid_with_one_item_a_setting_is_balanced_in_both_controls_and_shuffled() -> None:
    by = (Control("threshold", -8, 4), RATIO)
    grid = [
        Item(f"{t}-{r}", Path("in"), None, Path(f"{t}-{r}"), {"threshold": t, "ratio": r}, "")
        for t in (4.0, 0.0, -4.0, -8.0) for r in (2.0, 4.0, 8.0, 16.0)
    ]  # fmt: skip
    folds = [divide(grid, (8, 4, 4), 0, fold, by) for fold in range(10)]
    assert len({tuple(fold) for fold in folds}) > 5
    for fold in folds:
        tests = [item for item, split in zip(grid, fold, strict=True) if split == "test"]
        for name in ("threshold", "ratio"):
            assert len({item.settings[name] for item in tests}) == 4, "each value once"


def test_quartiles_of_a_range_have_their_share_however_the_values_lie() -> None:
    crowded = [replace(item, settings={"ratio": 2.0, "drive": 10 * (n / 160) ** 4})
               for n, item in enumerate(items(160))]
    for fold in range(4):
        splits = divide(crowded, (8, 1, 1), 0, fold, (DRIVE,))
        for split, share in (("train", 32), ("validation", 4), ("test", 4)):
            found = [n // 40 for n in range(160) if splits[n] == split]
            assert all(abs(found.count(quartile) - share) <= 1 for quartile in range(4))


def test_shards_of_items_that_are_in_no_split_are_refused(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = manifest.parent / "sets"
    options = ["--lengths", "[4096]", "--model.preset", "tiny", "--model.n_params", "2"]
    command = ["shards", "build", "--manifest", str(manifest), "--out", str(out), *options]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "is in no split: divide the items with `sptmod-dist split" in said, said


@pytest.mark.parametrize("name", ["items.csv", "items.jsonl"])
def test_a_table_that_is_written_is_read(manifest: Path, name: str) -> None:
    whole = Manifest.read(manifest)
    whole.write(manifest.with_name("again.yaml"), f"again-{name}")
    again = Manifest.read(manifest.with_name("again.yaml"))
    assert again.items == whole.items and again.controls == whole.controls


@pytest.mark.parametrize(("old", "new", "sentence"), [
    ("id,input", "id,in", "items.csv has the unknown column 'in'"),
    ("ratio,mode", "ratio,ratio", "has the column 'ratio' twice"),
    ("i3,in3.wav", "i3,", "items.csv, line 5 lacks the key 'input'"),
    ("i3,in3.wav", "i3,no.wav", "items.csv, line 5, item 'i3': input 'no.wav' is not"),
    ("i3,in3.wav", "i3,../in.wav", "leads out of the manifest's folder"),
    (",16,b", ",17,b", "item 'i3': control 'ratio' = 17 is outside its range"),
    (",16,b", ",16,c", "'mode' = 'c' is none of its positions; give one of a, b"),
    (",16,b", ",,b", "item 'i3': control 'ratio' has no value"),
    (",16,b", ",16,b,9", "items.csv, line 5 has 6 cells under 5 columns"),
    ("i3,", '"i3,', "save it as CSV anew"),
])
def test_a_table_that_is_faulty_is_refused_by_its_line(
    manifest: Path, old: str, new: str, sentence: str
) -> None:
    table = manifest.parent / "items.csv"
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(UserError) as refused:
        Manifest.read(manifest)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)
