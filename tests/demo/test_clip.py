"""Whole clips: they look like the portrait, hold together, and a face tracker finds the motion that was put in."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch

from expportrait.demo.clip import draw, prepare
from expportrait.demo.motion import CLIPS, LOOP, motion_of, turn
from expportrait.demo.portrait import load_portrait
from expportrait.demo.topology import polygon_mask
from expportrait.engine.keys import Keys, source_key
from expportrait.errors import UserError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.points478 import FACE_OVAL
from expportrait.settings.config import Config
from expportrait.stages import PIPELINE, demo
from tests.demo.angles import turn_angles

RIGID = [33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 45, 275, 10, 127, 356, 234, 454]  # move with the skull alone
ROOT = Path(__file__).parents[2]


@cache
def short_clip(name):
    """A few moments of the clip, not encoded."""
    torch.set_num_threads(1)
    return prepare(name, np.linspace(0, LOOP, 12, endpoint=False))


@cache
def tracked(name):
    """Truth and detected landmarks of the clip that the workflow made, or of a few moments of it."""
    video = ROOT / "data/demo" / f"{name}.mp4"
    current = Keys(PIPELINE["demo"], Config()).of_source(name)
    if source_key(video) == current and video.exists():
        with av.open(str(video)) as container:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        truth = dict(np.load(video.with_suffix(".npz")))
    else:
        clip = short_clip(name)
        frames, points = draw(clip)
        scene = clip.scene
        truth = vars(clip.motion) | {"points": points, "rest_points": scene.points, "focal": scene.focal}
    points, found, _ = LandmarkDetector().detect(frames)
    return truth, points[..., :2], found


def head_angles(points, rest, focal, size=512):
    """Yaw, pitch, roll of a rigid head `rest` (478,3) m seen at `points` (478,2) px."""
    flip = np.diag([1.0, -1, -1])  # OpenCV's camera looks along +z, y down
    camera = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    centre = rest.mean(0)
    start = np.zeros((3, 1)), (flip @ centre).reshape(3, 1)
    _, rotation, _ = cv2.solvePnP(
        (rest[RIGID] - centre) @ flip, points[RIGID].astype(float), camera, None, *start, True
    )
    return turn_angles(flip @ cv2.Rodrigues(rotation)[0] @ flip)


def ratio(points, *pairs):
    """Mean over `pairs` of distance (a, b) over distance (c, d)."""
    apart = lambda a, b: np.linalg.norm(points[:, a] - points[:, b], axis=1)  # noqa: E731
    return np.mean([apart(a, b) / apart(c, d) for a, b, c, d in pairs], axis=0)


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


@pytest.mark.parametrize("name", CLIPS)
def test_a_tracker_finds_the_face_and_its_motion(name):
    truth, points, found = tracked(name)
    assert found.all()
    eyes = np.linalg.norm(truth["points"][:, 33] - truth["points"][:, 263], axis=1)
    error = np.linalg.norm(points - truth["points"], axis=2).mean(1) / eyes
    assert error.mean() < 0.03

    seen = np.array([head_angles(p, truth["rest_points"], float(truth["focal"])) for p in points])
    known = np.stack([truth["yaw"], truth["pitch"], truth["roll"]], 1)
    off = np.rad2deg(np.abs(seen - known).mean(0))
    assert correlation(seen[:, 0], known[:, 0]) > 0.98 and off[0] < 2.5
    assert correlation(seen[:, 1], known[:, 1]) > 0.93
    assert off[2] < 2

    mouth, eye = [(13, 14, 78, 308)], [(159, 145, 33, 133), (386, 374, 263, 362)]
    assert correlation(ratio(points, *mouth), ratio(truth["points"], *mouth)) > 0.9
    assert correlation(ratio(points, *eye), ratio(truth["points"], *eye)) > 0.65


def test_the_true_points_turn_as_the_motion_says():
    truth, _, _ = tracked("astronaut-turn")
    for t in range(0, len(truth["yaw"]), 4):
        angles = head_angles(truth["points"][t], truth["rest_points"], float(truth["focal"]))
        known = truth["yaw"][t], truth["pitch"][t], truth["roll"][t]
        assert np.rad2deg(np.abs(np.subtract(angles, known)).max()) < 0.6


@pytest.mark.parametrize("name", ["astronaut-turn", "hopper-talk"])
def test_the_clip_starts_as_the_portrait(name):
    clip = short_clip(name)
    frame, points = next(clip.frames())
    np.testing.assert_allclose(points, load_portrait(CLIPS[name].portrait, 512).points[:, :2], atol=0.25)
    assert np.abs(frame.astype(int) - clip.scene.image).mean() < 1.5


@pytest.mark.parametrize("name", ["astronaut-turn", "hopper-talk"])
def test_no_tear_shows_the_background_through_the_face(name):
    clip = short_clip(name)
    green = replace(clip.scene, background=np.full_like(clip.scene.background, (0, 255, 0)))
    clip.animator.scene, before = green, clip.animator.scene
    try:
        for frame, points in clip.frames():
            face = (
                cv2.erode(polygon_mask(points[list(FACE_OVAL)], frame.shape[:2]).astype(np.uint8), np.ones((31, 31)))
                > 0
            )
            assert not (face & (frame[..., 1] > frame[..., 0] + 100.0)).any()
    finally:
        clip.animator.scene = before


def test_the_background_stands_still():
    clip = short_clip("hopper-talk")
    frames, _ = draw(clip)
    far = cv2.dilate((clip.scene.texture[..., 3] > 0).astype(np.uint8), np.ones((61, 61))) == 0
    assert far.mean() > 0.2
    assert (frames[:, far] == clip.scene.image[far]).all()


def test_a_turn_uncovers_what_was_behind_the_head():
    clip = short_clip("astronaut-turn")
    shift, still = np.zeros((478, 3)), np.zeros(2)
    left, right = (clip.animator.draw(shift, (yaw, 0, 0), 0, still)[1] for yaw in (0.26, -0.26))
    assert left[4, 0] - right[4, 0] > 40  # the tip of the nose goes to the picture's right when turned left
    middle = slice(60, 110), slice(180, 330)  # hair, before a light wall
    assert clip.scene.background[middle].min() > 140 > clip.scene.image[middle].mean()


def test_one_eye_opening_is_all_a_blink_changes():
    animator = short_clip("astronaut-smile").animator
    shift, still = np.zeros((478, 3)), np.zeros(2)
    (opened, points), (closed, _) = (animator.draw(shift, (0, 0, 0), blink, still) for blink in (0, 1))
    changed = np.abs(opened.astype(int) - closed).max(2) > 8
    y, _ = np.nonzero(changed)
    eyes = points[[33, 133, 362, 263]]
    assert eyes[:, 1].min() - 25 < y.min() and y.max() < eyes[:, 1].max() + 25
    iris = points[[468, 473]].astype(int)
    assert (closed[iris[:, 1] - 3, iris[:, 0]].mean(1) > opened[iris[:, 1] - 3, iris[:, 0]].mean(1) + 30).all()


def test_frames_are_the_same_bytes_every_time_also_at_another_size():
    (first, a), (second, b) = (draw(prepare("hopper-talk", np.array([0.6, 0.95]), 160)) for _ in range(2))
    assert first.shape == (2, 160, 160, 3)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(a, b)
    detected, found, _ = LandmarkDetector().detect(first[:1])
    assert found[0] and np.abs(detected[0, :, :2] - a[0]).mean() < 1.5


def test_portraits_are_cut_out_along_hat_and_hair():
    portrait = load_portrait("hopper", 512)
    face = polygon_mask(portrait.points[list(FACE_OVAL), :2], portrait.alpha.shape).astype(np.uint8)
    assert portrait.alpha[cv2.erode(face, np.ones((21, 21))) > 0].min() == 1  # the oval itself runs beside the jaw
    corners = portrait.alpha[[5, 5, 200, 200], [5, 506, 20, 490]]
    assert (corners == 0).all()
    assert portrait.alpha[60, 180] == 1 and portrait.alpha[110, 360] == 1  # the hat's white crown and its black brim


def test_the_stage_writes_video_and_truth(tmp_path):
    settings = SimpleNamespace(demo=SimpleNamespace(frames=3, size=128, yaw=10.0))
    video = tmp_path / "clip.mp4"
    demo.run("astronaut-smile", video, settings, "cpu")
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width, float(stream.average_rate)) == (128, 128, 25)
        assert sum(1 for _ in container.decode(stream)) == 3
    truth = np.load(video.with_suffix(".npz"))
    assert truth["points"].shape == (3, 478, 2) and truth["units"].shape == (3, len(truth["unit_names"]))
    known = motion_of("astronaut-smile", np.arange(3) / 25, 10.0)
    np.testing.assert_allclose(truth["yaw"], known.yaw, atol=1e-6)
    turned = (truth["rest_points"] - truth["pivot"]) @ turn(known.yaw[2], known.pitch[2], known.roll[2]).T + truth[
        "pivot"
    ]
    seen = 64 + truth["focal"] * turned[[1, 168], :2] / -turned[[1, 168], 2:] * (1, -1)
    np.testing.assert_allclose(truth["points"][2, [1, 168]], seen, atol=0.5)


def test_an_unknown_clip_is_named(tmp_path):
    with pytest.raises(UserError, match="no clip 'astronaut-sing': choose one of astronaut-turn"):
        demo.run("astronaut-sing", tmp_path / "x.mp4", SimpleNamespace(), "cpu")
