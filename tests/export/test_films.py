import av
import cv2
import numpy as np
import pytest

from expportrait.export import films
from expportrait.render.picture import normals_to_rgb
from expportrait.store import Store, StoreError, decode_normals
from expportrait.video.rates import Clock
from tests.export.conftest import hand_over
from tests.export.make import make_run


def frames_of(path, form):
    with av.open(str(path)) as film:
        return np.stack([frame.to_ndarray(format=form) for frame in film.decode(video=0)])


@pytest.fixture
def geometry(finished):
    return Store(finished / "results" / "geometry" / "b.zarr")


def test_copied_packets_show_the_stores_own_values_to_every_reader(geometry, tmp_path):
    array = geometry.lazy("confidence")
    assert films.copied(array, tmp_path / "film.mp4", Clock(25))
    expected = array[...]
    assert 16 < expected.max() < 235  # values that a reader would change that took them for video's range
    assert np.array_equal(frames_of(tmp_path / "film.mp4", "gray"), expected)
    assert np.array_equal(frames_of(tmp_path / "film.mp4", "rgb24"), np.repeat(expected[..., None], 3, -1))
    capture = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(expected)
    assert np.array_equal(capture.read()[1][..., 0], expected[0])


def test_a_clip_of_one_chunk_is_copied_too(tmp_path):
    make_run(tmp_path, frames=7, rows=(("b", "bob", "train", "", "", ""),))
    array = Store(tmp_path / "results" / "geometry" / "b.zarr").lazy("mask")
    assert films.copied(array, tmp_path / "film.mp4", Clock(25))
    assert np.array_equal(frames_of(tmp_path / "film.mp4", "gray"), array[...])


def test_uneven_times_are_kept(geometry, tmp_path):
    array, times = geometry.lazy("mask"), np.arange(20) / 25 + 0.013 * (np.arange(20) % 2)
    assert films.copied(array, tmp_path / "film.mp4", Clock(25, times))
    with av.open(str(tmp_path / "film.mp4")) as film:
        shown = [float(frame.pts * frame.time_base) for frame in film.decode(video=0)]
    assert np.allclose(np.diff(shown), np.diff(times), atol=1e-4)


def test_colours_and_maps_packed_without_losses_are_not_copied(finished, tmp_path):
    crop, control = (Store(finished / "results" / stage / "b.zarr") for stage in ("crop", "control"))
    assert not films.copied(crop.lazy("frames"), tmp_path / "film.mp4", Clock(25))
    assert not films.copied(control.lazy("coverage"), tmp_path / "film.mp4", Clock(25))
    assert not (tmp_path / "film.mp4").exists()


def test_a_damaged_packet_is_no_film(finished, tmp_path):
    make_run(tmp_path, rows=(("b", "bob", "train", "", "", ""),))
    folder = tmp_path / "results" / "geometry" / "b.zarr" / "mask" / "c"
    file = next(file for file in folder.rglob("*") if file.is_file())
    data = bytearray(file.read_bytes())
    data[40] ^= 255
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"geometry/b\.zarr is damaged"):
        films.copied(Store(tmp_path / "results" / "geometry" / "b.zarr").lazy("mask"), tmp_path / "f.mp4", Clock(25))


@pytest.mark.parametrize("kind", [np.uint8, np.float16])
def test_exact_maps_come_back(kind, tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (5, 30, 34)).astype(kind) / kind(1 if kind == np.uint8 else 7)
    frames = frames.astype(kind)
    films.exact(frames, tmp_path / "film.mkv", Clock(30))
    read = frames_of(tmp_path / "film.mkv", "gray" if kind == np.uint8 else "gray16le")
    assert np.array_equal(read if kind == np.uint8 else read.view(np.float16), frames)
    films.exact(frames, tmp_path / "again.mkv", Clock(30))
    assert (tmp_path / "again.mkv").read_bytes() == (tmp_path / "film.mkv").read_bytes()


def test_films_of_colours_and_normals_are_near_their_stores(finished, tmp_path):
    hand_over(finished, "folder", tmp_path / "out", parts=("frames", "control"))
    clip = tmp_path / "out" / "train" / "d-0000" / "b"
    frames = Store(finished / "results" / "crop" / "b.zarr")["frames"]
    assert min(map(cv2.PSNR, frames_of(clip / "frames.mp4", "rgb24"), frames)) > 33
    codes = Store(finished / "results" / "control" / "b.zarr")["normals"]
    colours = np.stack([normals_to_rgb(decode_normals(frame), background=0) for frame in codes])
    assert min(map(cv2.PSNR, frames_of(clip / "control.mp4", "rgb24"), colours)) > 28
