import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from expportrait import files as files_module
from expportrait.errors import MachineFault
from expportrait.store import Store, StoreError, StoreWriter, decode_normals, encode_normals
from expportrait.store import write as module
from expportrait.store.write import layout


@pytest.fixture
def path(tmp_path):
    return tmp_path / "crop" / "a.zarr"


def write(path, key="k", **arrays):
    with StoreWriter(path, {"key": key}) as out:
        for name, array in arrays.items():
            out.array(name, array)


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.array([True, False]),
        np.zeros((5, 2), np.float16),
        np.array(2.5),
        np.zeros((0, 3)),
        np.random.default_rng(0).integers(0, 255, (9, 512, 512, 3), dtype=np.uint8),
        np.zeros((9, 700, 700), np.int8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back(path, array):
    write(path, x=array)
    back = Store(path).check()["x"]
    assert back.dtype == array.dtype and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_attributes(path):
    with StoreWriter(path, {"key": "k", "stage": "crop"}) as out:
        out.array("points", np.zeros((2, 3)), unit="px", order="x y")
        out.attrs(fps=25.0, shots=[0, 7])
    store = Store(path)
    assert store.attrs["key"] == "k" and store.attrs["fps"] == 25.0 and store.attrs["shots"] == [0, 7]
    assert "metres" in store.attrs["conventions"] and store.attrs["software"]["numpy"] == np.__version__
    assert dict(store.lazy("points").attrs) == {"unit": "px", "order": "x y"}
    assert "points" in store and "nothing" not in store and store.names() == ["points"]


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [7] * 7 + [1], [49, 1]])
@pytest.mark.parametrize("beside", [False, True])
def test_blocks_of_any_length_make_the_same_store(path, tmp_path, sizes, beside, monkeypatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 4 << 20)
    frames = np.random.default_rng(0).integers(0, 255, (50, 256, 256, 3), dtype=np.uint8)
    ends = np.cumsum(sizes)
    with StoreWriter(path, {}, beside) as out:
        out.array("frames", (frames[end - n : end] for n, end in zip(sizes, ends, strict=True)), frames=50)
        stream = out.stream("again", 50, (256, 256, 3), np.uint8)
        for n, end in zip(sizes, ends, strict=True):
            stream.append(frames[end - n : end])
    store = Store(path)
    np.testing.assert_array_equal(store["frames"], frames)
    np.testing.assert_array_equal(store["again"], frames)
    assert len(files(path / "frames")) == 1 + 3, "a shard is 4 MiB, 20 frames"


@pytest.mark.parametrize("beside", [False, True])
def test_a_reused_buffer_is_no_trap(path, beside):
    buffer = np.zeros((4, 3))

    def blocks():
        for i in range(3):
            buffer[:] = i
            yield buffer

    with StoreWriter(path, {}, beside) as out:
        out.array("x", blocks(), frames=12)
    np.testing.assert_array_equal(Store(path)["x"][:, 0], np.repeat([0, 1, 2], 4))


@pytest.mark.parametrize("count", [0, 9, 11])
def test_a_wrong_number_of_frames_leaves_no_store(path, count):
    with pytest.raises(ValueError, match="frames"), StoreWriter(path, {}) as out:
        out.array("x", iter([np.zeros((count, 3))] if count else []), frames=10)
    assert list(path.parent.iterdir()) == []


def test_a_clip_is_a_handful_of_files(path):
    write(path, frames=np.zeros((300, 512, 512, 3), np.uint8), points=np.zeros((300, 478, 3), np.float32))
    assert len(files(path)) == 1 + (1 + 2) + (1 + 1)


@pytest.mark.parametrize("frame", [(), (3,), (478, 3), (512, 512), (512, 512, 3), (4096, 4096, 3)])
@pytest.mark.parametrize("length", [0, 1, 50, 5000])
def test_layout_bounds(length, frame):
    chunks, shards = layout((length, *frame), 4)
    chunk = np.prod(chunks) * 4
    frame_bytes = np.prod(frame) * 4
    assert chunk <= max(4 << 20, frame_bytes)
    if shards is not None:
        assert shards[0] % chunks[0] == 0 and np.prod(shards) * 4 <= max(128 << 20, frame_bytes)


def test_nothing_appears_before_the_end_and_nothing_stays_of_a_failure(path):
    with pytest.raises(RuntimeError), StoreWriter(path, {"key": "k"}) as out:
        out.array("x", np.ones(3))
        assert not path.exists()
        raise RuntimeError
    assert list(path.parent.iterdir()) == []


def test_an_older_store_lives_until_the_new_one_is_whole(path):
    write(path, "old", x=np.ones(3))
    with pytest.raises(RuntimeError), StoreWriter(path, {"key": "new"}) as out:
        out.array("y", np.ones(3))
        raise RuntimeError
    assert Store(path).attrs["key"] == "old" and Store(path).names() == ["x"]
    write(path, "new", y=np.ones(3))
    assert Store(path).attrs["key"] == "new" and Store(path).names() == ["y"]
    assert [file.name for file in path.parent.iterdir()] == ["a.zarr"]


def test_leftovers_of_dead_writers_go_and_living_ones_stay(path):
    path.parent.mkdir()
    host = os.uname().nodename
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for pid in (dead.stdout.strip(), str(os.getppid())):
        (path.parent / f".a.zarr.{host}.{pid}.tmp").mkdir()
    (path.parent / f".a.zarr.{host}.{dead.stdout.strip()}.tmp.old").mkdir()
    (path.parent / ".a.zarr.elsewhere.1.tmp").mkdir()
    write(path, x=np.ones(3))
    left = {file.name for file in path.parent.iterdir()}
    assert left == {f".a.zarr.{host}.{os.getppid()}.tmp", ".a.zarr.elsewhere.1.tmp", "a.zarr"}
    files_module.beside(path).mkdir()  # this process's own go at any time
    write(path, x=np.ones(3))
    assert {file.name for file in path.parent.iterdir()} == left


def test_a_folder_of_many_stores_is_listed_once(path, monkeypatch):
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(Path(folder)) or real(folder))
    for n in range(3):
        write(path.with_name(f"{n}.zarr"), x=np.ones(3))
    assert listed.count(path.parent) == 1


def test_missing_things_are_store_errors(path):
    with pytest.raises(StoreError, match="does not exist"):
        Store(path)
    write(path, x=np.ones(3))
    with pytest.raises(StoreError, match="has no array 'y', only x"):
        Store(path)["y"]
    (path / "zarr.json").write_bytes((path / "x" / "zarr.json").read_bytes())
    with pytest.raises(StoreError, match=r"damaged: ValueError: .* is not that of a group"):
        Store(path)
    (path / "zarr.json").unlink()
    with pytest.raises(StoreError):
        Store(path)


def chunk_of(path, name):
    return next(file for file in (path / name / "c").rglob("*") if file.is_file())


def test_a_missing_chunk_is_an_error_not_zeros(path):
    write(path, x=np.zeros((300, 512, 512), np.uint8), y=np.ones(3))
    chunk_of(path, "x").unlink()
    store = Store(path)
    for use in (lambda: store["x"], lambda: store.lazy("x")):
        with pytest.raises(StoreError, match="chunks of 'x' are missing"):
            use()
    with pytest.raises(StoreError, match=r"damaged: x/c/.* is missing"):
        store.check()
    np.testing.assert_array_equal(store["y"], np.ones(3))


@pytest.mark.parametrize("shape", [(3, 40), (20, 512, 512)], ids=["one chunk", "sharded"])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_chunk_is_an_error(path, shape, harm):
    write(path, x=np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    chunk = chunk_of(path, "x")
    data = bytearray(chunk.read_bytes())
    if harm == "cut":
        del data[len(data) // 2 :]
    elif harm == "flip":
        data[len(data) // 3] ^= 0xFF
    else:
        data.clear()
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        Store(path)["x"]


def reads(monkeypatch):
    """The files that zarr reads from now on."""
    seen, real = [], zarr.storage.LocalStore.get

    async def get(self, key, *rest, **options):
        seen.append(key)
        return await real(self, key, *rest, **options)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    return seen


def test_a_look_at_a_whole_store_reads_no_array_and_sees_a_cut_one(path, monkeypatch):
    write(path, x=np.random.default_rng(0).integers(0, 255, (20, 512, 512), dtype=np.uint8), y=np.ones(3))
    seen = reads(monkeypatch)
    assert Store(path).check().attrs["key"] == "k" and not seen  # the group's zarr.json alone, read without zarr
    _ = Store(path)["y"]
    assert any(name.startswith("y/") for name in seen)
    chunk = chunk_of(path, "x")
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"damaged: x/c/.* bytes, .* were written"):
        Store(path).check()


@pytest.mark.parametrize("lost", ["chunk", "array"])
def test_stores_of_before_contents_are_looked_at_as_before(path, lost):
    write(path, x=np.zeros((20, 512, 512), np.uint8), y=np.ones(3))
    about = json.loads((path / "zarr.json").read_text())
    del about["attributes"]["contents"]
    (path / "zarr.json").write_text(json.dumps(about))
    assert Store(path).check()["y"].sum() == 3
    if lost == "chunk":
        chunk_of(path, "x").unlink()
    else:
        (path / "x" / "zarr.json").write_text("{")
    with pytest.raises(StoreError):
        Store(path).check()


def test_normals_survive_eight_bits():
    normals = np.random.default_rng(0).normal(size=(100_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    codes = encode_normals(normals)
    assert codes.dtype == np.int8
    angle = np.degrees(np.arccos(np.clip((decode_normals(codes) * normals).sum(1), -1, 1)))
    assert angle.mean() < 0.3 and angle.max() < 0.5
    np.testing.assert_allclose(np.linalg.norm(decode_normals(codes), axis=1), 1, atol=1e-6)
    assert not decode_normals(encode_normals(np.zeros((2, 3)))).any()


def test_another_writer_in_the_very_moment(path, tmp_path, monkeypatch):
    theirs, rename = tmp_path / "theirs.zarr", Path.rename
    write(theirs, key="theirs", x=np.zeros(3))

    def late(self, target):
        if self.name.endswith(".tmp") and theirs.exists():
            rename(theirs, path)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    write(path, key="mine", x=np.ones(3))
    assert Store(path).check().attrs["key"] == "mine" and [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_written_is_the_machines_fault(path):
    with pytest.raises(MachineFault, match=r"a\.zarr cannot be written: Permission denied"), module.writing(path):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), ValueError("not finite")])
def test_what_goes_wrong_beside_leaves_no_store(path, monkeypatch, fault):
    def fail(*_):
        raise fault

    monkeypatch.setattr(module.zarr.Array, "__setitem__", fail)
    with pytest.raises((MachineFault, ValueError)) as error, StoreWriter(path, {}, beside=True) as out:
        out.stream("x", 10, (3,), np.float32).append(np.zeros((10, 3), np.float32))
    assert isinstance(error.value, MachineFault) == isinstance(fault, OSError)
    assert list(path.parent.iterdir()) == []


def test_of_two_machines_writing_the_same_the_first_ones_store_stays(path, monkeypatch):
    write(path, "old", x=np.ones(3))
    with StoreWriter(path, {"key": "k"}) as out:
        out.array("x", np.ones(3))
        with monkeypatch.context() as other:
            other.setattr(socket, "gethostname", lambda: "node7")  # and by chance the same number of the process
            write(path, x=np.ones(3))
        reader = Store(path).lazy("x")
        made = path.stat().st_ino
    assert path.stat().st_ino == made and [*path.parent.iterdir()] == [path]
    np.testing.assert_array_equal(reader[:], np.ones(3))
    write(path, x=np.ones(3))
    assert path.stat().st_ino != made, "but who is asked to make it anew, does"
