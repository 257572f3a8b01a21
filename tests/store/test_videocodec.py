import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import Crc32cCodec

from expportrait.store import Store, StoreError, StoreWriter, decode_normals, encode_normals, videocodec


def test_importing_starts_no_threads():
    found = "import gc, sys, concurrent.futures as c, expportrait.store; " \
            "sys.exit(any(isinstance(one, c.ThreadPoolExecutor) for one in gc.get_objects()))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", found]).returncode == 0


def colours(frames, height, width, seed=0):
    """A grainy picture that moves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    grain = rng.normal(0, 6, (height, width, 3))
    moving = [
        128 + 90 * np.sin((x + 3 * t)[..., None] / 17 + [0, 1, 2]) * np.cos(y / 23)[..., None] for t in range(frames)
    ]
    return np.clip(np.array(moving) + grain, 0, 255).astype(np.uint8)


def ball(frames, size=96):
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 2 - 1
    made = []
    for t in range(frames):
        u, v = (x - 0.01 * t) / 0.7, y / 0.7
        z = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
        made.append(np.where((z > 0)[..., None], np.stack([u, -v, z], -1), 0))
    return np.array(made)


def packed(folder, data, qp):
    with StoreWriter(folder / "a.zarr", {"key": "k"}) as out:
        stream = out.stream("x", len(data), data.shape[1:], data.dtype, qp)
        for start in range(0, len(data), 7):
            stream.append(data[start : start + 7])
    return Store(folder / "a.zarr")


def test_colours_stay_above_45_decibels(tmp_path):
    frames = colours(40, 128, 96)
    read = packed(tmp_path, frames, videocodec.COLOURS)["x"]
    assert min(-10 * np.log10(np.mean((a / 255 - b / 255) ** 2)) for a, b in zip(frames, read, strict=True)) > 45


def test_vectors_stay_within_half_a_degree_and_the_background_zero(tmp_path):
    normals = ball(20)
    read = packed(tmp_path, encode_normals(normals), videocodec.VECTORS)["x"]
    inside = (normals != 0).any(-1)
    assert np.array_equal((read != 0).any(-1), inside)
    cosine = (decode_normals(read) * normals).sum(-1)[inside]
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 0.5


def test_depth_keeps_a_thousandth_of_its_range(tmp_path):
    depth = (0.2 * ball(18)[..., 2] - 0.03).astype(np.float16)
    read = packed(tmp_path, depth, videocodec.DEPTH)["x"]
    assert read.dtype == np.float16 and np.abs(read.astype(float) - depth).mean() < np.ptp(depth) / 1000


def test_depth_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not finite"):
        packed(tmp_path, np.full((3, 8, 8), np.nan, np.float16), 10)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 35), st.integers(2, 40), st.integers(2, 40), st.booleans())
def test_any_size_and_length_comes_back(tmp_path_factory, frames, height, width, grey):
    data = colours(frames, height, width)
    data = data[..., 0] if grey else data
    store = packed(tmp_path_factory.mktemp("x"), data, 10)
    read = store["x"]
    assert read.shape == data.shape and np.abs(read.astype(int) - data).mean() < 3
    assert np.array_equal(store.lazy("x")[frames - 1], read[-1]), "one frame is that of the whole"


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([20, 48]))
def test_any_part_is_that_of_the_whole(tmp_path_factory, data, length):
    frames = colours(length, 32, 48)
    store = packed(tmp_path_factory.mktemp("x"), frames, 10)
    lazy, whole = store.lazy("x"), store["x"]
    first = data.draw(st.integers(0, length - 1))
    part = slice(first, data.draw(st.integers(first, length)), data.draw(st.integers(1, 5)))
    assert np.array_equal(lazy[part], whole[part])
    assert np.array_equal(lazy[first, 5:9], whole[first, 5:9])
    assert np.array_equal(lazy[part, 3, ::2], whole[part, 3, ::2])
    chosen = data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=4))
    with_zarr = zarr.open_group(store.path, mode="r")["x"]
    assert np.array_equal(with_zarr.oindex[chosen, 2:4], whole[chosen][:, 2:4])


def test_no_more_frames_are_unpacked_than_up_to_the_last_one_asked_for(tmp_path, monkeypatch):
    store, unpacked = packed(tmp_path, colours(40, 32, 32), 10), []
    unpack = videocodec._unpack
    monkeypatch.setattr(videocodec, "_unpack", lambda frame, out: unpacked.append(out) or unpack(frame, out))
    for part, more in ((slice(10, 12), 12), (slice(9, 10), 0), (slice(12, 20), 4 + 4), (slice(32, 33), 1)):
        before = len(unpacked)
        _ = store.lazy("x")[part]
        assert len(unpacked) - before == more, part


def test_a_store_whose_checksums_are_zarrs_is_read(tmp_path):
    frames, group = colours(20, 32, 32), zarr.create_group(tmp_path / "a.zarr")
    old = group.create_array("x", shape=frames.shape, dtype=frames.dtype, chunks=(16, 32, 32, 3),
                             serializer=videocodec.VideoCodec(10), compressors=[Crc32cCodec()])  # fmt: skip
    old[...] = frames
    new = packed(tmp_path / "new", frames, 10)
    store = Store(tmp_path / "a.zarr")
    assert np.array_equal(store["x"], new["x"]) and np.array_equal(store.lazy("x")[3:18], new["x"][3:18])


def test_a_chunk_cut_short_says_so():
    data = videocodec.encode(colours(5, 32, 32), 10)
    with pytest.raises(ValueError, match="a chunk of 6 frames ends after 5"):
        videocodec.decode(data, (6, 32, 32, 3), "|u1")


def test_a_flipped_byte_is_noticed(tmp_path):
    store = packed(tmp_path, colours(5, 64, 64), 10)
    (chunk,) = [file for file in (tmp_path / "a.zarr" / "x").rglob("*") if file.name != "zarr.json" and file.is_file()]
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        store["x"]


def test_plain_zarr_reads_it_where_the_package_is_installed(tmp_path):
    frames = colours(3, 32, 32)
    packed(tmp_path, frames, 10)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert np.abs(group["x"][...].astype(int) - frames).mean() < 3
