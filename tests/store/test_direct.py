import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from expportrait.store import Store, StoreError, StoreWriter, direct, videocodec


def moving(frames, *shape, dtype):
    values = 127 * np.sin(np.arange(frames * np.prod(shape)).reshape(frames, *shape) / 997)
    return (values if np.dtype(dtype).kind != "u" else values + 128).astype(dtype)


ARRAYS = {
    "vectors": (moving(41, 48, 32, 3, dtype="i1"), videocodec.VECTORS),
    "depth": (moving(41, 48, 32, dtype="f2"), videocodec.DEPTH),
    "single": (moving(41, 48, 32, 3, dtype="u1"), videocodec.COLOURS),
    "lossless": (moving(41, 512, 320, dtype="u1"), None),
    "floats": (moving(9, 700, 500, dtype="f4"), None),
    "small": (moving(9, 8, dtype="f4"), None),  # one chunk, which zarr reads
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with StoreWriter(tmp_path_factory.mktemp("store") / "a.zarr", {"key": "k"}) as out:
        for name, (data, qp) in ARRAYS.items():
            chunk = 1 if name == "single" else videocodec.FRAMES
            out.stream(name, len(data), data.shape[1:], data.dtype, qp, chunk).append(data)
    return Store(out.path)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(ARRAYS)))
def test_any_rows_are_those_that_indexing_gives(store, data, name):
    array, frames = store.lazy(name), len(ARRAYS[name][0])
    first = data.draw(st.integers(0, frames))
    stop = data.draw(st.integers(first, frames))
    out = np.ones((stop - first, *array.shape[1:]), array.dtype)
    array.into(out, first)
    assert np.array_equal(out, array[first:stop])


def test_only_small_arrays_need_zarr(store):
    group = zarr.open_group(store.path, mode="r")
    assert [name for name in ARRAYS if direct.unpacker(group[name]) is None] == ["small"]


def test_rows_that_are_not_there_are_the_callers_mistake(store):
    array = store.lazy("vectors")
    for first, count in ((41, 1), (-1, 1), (40, 2)):
        with pytest.raises(IndexError):
            array.into(np.empty((count, *array.shape[1:]), array.dtype), first)


@pytest.mark.parametrize("name", ["vectors", "lossless"])
@pytest.mark.parametrize("where", [0.3, -9], ids=["chunk", "index"])
def test_a_flipped_byte_is_noticed(tmp_path, name, where):
    data, qp = ARRAYS[name]
    with StoreWriter(tmp_path / "a.zarr", {"key": "k"}) as out:
        out.stream(name, len(data), data.shape[1:], data.dtype, qp).append(data)
    file = next(file for file in (out.path / name / "c").rglob("*") if file.is_file())
    raw = bytearray(file.read_bytes())
    raw[where if where < 0 else int(where * len(raw))] ^= 1
    file.write_bytes(raw)
    with pytest.raises(StoreError, match="damaged"):
        Store(out.path).lazy(name).into(np.empty(data.shape, data.dtype), 0)


def test_an_array_packed_in_another_way_is_left_to_zarr(tmp_path):
    """Of before: checksums that are zarr's own."""
    frames, group = ARRAYS["vectors"][0], zarr.create_group(tmp_path / "a.zarr", attributes={"key": "k"})
    old = group.create_array(
        "x", shape=frames.shape, dtype=frames.dtype, chunks=(16, 48, 32, 3), shards=(48, 48, 32, 3),
        serializer=videocodec.VideoCodec(13), compressors=[Crc32cCodec()],
    )  # fmt: skip
    old[...] = frames
    assert direct.unpacker(old) is None
    Store(tmp_path / "a.zarr").lazy("x").into(out := np.empty((9, 48, 32, 3), "i1"), 12)
    assert np.array_equal(out, old[12:21])
