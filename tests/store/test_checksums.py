import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expportrait.store import Store, StoreError, StoreWriter, videocodec
from expportrait.store.checksums import verify
from expportrait.store.stream import Stream


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """All kinds of arrays: of one chunk and of shards, packed with and without losses, without numbers."""
    path, random = tmp_path_factory.mktemp("verify") / "crop" / "a.zarr", np.random.default_rng(0)
    with StoreWriter(path, {"key": "k"}) as out:
        out.array("points", random.standard_normal((9, 478, 3)))
        out.array("one", np.array(2.5))
        out.array("none", np.zeros((0, 3)))
        out.array("many", random.integers(0, 255, (40, 512, 512), dtype=np.uint8))
        frames = out.stream("frames", 40, (64, 64, 3), np.uint8, qp=20)
        frames.append(random.integers(0, 255, (40, 64, 64, 3), dtype=np.uint8))
    return Store(path)


def test_what_was_written_is_whole_and_nothing_is_unpacked(store, monkeypatch):
    assert store.lazy("many").step > store.lazy("many").chunks[0], "a shard of several chunks"
    monkeypatch.setattr(videocodec, "decode", None)
    verify(store)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_changes_is_found(store, data):
    files = sorted(f for f in store.path.rglob("*") if f.is_file() and f.name != "zarr.json")
    file = data.draw(st.sampled_from(files))
    before = file.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    cut = data.draw(st.booleans())
    other = before[at] ^ data.draw(st.integers(1, 255))
    try:
        file.write_bytes(before[:at] if cut else before[:at] + bytes([other]) + before[at + 1 :])
        with pytest.raises(StoreError, match=r"a\.zarr is damaged") as found:
            verify(store)
        assert found.value.path == store.path
    finally:
        file.write_bytes(before)


def test_a_store_without_checksums_is_unpacked(tmp_path, monkeypatch):
    plain = videocodec.VideoCodec
    monkeypatch.setattr(videocodec, "VideoCodec", lambda qp, checksum: plain(qp))
    with StoreWriter(tmp_path / "a.zarr", {"key": "k"}) as out:
        frames = out.stream("frames", 5, (64, 64, 3), np.uint8, qp=20)
        assert isinstance(frames, Stream)
        frames.append(np.zeros((5, 64, 64, 3), np.uint8))
    verify(Store(tmp_path / "a.zarr"))
    (file,) = (f for f in (tmp_path / "a.zarr" / "frames" / "c").rglob("*") if f.is_file())
    file.write_bytes(b"no film")
    with pytest.raises(StoreError, match="damaged"):
        verify(Store(tmp_path / "a.zarr"))
