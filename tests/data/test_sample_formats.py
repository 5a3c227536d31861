"""Every sample format gives back what it was given, as near as it can, and refuses the rest."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from sptmod_dist.data.sample_formats import FORMATS, FlacFormat, PlainFormat, to_float32

RATE = 44_100
BITS = {"pcm24": 24, "pcm16": 16, "flac": 24}
PLAIN = [name for name in FORMATS if FORMATS[name].width]


def noise(rows: int, samples: int) -> np.ndarray:
    audio = np.random.default_rng(rows * samples).uniform(-1, 1, (rows, samples))
    return audio.astype(np.float32)


def quantised(audio: np.ndarray, name: str) -> np.ndarray:
    """What a format should give back: the nearest of its numbers."""
    if name == "float32":
        return audio
    full = 2.0 ** (BITS[name] - 1)
    return (np.clip(np.rint(audio.astype(np.float64) * full), -full, full - 1) / full).astype("f4")


@pytest.mark.parametrize("rows, samples", [(1, 1), (1, 2), (2, 3), (3, 1000), (8, 8193)])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_decoded_is_exactly_the_nearest_number_of_the_format(
    name: str, rows: int, samples: int
) -> None:
    stored, audio = FORMATS[name], noise(rows, samples)
    found = stored.decode(stored.encode(audio, RATE), rows, samples)
    assert found.dtype == np.float32
    assert np.array_equal(found, quantised(audio, name))


@pytest.mark.parametrize("name", BITS)
def test_integers_are_within_half_a_step_and_full_scale_within_one(name: str) -> None:
    step = 2.0 ** (1 - BITS[name])
    audio = np.array([[0.0, -0.0, 1.0, -1.0, step, -step, 0.4 * step, 0.6 * step, 0.123456789]])
    stored = FORMATS[name]
    found = stored.decode(stored.encode(audio.astype(np.float32), RATE), 1, audio.shape[1])
    error = np.abs(found - audio.astype(np.float32))
    assert error[0, 2] == step and found[0, 3] == -1.0
    assert np.all(np.delete(error, 2) <= step / 2)


def test_float32_keeps_every_bit() -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (2, 5000), dtype=np.uint32)
    audio = bits.view(np.float32)  # beyond full scale, tiny, not even finite
    stored = FORMATS["float32"]
    found = stored.decode(stored.encode(audio, RATE), 2, 5000)
    assert np.array_equal(found.view(np.uint32), bits)


@pytest.mark.parametrize("name", BITS)
@pytest.mark.parametrize("value", [1.0000001, -1.5, np.inf, np.nan])
def test_what_an_integer_cannot_hold_is_refused(name: str, value: float) -> None:
    audio = noise(1, 50)
    audio[0, 7] = value
    with pytest.raises(ValueError, match="it peaks at .*, and integer samples end at 1"):
        FORMATS[name].encode(audio, RATE)


def test_flac_refuses_more_channels_and_higher_rates_than_it_holds() -> None:
    with pytest.raises(ValueError, match="9 channels, and FLAC holds 8"):
        FORMATS["flac"].encode(noise(9, 50), RATE)
    with pytest.raises(ValueError, match="FLAC cannot hold it at 4000000 Hz"):
        FORMATS["flac"].encode(noise(1, 50), 4_000_000)


def test_flac_states_its_rate_to_other_readers() -> None:
    audio = noise(2, 500)
    found, rate = soundfile.read(io.BytesIO(FORMATS["flac"].encode(audio, 48_000)), dtype="float32")
    assert rate == 48_000
    assert np.array_equal(found.T, quantised(audio, "flac"))


def test_equal_audio_gives_equal_bytes() -> None:
    for stored in FORMATS.values():
        assert stored.encode(noise(2, 9000), RATE) == stored.encode(noise(2, 9000), RATE)


@pytest.mark.parametrize("name", PLAIN)
def test_any_stretch_of_the_stored_bytes_decodes_by_itself(name: str) -> None:
    stored, audio = FORMATS[name], noise(1, 300)
    assert isinstance(stored, PlainFormat)
    data = memoryview(stored.encode(audio, RATE))
    raw = data[len(data) - 300 * stored.width :]
    for start, stop in [(0, 300), (0, 1), (299, 300), (1, 3), (17, 290)]:
        out = np.full(stop - start + 2, np.nan, np.float32)
        stored.decode_into(raw[start * stored.width : stop * stored.width], out[1:-1])
        assert np.array_equal(out[1:-1], quantised(audio, name)[0, start:stop])
        assert np.isnan(out[[0, -1]]).all()


def test_any_stretch_of_flac_decodes_without_the_rest() -> None:
    stored, audio = FORMATS["flac"], noise(2, 30_000)
    assert isinstance(stored, FlacFormat)
    data, dice = stored.encode(audio, RATE), np.random.default_rng(3)
    whole = quantised(audio, "flac")
    places = [(0, 30_000), (0, 1), (29_999, 30_000), (4095, 4097)]
    places += [tuple(sorted(dice.integers(0, 30_000, 2) + [0, 1])) for _ in range(30)]
    for start, stop in places:
        out = np.empty((2, stop - start), np.float32)
        stored.decode_stretch(data, 30_000, start, out)
        assert np.array_equal(out, whole[:, start:stop])


@pytest.mark.parametrize("name", PLAIN)
def test_what_numpy_reads_becomes_audio_by_one_function(name: str) -> None:
    audio = noise(2, 700)
    array = np.load(io.BytesIO(FORMATS[name].encode(audio, RATE)), allow_pickle=False)
    assert np.array_equal(to_float32(array), quantised(audio, name))


# Bytes that are something else


def npy(header: bytes, size: int = 24) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(size)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
        b"{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }",
        b"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }",
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 99999999999), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3), }",
        b"{'descr': '<f4', 'shape': (2, 3), }",
        b"__import__('os').abort()",
        b"(" * 5000,
        b"\xff" * 20,
        b"",
    ],
)
@pytest.mark.parametrize("name", PLAIN)
def test_bytes_that_are_no_such_array_are_never_made_into_anything(
    name: str, header: bytes
) -> None:
    with pytest.raises(ValueError):
        FORMATS[name].decode(bytearray(npy(header, 6 * FORMATS[name].width)), 2, 3)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("other", PLAIN)
def test_one_format_is_not_taken_for_another(name: str, other: str) -> None:
    data = FORMATS[other].encode(noise(2, 60), RATE)
    if other != name:
        with pytest.raises(ValueError):
            FORMATS[name].decode(data, 2, 60)


@pytest.mark.parametrize("name", PLAIN)
def test_an_array_that_ends_early_or_late_is_no_array(name: str) -> None:
    data = FORMATS[name].encode(noise(1, 4), RATE)
    for changed in (*(data[:cut] for cut in (0, 3, 9, 100, 128, len(data) - 1)), data + b"\0"):
        with pytest.raises(ValueError):
            FORMATS[name].decode(bytearray(changed), 1, 4)


def test_a_header_that_another_writer_padded_otherwise_is_good() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 6), }   \n"
    assert np.array_equal(FORMATS["float32"].decode(npy(header), 1, 6), np.zeros((1, 6)))


def other_flac(rows: int, samples: int, subtype: str, container: str = "FLAC") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, noise(rows, samples).T, RATE, subtype, format=container)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"fLaC",
        b"\xff" * 500,
        other_flac(2, 900, "PCM_16"),
        other_flac(2, 900, "PCM_24", "WAV"),
        other_flac(1, 900, "PCM_24"),
        other_flac(2, 899, "PCM_24"),
        other_flac(2, 900, "PCM_24")[:2000],
    ],
)
def test_bytes_that_are_no_such_flac_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        FORMATS["flac"].decode(data, 2, 900)
