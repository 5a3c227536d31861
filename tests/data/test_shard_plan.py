"""The plan of a set: arithmetic on lengths, whatever they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_plan import Available, Cut, SetPlan, plan_set
from tests.data.small_sets import GEOMETRY, HOP, LOOKBACK, SEQUENCE, noise, store

lengths = st.lists(st.integers(1, 3000), min_size=1, max_size=6)


def planned(samples: list[int], held: int, shard_bytes: int = 10**6, lost: int = 0) -> SetPlan:
    available = [
        Available(f"item-{n}", {"ratio": 2.0}, [0.0], count, max(0, count - lost), "0" * 64)
        for n, count in enumerate(samples)
    ]
    return plan_set("train", GEOMETRY, Cut(held, "float32", shard_bytes), available)


@given(lengths, st.integers(1, 9))
def test_every_sequence_that_fits_is_in_one_record(samples: list[int], held: int) -> None:
    plan = planned(samples, held)
    for number, (count, item) in enumerate(zip(samples, plan.items, strict=True)):
        records = [record for _, record in plan.records if record.item == number]
        sequences = max(0, (count - LOOKBACK) // HOP)
        assert item.sequences == sum(record.sequences for record in records) == sequences
        assert all(record.sequences == held for record in records[:-1])
        starts = [r.start + k * HOP for r in records for k in range(r.sequences)]
        assert starts == [k * HOP for k in range(sequences)]
        assert all(r.samples == LOOKBACK + r.sequences * HOP for r in records)
        covered = LOOKBACK + sequences * HOP if sequences else 0
        assert item.dropped == count - covered and 0 <= item.dropped < max(SEQUENCE, HOP)


@given(lengths, st.integers(1, 9), st.integers(1, 50_000))
def test_shards_are_filled_in_order_and_closed_before_they_grow_too_large(
    samples: list[int], held: int, shard_bytes: int
) -> None:
    plan = planned(samples, held, shard_bytes)
    unbounded = [record for _, record in planned(samples, held, 10**12).records]
    assert [record for _, record in plan.records] == unbounded
    for number, records in enumerate(plan.shards):
        assert records and (len(records) == 1 or plan.bytes_of(number) <= shard_bytes)
    for number in range(len(plan.shards) - 1):
        more = SetPlan("train", GEOMETRY, plan.cut, plan.items, [[plan.shards[number + 1][0]]])
        assert plan.bytes_of(number) + more.bytes > shard_bytes


@given(lengths, st.integers(0, 1000))
def test_what_cannot_be_read_is_not_planned(samples: list[int], lost: int) -> None:
    plan = planned(samples, 3, lost=lost)
    for _, record in plan.records:
        assert record.start + record.samples <= samples[record.item] - lost
    assert [item.samples for item in plan.items] == samples


def test_whole_items_are_one_record_each() -> None:
    plan = planned([500, SEQUENCE], 0)
    assert [record[1:] for _, record in plan.records] == [(0, 0, 500, 3), (1, 0, SEQUENCE, 1)]
    assert (plan.kind, [item.dropped for item in plan.items]) == ("items", [0, 0])


@pytest.mark.parametrize("held", [0, 1, 4])
@pytest.mark.parametrize("sample_format", FORMATS)
def test_no_shard_is_larger_than_planned(tmp_path: Path, sample_format: str, held: int) -> None:
    """Noise at full scale is what no format makes smaller."""
    geometry = Geometry(8000, 1, 1, GEOMETRY.controls, (4096,), 5000)
    recorded = {f"item-{n}": noise(40_000 + n, 1, 1, n) for n in range(3)}
    folder = store(tmp_path / "sets", recorded, held, sample_format, geometry, 300_000)
    cut = Cut(held, sample_format, 300_000)
    available = [
        Available(name, {"ratio": 2.0}, [0.25], *[whole.input.shape[1]] * 2, "0" * 64)
        for name, whole in recorded.items()
    ]
    plan = plan_set("train" if held else "validation", geometry, cut, available)
    sizes = [path.stat().st_size for path in sorted(folder.glob("shard-*.tar"))]
    assert len(sizes) == len(plan.shards) > 1
    for number, size in enumerate(sizes):
        assert 0.8 * plan.bytes_of(number) < size <= plan.bytes_of(number)
