"""Shards that grow chunk by chunk are those that zarr itself writes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.store import Store, StoreWriter
from expportrait.store import stream as streams
from expportrait.store.videocodec import DEPTH

COUNT = 50


def array(folder, shards=True, **more):
    """Chunks of 4 frames, shards of 12: five shards, the last one of a chunk that is not full."""
    return zarr.create_array(
        folder, shape=(COUNT, 8, 6), dtype="u2", chunks=(4, 8, 6) if shards else (COUNT, 8, 6),
        shards=(12, 8, 6) if shards else None, fill_value=0, config={"write_empty_chunks": True}, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def frames():
    made = np.random.default_rng(0).integers(0, 65536, (COUNT, 8, 6), dtype="u2")
    made[20:30] = 0
    return made


@pytest.fixture(scope="module")
def whole(frames, tmp_path_factory):
    """The files that zarr makes of them."""
    folder = tmp_path_factory.mktemp("whole")
    array(folder)[...] = frames
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("c/**/*") if file.is_file()}


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=COUNT), beside=st.booleans())
def test_files_are_those_of_zarr(tmp_path_factory, frames, whole, lengths, beside):
    folder = tmp_path_factory.mktemp("stream")
    with ThreadPoolExecutor(2) as pool:
        stream = streams.Stream(array(folder), "x", pool if beside else None)
        start = 0
        for length in [*lengths, COUNT]:
            block = frames[start : start + length].copy()
            stream.append(block)
            block[:] = 7  # the caller may use its buffer again
            start += len(block)
        stream.close()
    assert {file: (folder / file).read_bytes() for file in whole} == whole
    np.testing.assert_array_equal(zarr.open_array(folder)[...], frames)


def test_a_small_array_is_one_chunk(tmp_path, frames):
    stream = streams.Stream(array(tmp_path, shards=False), "x")
    stream.append(frames[:9])
    stream.append(frames[9:])
    stream.close()
    np.testing.assert_array_equal(zarr.open_array(tmp_path)[...], frames)


@pytest.mark.parametrize("beside", [False, True])
def test_chunks_are_written_while_frames_come(tmp_path, frames, beside):
    with ThreadPoolExecutor(1) as pool:
        stream = streams.Stream(array(tmp_path), "x", pool if beside else None)
        stream.append(frames[:36])
        written = [file for file in tmp_path.rglob("c/**/*") if file.is_file()]
        assert len(written) >= (2 if beside else 3), "the chunks being packed are few"


@pytest.mark.parametrize("beside", [False, True])
def test_what_cannot_be_packed_is_raised(tmp_path, beside):
    frames = np.zeros((40, 16, 16), np.float16)
    frames[3] = np.inf
    with (
        pytest.raises(ValueError, match="not finite"),
        StoreWriter(tmp_path / "s.zarr", {}, beside) as out,
    ):
        out.stream("depth", 40, (16, 16), np.float16, DEPTH).append(frames)
    assert not (tmp_path / "s.zarr").exists()


def test_video_in_shards_is_read_as_it_was_given(tmp_path):
    frames = np.repeat(np.arange(40, dtype=np.uint8)[:, None, None], 32, 1).repeat(32, 2)
    with StoreWriter(tmp_path / "s.zarr", {}, True) as out:
        stream = out.stream("mask", 40, (32, 32), np.uint8, 0)
        for frame in frames:
            stream.append(frame[None])
    np.testing.assert_array_equal(Store(tmp_path / "s.zarr").check(read=True)["mask"], frames)
