"""What a set holds and what its cut costs, in words and numbers; it reads indexes alone.

Records of a few sequences each repeat the lookback that these share: a set can be many times as
large as its recordings. More sequences a record repeat it less, and a reader can still take a
single sequence out of a record.
"""

from __future__ import annotations

from sptmod_dist.data.shard_index import Index
from sptmod_dist.data.shards import ShardSet

BEARABLE = 1.5
"""Times the recordings that a set may take before advice is given."""


def account(index: Index) -> str:
    """A line on what was made."""
    rate = index.geometry.sample_rate
    dropped = sum(item.dropped for item in index.items)
    return (
        f"{index.split}: {len(index.items)} items, {_sequences(index)} sequences, "
        f"{_recorded(index) / rate / 3600:.3f} hours, {_bytes(index) / 1e6:.1f} MB "
        f"({inflation(index):.2f} times the recordings' samples), {dropped / rate:.2f} s dropped"
    )


def inflation(index: Index) -> float:
    """Samples in the set over samples recorded."""
    return _stored(index) / _recorded(index)


def inflation_at(index: Index, sequences_per_record: int) -> float:
    """The same, if records held so many sequences."""
    geometry, held = index.geometry, sequences_per_record
    lookbacks = sum(-(-item.sequences // held) for item in index.items) * geometry.target_start
    return (lookbacks + _sequences(index) * geometry.hop) / _recorded(index)


def advised(index: Index) -> int:
    """The fewest sequences a record with which the set takes less than `BEARABLE`.

    There always are: a record of a whole recording is no longer than that.
    """
    low, high = 1, max(item.sequences for item in index.items)
    while low < high:  # more sequences a record never make a set larger
        middle = (low + high) // 2
        if inflation_at(index, middle) < BEARABLE:
            high = middle
        else:
            low = middle + 1
    return low


def advice(index: Index) -> str:
    """A sentence on what the lookbacks' copies cost, and the setting with which they cost less."""
    if index.kind == "items":
        return "whole recordings have no copies of lookbacks"
    copies = _stored(index) - sum(item.samples - item.dropped for item in index.items)
    size = _bytes(index) * copies / _stored(index)
    cost = f"copies of lookbacks take {_size(size)} of {_size(_bytes(index))}"
    now = inflation(index)
    if now < BEARABLE:
        return f"{cost}, the set is {now:.2f} times the recordings"
    held = advised(index)
    return (
        f"{cost}, the set is {now:.2f} times the recordings: data.sequences_per_record {held} "
        f"makes it {inflation_at(index, held):.2f} times"
    )


def describe(shard_set: ShardSet) -> str:
    """A table of what a set holds and what it was made for."""
    index, geometry = shard_set.index, shard_set.geometry
    provenance = index.provenance
    rate, held = geometry.sample_rate, index.sequences_per_record
    settings = {tuple(sorted(item.settings.items())) for item in index.items}
    recorded, dropped = _recorded(index), sum(item.dropped for item in index.items)
    block = f", a checksum every {index.block} samples" if index.block else ""
    rows = [
        ("split", f"{index.split} ({index.kind})"),
        ("hours", f"{recorded / rate / 3600:.3f}"),
        ("items", f"{len(index.items)}, with {len(settings)} settings of the controls"),
        ("sequences", f"{_sequences(index)} of {geometry.sequence_length} samples"),
        ("per record", f"{held} sequences (data.sequences_per_record)" if held else "one item"),
        ("dropped", f"{dropped / rate:.1f} s"),
        ("inflation", f"{inflation(index):.2f} times the recordings' samples"),
        ("samples", f"{index.sample_format}{block}"),
        ("bytes", f"{_bytes(index)} ({_size(_bytes(index))}) in {len(index.shards)} shards"),
        *geometry.in_words(),
        ("made of", provenance.device),
        ("made by", f"sptmod-dist {provenance.sptmod_dist}"),
        ("converted from", provenance.converted_from or "nothing: made of the recordings"),
        ("recordings", provenance.recordings_sha256),
        ("fingerprint", shard_set.fingerprint),
    ]
    return "\n".join([*(f"{name:<19} {value}" for name, value in rows), "", advice(index)])


def _sequences(index: Index) -> int:
    return sum(item.sequences for item in index.items)


def _recorded(index: Index) -> int:
    return sum(item.samples for item in index.items)


def _stored(index: Index) -> int:
    return sum(record.samples for record in index.records)


def _bytes(index: Index) -> int:
    return sum(shard.bytes for shard in index.shards)


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
