"""Frames read a chunk at a time: the same as the whole array, of which no more is held than was asked for."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from expportrait.store import Lazy, Store, StoreError, StoreWriter
from expportrait.store.frames import Frames

COUNT, SIDE, CHUNK = 70, 16, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE), dtype=np.uint8)
    with StoreWriter(tmp_path_factory.mktemp("frames") / "clip.zarr", {}) as out:
        out.stream("frames", COUNT, (SIDE, SIDE), np.uint8, 20).append(frames)
    return Store(out.path)


@pytest.fixture
def reads(monkeypatch):
    """Numbers of the chunks that were unpacked."""
    seen, read = [], Lazy.__getitem__

    def counted(self: Lazy, part: slice) -> np.ndarray:
        if isinstance(part, slice):
            seen.append(part.start // CHUNK)
        return read(self, part)

    monkeypatch.setattr(Lazy, "__getitem__", counted)
    return seen


@pytest.mark.parametrize(
    "key", [0, 17, -1, slice(5, 40), slice(None), slice(66, 90), slice(60, 2), [3, 69, 3], np.array([40, 1])], ids=str
)
def test_slices_are_the_arrays(store, key):
    frames, whole = Frames(store, "frames"), store["frames"]
    assert (len(frames), frames.shape, frames.dtype) == (COUNT, whole.shape, whole.dtype)
    np.testing.assert_array_equal(frames[key], whole[key])


def test_past_the_end_is_an_error(store):
    with pytest.raises(IndexError):
        Frames(store, "frames")[COUNT]


def test_chunks_are_unpacked_once_while_they_are_kept(store, reads):
    frames = Frames(store, "frames")
    np.testing.assert_array_equal(np.stack(list(frames)), store["frames"])
    assert len(frames[20:50]) == 30
    assert reads == [0, 1, 2, 3, 4]


def test_no_more_is_kept_than_allowed(store, reads):
    frames = Frames(store, "frames", kept=2 * CHUNK * SIDE**2)
    for t in (0, 16, 1, 32, 2, 17):
        np.testing.assert_array_equal(frames[t], store["frames"][t])
    assert reads == [0, 1, 2, 1]
    assert len(frames._chunks) == 2


def test_threads_share_what_is_unpacked(store, reads):
    frames = Frames(store, "frames")
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: np.stack(list(frames)), range(4))]
    assert sorted(reads) == [0, 1, 2, 3, 4]
    assert all(np.array_equal(each, found[0]) for each in found)


def test_a_damaged_chunk_names_the_store(store, tmp_path):
    copy = shutil.copytree(store.path, tmp_path / "clip.zarr")
    file = next(file for file in (copy / "frames").rglob("c/**/*") if file.is_file())
    data = bytearray(file.read_bytes())
    data[100:200] = bytes(100)
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"clip\.zarr is damaged") as caught:
        Frames(Store(copy), "frames")[0]
    assert caught.value.path == copy
