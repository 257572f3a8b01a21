import json
import re

import cv2
import numpy as np
import pytest

from expportrait.engine.loop import run
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store

from ..video import make


class CountingDetector(LandmarkDetector):
    looks = 0

    def faces(self, frame):
        self.looks += 1
        return super().faces(frame)


@pytest.fixture(scope="module", autouse=True)
def detector():
    """The models are loaded once for all tests of this file."""
    detector = CountingDetector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expportrait.stages.crop.LandmarkDetector", lambda: detector)
        yield detector


@pytest.fixture
def crop(tmp_path):
    """Runs the stage on one source; gives its store, or the reason why there is none."""

    def crop(source, start=None, end=None, box=None, fps=None, **settings):
        config = Config(results=tmp_path / "results", crop={"size": 256, **settings})
        row = Row("a", "test", source.name, source, start=start, end=end, box=box, fps=fps)
        outcome = run(with_code("crop"), [row], config)["a"]
        if outcome.status == "ok":
            return Store(tmp_path / "results" / "crop" / "a.zarr").check()
        assert "unforeseen" not in outcome.why and "\n" not in outcome.why
        return outcome.why

    return crop


def walk(count, *first, step=(2, 0, 0), height=360, width=640, seed=0):
    """Frames of portraits at ``first`` places (x, y, scale), all moving by ``step`` a frame."""
    return [make.scene(height, width, *(np.add(place, np.multiply(step, t)) for place in first), seed=seed)
            for t in range(count)]  # fmt: skip


def test_a_video_becomes_square_frames_around_the_face(crop, tmp_path):
    frames = walk(20, (100, 40, 1.0))
    store = crop(make.video(tmp_path / "v.mp4", frames))
    assert store["frames"].shape == (20, 256, 256, 3) and store["frames"].dtype == np.uint8
    np.testing.assert_allclose(store["timestamps"], np.arange(20) / 25, atol=1e-6)
    x0, y0, x1, y1 = store.attrs["box"]
    assert x1 - x0 == y1 - y0 and store.attrs["scale"] == 256 / (x1 - x0)
    assert store.attrs["padded"] == [0, 0, 0, 0]
    assert store.attrs["fps"] == pytest.approx(25)
    assert store.attrs["shots"] == [[0, 20]] and store.attrs["shot"] == [0, 20]
    for t in (0, 19):
        expected = cv2.resize(frames[t][y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_CUBIC)
        assert np.abs(store["frames"][t].astype(int) - expected).mean() < 4  # the video itself loses a little
        head = np.array([100 + 2 * t + 60, 40 + 4, 100 + 2 * t + 230, 40 + 200])  # hair, and below the chin
        assert (head[:2] > [x0, y0]).all() and (head[2:] < [x1, y1]).all()


def test_the_box_goes_with_the_face(crop, tmp_path):
    boxes = [np.array(crop(make.video(tmp_path / f"{x}.mp4", walk(12, (x, y, 1.0)))).attrs["box"])
             for x, y in ((20, 50), (220, 60))]  # fmt: skip
    np.testing.assert_allclose(boxes[1] - boxes[0], [200, 10, 200, 10], atol=4)


def test_of_two_faces_the_larger_one_is_taken_unless_a_box_names_the_other(crop, tmp_path):
    video = make.video(tmp_path / "v.mp4", walk(12, (10, 30, 1.1), (360, 60, 0.9), step=(0, 0, 0)))
    larger = crop(video).attrs
    assert larger["box"][2] < 400
    other = crop(video, box=(400, 60, 600, 260)).attrs
    assert other["box"] == [400, 60, 600, 260]
    assert other["face"] < 0.9 * larger["face"]


def test_the_longest_shot_with_a_face_is_taken(crop, tmp_path):
    frames = walk(14, (300, 50, 1.0), seed=1) + walk(40, seed=2) + walk(25, (30, 40, 1.0), seed=3)
    attrs = crop(make.video(tmp_path / "v.mp4", frames)).attrs
    assert attrs["shots"] == [[0, 14], [14, 54], [54, 79]]
    assert attrs["shot"] == [54, 79]
    assert attrs["box"][0] < 150


def test_somebody_who_comes_later_and_leaves_is_cut_out_in_time(crop, tmp_path):
    frames = walk(30) + walk(25, (200, 40, 1.0), step=(0, 0, 0)) + walk(30)
    store = crop(make.video(tmp_path / "v.mp4", frames), cut=255)
    first, end = store.attrs["shot"]
    assert 30 <= first <= 35 and 50 <= end <= 55
    assert store["timestamps"][0] == pytest.approx(first / 25)


def test_start_and_end_are_times_of_the_source(crop, tmp_path):
    frames = walk(50, (20, 40, 1.0), step=(4, 0, 0))
    video = make.video(tmp_path / "v.mp4", frames)
    store = crop(video, start=0.4, end=1.2)
    np.testing.assert_allclose(store["timestamps"], np.arange(10, 30) / 25, atol=1e-6)
    x0, y0, x1, y1 = store.attrs["box"]
    expected = cv2.resize(frames[10][y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(store["frames"][0].astype(int) - expected).mean() < 4
    assert "between 7 s and 8 s" in crop(video, start=7.0, end=8.0)


@pytest.mark.parametrize("kind", ["image", "video", "folder"])
def test_one_frame_is_a_portrait(crop, tmp_path, kind):
    frame = make.scene(360, 400, (60, 40, 1.0))
    if kind == "video":
        source = make.video(tmp_path / "v.mp4", [frame])
    else:
        source = tmp_path / "p.png" if kind == "image" else tmp_path / "folder"
        (tmp_path / "folder").mkdir()
        cv2.imwrite(str(tmp_path / "p.png" if kind == "image" else source / "0.png"), frame[..., ::-1])
    store = crop(source)
    assert store["frames"].shape == (1, 256, 256, 3)
    assert store["timestamps"].tolist() == [0.0]


def test_a_folder_and_an_animated_gif_are_clips(crop, tmp_path):
    (folder := tmp_path / "frames").mkdir()
    for t, frame in enumerate(walk(12, (60, 30, 1.0), height=300, width=400)):
        cv2.imwrite(str(folder / f"f{t}.jpg"), frame[..., ::-1])
    store = crop(folder, folder_fps=30)
    assert store["frames"].shape[0] == 12 and store.attrs["fps"] == pytest.approx(30)
    assert crop(folder, folder_fps=30, fps=12).attrs["fps"] == pytest.approx(12)
    gif = make.video(tmp_path / "v.gif", walk(12, (60, 30, 1.0), height=300, width=400), 12.5, "gif", "rgb8")
    store = crop(gif)
    assert store["frames"].shape[0] == 12 and store.attrs["fps"] == pytest.approx(12.5)


def test_a_portrait_that_fills_its_image_keeps_it_whole(crop, tmp_path):
    frames = walk(12, (-10, 0, 0.9), step=(0, 0, 0), height=200, width=200)
    store = crop(make.video(tmp_path / "v.mp4", frames), min_scale=1.5)
    assert store.attrs["box"] == [0, 0, 200, 200] and store.attrs["padded"] == [0, 0, 0, 0]
    padded = crop(make.video(tmp_path / "w.mp4", frames), min_scale=2.29)
    left, top, right, bottom = padded.attrs["padded"]
    assert min(left + right, top + bottom) > 0 and padded.attrs["padding"] == "edge"
    for t in range(12):
        if right:
            assert (padded["frames"][t][:, 255] == padded["frames"][t][:, 256 - right // 2]).mean() > 0.9


def test_reasons_name_the_value_and_the_threshold(crop, tmp_path):
    nobody = crop(make.video(tmp_path / "nobody.mp4", walk(12)))
    assert "no face" in nobody and "nobody.mp4" in nobody and "3 of 12" in nobody
    small = make.video(tmp_path / "small.mp4", walk(12, (200, 60, 0.55), step=(0, 0, 0)))
    assert "too small, 6" in crop(small) and "crop.min_face: 70" in crop(small)
    refused = json.loads((tmp_path / "results" / "crop" / "a.failed.json").read_text())
    kept = crop(small, min_face=40).attrs
    assert kept["face"] == pytest.approx(61, abs=4)
    assert refused["quality"] == {"face": kept["face"], "face_coverage": kept["face_coverage"], "frames": 12}
    brief = make.video(tmp_path / "brief.mp4", walk(7, (200, 40, 1.0)))
    assert "only 7 frames (crop.min_frames: 10)" in crop(brief)
    assert crop(brief, min_frames=5)["frames"].shape[0] == 7
    rare = [frame for n in range(6) for frame in walk(5 + 5 * (n % 2), *([] if n % 2 else [(200, 40, 1.0)]))]
    rare = make.video(tmp_path / "rare.mp4", [*rare, *walk(5, (200, 40, 1.0), step=(0, 0, 0))])
    assert "only 40% of the frames" in crop(rare, cut=255) and "crop.min_coverage: 70%" in crop(rare, cut=255)
    assert "no face inside the box 0 0 100 100" in crop(brief, box=(0, 0, 100, 100))


def test_sources_that_cannot_be_read_are_reasons(crop, tmp_path):
    assert "does not exist" in crop(tmp_path / "later.mp4")
    make.video(tmp_path / "later.mp4", walk(12, (200, 40, 1.0)))
    assert crop(tmp_path / "later.mp4")["frames"].shape[0] == 12  # tried again, though nothing else has changed
    (tmp_path / "empty.mp4").touch()
    assert "0 bytes" in crop(tmp_path / "empty.mp4")
    assert "sound only" in crop(make.sound(tmp_path / "sound.m4a"))


def test_a_cut_off_video_is_used_as_far_as_it_goes(crop, tmp_path):
    data = make.video(tmp_path / "v.mkv", walk(60, (100, 40, 1.0))).read_bytes()
    (tmp_path / "part.mkv").write_bytes(data[: len(data) * 6 // 10])
    store = crop(tmp_path / "part.mkv")
    assert store.attrs["truncated"] and 20 < store["frames"].shape[0] < 50
    assert "damaged or cut off" in crop(tmp_path / "part.mkv", min_frames=55)


def test_figures_tell_how_well_the_face_is_seen(crop, tmp_path):
    frames = walk(12, (60, 30, 1.1))
    sharp = crop(make.video(tmp_path / "sharp.mp4", frames)).attrs
    soft = crop(make.video(tmp_path / "soft.mp4", [cv2.GaussianBlur(f, (0, 0), 3) for f in frames])).attrs
    dim = crop(make.video(tmp_path / "dim.mp4", [f // 2 for f in frames])).attrs
    assert sharp["sharpness"] > 30 and soft["sharpness"] < 0.2 * sharp["sharpness"]
    assert soft["brightness"] == pytest.approx(sharp["brightness"], abs=6)
    assert dim["brightness"] == pytest.approx(sharp["brightness"] / 2, abs=4)
    assert sharp["faces"] == 1 and sharp["others"] == 0
    large = crop(make.video(tmp_path / "large.mp4", walk(12, (60, 30, 2.2), height=720, width=900))).attrs
    assert large["sharpness"] == pytest.approx(sharp["sharpness"], rel=0.4)  # whatever the size of the face


def test_a_face_that_cannot_be_made_out_is_refused_with_its_figure(crop, tmp_path):
    frames = walk(12, (60, 30, 1.1))
    blurred = make.video(tmp_path / "blurred.mp4", [cv2.GaussianBlur(f, (0, 0), 7) for f in frames])
    sharpness = crop(blurred).attrs["sharpness"]
    assert sharpness < 10
    reason = crop(blurred, min_sharpness=10)
    assert f"the face is blurred, sharpness {sharpness:.1f} (crop.min_sharpness: 10)" in reason
    figures = json.loads((tmp_path / "results" / "crop" / "a.failed.json").read_text())["quality"]
    assert figures["sharpness"] == sharpness and {"face", "face_coverage", "brightness", "others"} < figures.keys()
    plain = make.video(tmp_path / "plain.mp4", frames)
    assert (
        "too dark" in crop(plain, min_brightness=200) and "(crop.min_brightness: 200)" in crop(plain)
        if False
        else "(crop.min_brightness: 200)" in crop(plain, min_brightness=200)
    )
    assert "too bright" in crop(plain, max_brightness=50) and "of 255 (crop.max_brightness: 50)" in crop(
        plain, max_brightness=50
    )


def test_a_blurred_shot_gives_way_to_a_shorter_one(crop, tmp_path):
    soft = [cv2.GaussianBlur(frame, (0, 0), 7) for frame in walk(30, (60, 30, 1.1), seed=1)]
    video = make.video(tmp_path / "v.mp4", soft + walk(15, (200, 40, 1.1), seed=2))
    assert crop(video).attrs["shot"] == [0, 30]
    attrs = crop(video, min_sharpness=15).attrs
    assert attrs["shot"] == [30, 45] and attrs["sharpness"] > 15
    reason = crop(video, min_sharpness=5000)
    assert "(the longest of 2 shots): the face is blurred" in reason and "(crop.min_sharpness: 5000)" in reason


def test_somebody_else_in_the_box_is_counted(crop, tmp_path):
    pair = make.video(tmp_path / "pair.mp4", walk(12, (60, 30, 1.1), (250, 80, 0.8), step=(0, 0, 0)))
    attrs = crop(pair, scale=4.0).attrs
    assert attrs["faces"] == 2 and attrs["others"] == 1
    assert crop(pair, scale=1.3).attrs["others"] == 0
    assert "100% of the frames looked at show another face in the box (crop.max_others: 50%)" in crop(
        pair, scale=4.0, max_others=0.5
    )


def test_a_shot_of_another_shape_is_cut_out_of_its_own_picture(crop, tmp_path):
    wide, tall = walk(15, (300, 60, 1.0)), walk(20, (60, 300, 0.8), step=(0, 2, 0), height=640, width=360)
    parts = make.video(tmp_path / "a.ts", wide), make.video(tmp_path / "b.ts", tall, offset=10)
    store = crop(make.joined(tmp_path / "v.ts", *parts), cut=255)
    assert store.attrs["shots"] == [[0, 15], [15, 35]] and store.attrs["shot"] == [15, 35]
    assert store.attrs["source_size"] == [360, 640] and store.attrs["fps"] == pytest.approx(25)
    alone = crop(parts[1], cut=255)
    np.testing.assert_allclose(store.attrs["box"], alone.attrs["box"], atol=1)
    assert np.abs(store["frames"].astype(int) - alone["frames"]).mean() < 3


def test_a_gap_in_the_times_ends_a_shot(crop, tmp_path):
    frames = walk(36, (100, 40, 1.0))
    parts = make.video(tmp_path / "a.ts", frames[:14]), make.video(tmp_path / "b.ts", frames[14:], offset=20000)
    store = crop(make.joined(tmp_path / "v.ts", *parts))
    assert store.attrs["shots"] == [[0, 14], [14, 36]] and store["frames"].shape[0] == 22
    assert store.attrs["fps"] == pytest.approx(25)


def test_links_that_lead_nowhere_do_not_stop_the_others(tmp_path):
    rows = []
    for name in ("a", "b", "c", "d"):
        (folder := tmp_path / name).mkdir()
        for t, frame in enumerate(walk(12, (60, 30, 1.0), height=300, width=400)):
            cv2.imwrite(str(folder / f"f{t}.jpg"), frame[..., ::-1])
        rows.append(Row(name, "test", name, folder))
        if name != "d":
            (folder / "f7.jpg").unlink()
            (folder / "f7.jpg").symlink_to("gone.jpg")
    config = Config(results=tmp_path / "results", crop={"size": 128})
    index = run(with_code("crop"), rows, config)
    assert {name: outcome.status for name, outcome in index.items()} == dict.fromkeys("abc", "failed") | {"d": "ok"}
    for name in "abc":
        assert f"{tmp_path / name}/f7.jpg is a link that leads nowhere" in index[name].why
    cv2.imwrite(str(tmp_path / "b" / "gone.jpg"), frame[..., ::-1])
    again = run(with_code("crop"), rows, config)
    assert [again[name].status for name in "abcd"] == ["failed", "ok", "failed", "ok"]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_source_on_its_side_or_upside_down_is_turned_upright(crop, tmp_path, turn):
    frames = walk(12, (100, 40, 1.0))
    upright = crop(make.video(tmp_path / "upright.mp4", frames))
    frames = [np.ascontiguousarray(np.rot90(frame, -turn // 90)) for frame in frames]
    store = crop(make.video(tmp_path / "turned.mp4", frames))
    attrs = store.attrs
    assert upright.attrs["rotated"] == 0 and attrs["rotated"] == 360 - turn  # clockwise, as the source was
    assert attrs["source_size"] == [frames[0].shape[1], frames[0].shape[0]] and attrs["padded"] == [0, 0, 0, 0]
    assert attrs["face"] == pytest.approx(upright.attrs["face"], rel=0.03)
    error = np.abs(store["frames"][:].astype(int) - upright["frames"][:])
    assert error.mean() < 8 and np.median(error) <= 3
    np.testing.assert_allclose(store["track"], upright["track"], atol=5)
    x0, y0, x1, y1 = attrs["box"]  # of the source as it is
    part = cv2.resize(frames[5][y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_CUBIC)
    assert np.abs(np.rot90(part, -attrs["rotated"] // 90).astype(int) - store["frames"][5]).mean() < 4


def test_a_box_of_the_manifest_means_px_of_the_source_as_it_is(crop, tmp_path):
    frames = [
        np.ascontiguousarray(np.rot90(frame)) for frame in walk(12, (10, 30, 1.1), (360, 60, 0.9), step=(0, 0, 0))
    ]
    box = (60, 40, 260, 240)  # around the smaller one, who stands on the right, and after the turn above
    store = crop(make.video(tmp_path / "turned.mp4", frames), box=box)
    assert store.attrs["rotated"] == 90 and store.attrs["box"] == list(box)
    part = cv2.resize(np.rot90(frames[0][40:240, 60:260], -1), (256, 256), interpolation=cv2.INTER_CUBIC)
    assert np.abs(part.astype(int) - store["frames"][0]).mean() < 4


def test_turned_faces_are_looked_for_only_where_none_is_surely_upright(crop, tmp_path, detector):
    def looks(name, frames):
        detector.looks = 0
        return crop(make.video(tmp_path / f"{name}.mp4", frames)), detector.looks

    frames = walk(12, (60, 30, 1.1))
    assert looks("upright", frames)[1] == 3  # one in five frames
    assert looks("down", [frame[::-1, ::-1] for frame in frames])[1] == 3 + 9
    why, count = looks("nobody", walk(12))
    assert count == 3 + 9 and "no face" in why and "turned by" not in why


def test_an_image_on_its_side_is_turned(crop, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.rot90(make.scene(360, 400, (60, 40, 1.0)))[..., ::-1])
    assert crop(tmp_path / "p.png").attrs["rotated"] == 90


def test_a_fault_of_a_turned_source_is_told_of_it(crop, tmp_path):
    small = make.video(tmp_path / "small.mp4", [frame[::-1, ::-1] for frame in walk(12, (200, 60, 0.55))])
    why = crop(small)
    assert "small.mp4 (turned by 180 degrees): the face is too small, 6" in why and "crop.min_face: 70" in why


def test_a_large_face_that_is_seldom_there_does_not_hide_a_usable_one(crop, tmp_path):
    """The large one in three of eight looks, the smaller one in all."""
    large, small = (10, 20, 2.2), (640, 100, 0.8)
    frames = [make.scene(720, 960, *([large] if t < 5 or 15 <= t < 20 or t >= 35 else []), small) for t in range(40)]
    attrs = crop(make.video(tmp_path / "v.mp4", frames), cut=255, min_face=60).attrs
    assert attrs["shot"] == [0, 40] and attrs["face_coverage"] == 1
    assert attrs["face"] < 100 and attrs["box"][0] > 500


def test_where_the_face_was_found_stands_in_the_store(crop, tmp_path):
    store = crop(make.video(tmp_path / "v.mp4", walk(14, (100, 40, 1.0), step=(6, 0, 0))))
    track = store["track"]
    assert track[:, 0].tolist() == [0, 5, 10]
    np.testing.assert_allclose(np.diff(track[:, 1]), 30 * store.attrs["scale"], atol=4)
    face = track[0, 1:] / store.attrs["scale"] + np.tile(store.attrs["box"][:2], 2)
    np.testing.assert_allclose(face, [100 + 105, 40 + 60, 100 + 195, 40 + 178], atol=14)  # of the portrait's face


def in_turn(*runs):
    """Frames of one of the two ``heads`` after the other in the same place: (who, or None for nobody, how many)."""
    way, away = np.array([320.0, 180.0]), np.array([-500.0, 180.0])
    frames = []
    for who, count in runs:
        at = [np.tile(way if who == n else away, (count, 1)) for n in range(2)]
        frames += make.meeting(count, *at, width=640)
    return frames


@pytest.mark.parametrize("first", [0, 1])
def test_who_comes_back_after_a_gap_as_somebody_else_is_another_clip(crop, tmp_path, first):
    video = make.video(tmp_path / "v.mp4", in_turn((first, 31), (None, 9), (1 - first, 20)))
    attrs = crop(video, cut=255).attrs
    assert attrs["shot"] == [0, 31]
    told = attrs["identity"]
    (asked,) = told["asked"]
    assert asked["frames"] == [30, 40] and asked["likeness"] < told["least"] == 0.35
    assert len(told["weights"]["sface"]) == 64


def test_who_comes_back_after_a_gap_as_the_same_person_is_one_clip(crop, tmp_path):
    video = make.video(tmp_path / "v.mp4", in_turn((0, 31), (None, 9), (0, 20)))
    attrs = crop(video, cut=255).attrs
    assert attrs["shot"] == [0, 60]
    (asked,) = attrs["identity"]["asked"]
    assert asked["likeness"] > 0.9


def test_where_there_is_no_doubt_nobody_is_asked(crop, tmp_path, monkeypatch):
    def loaded():
        raise AssertionError("a network is loaded that is not needed")

    monkeypatch.setattr("expportrait.estimators.recognition.SFace", loaded)
    monkeypatch.setattr("expportrait.stages.crop.YuNet", loaded)
    attrs = crop(make.video(tmp_path / "v.mp4", walk(30, (100, 40, 1.0)))).attrs
    assert not {"identity", "third_detector"} & {*attrs}
    two = walk(30, (10, 30, 1.1), (360, 60, 0.9), step=(0, 0, 0))
    assert not {"identity", "third_detector"} & {*crop(make.video(tmp_path / "w.mp4", two)).attrs}


def test_of_a_face_that_cannot_be_recognised_nothing_is_said(crop, tmp_path, monkeypatch):
    """The track stays as it was."""
    monkeypatch.setattr(
        "expportrait.estimators.recognition.Recogniser.embed", lambda self, pictures, places: np.full((1, 128), np.nan)
    )
    attrs = crop(make.video(tmp_path / "v.mp4", in_turn((0, 31), (None, 9), (1, 20))), cut=255).attrs
    assert attrs["shot"] == [0, 60] and attrs["identity"]["asked"][0]["likeness"] is None


def far_away(count, height=720, width=1280):
    """A portrait 78 px wide in a large picture, moving; the face is about 40 px high."""
    small = cv2.resize(make.heads()[0][0], (78, 78), interpolation=cv2.INTER_AREA).astype(np.uint8)
    frames = []
    for t in range(count):
        frames.append(make.wall(height, width).copy())
        frames[-1][300:378, 500 + t : 578 + t] = small
    return frames


def test_a_face_that_mediapipe_misses_is_found_by_the_third_detector(crop, tmp_path, detector):
    frames = far_away(20)
    assert not any(len(detector.faces(cv2.resize(frame, (640, 360), interpolation=cv2.INTER_AREA))) for frame in frames)
    (folder := tmp_path / "frames").mkdir()
    for t, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{t}.png"), frame[..., ::-1])
    attrs = crop(folder, min_face=30).attrs
    assert attrs["third_detector"]["looks"] == 4 and len(attrs["third_detector"]["weights"]["yunet"]) == 64
    assert attrs["face_coverage"] == 1 and attrs["shot"] == [0, 20]
    x0, y0, x1, y1 = attrs["box"]
    assert x0 < 520 and x1 > 580 and y0 < 320 and y1 > 360 and x1 - x0 < 200
    assert re.search(r"too small, (3|4)\d px", crop(folder))
