"""Two people whose ways meet: no clip has frames of both. Who is where in which frame is known: the videos are made
here."""

import numpy as np
import pytest

from expportrait.engine.loop import run
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store

from ..video import make

FACE = 110  # px


@pytest.fixture(scope="module", autouse=True)
def detector():
    """The models are loaded once for all tests of this file."""
    detector = LandmarkDetector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expportrait.stages.crop.LandmarkDetector", lambda: detector)
        patch.setattr("expportrait.stages.landmarks.LandmarkDetector", lambda: detector)
        yield detector


def ways(kind, speed, count):
    """Middles of two faces (2,count,2) px that come towards each other by ``speed`` faces a second."""
    apart = speed * FACE * (np.arange(count) / 25 - count / 50)
    x = {"cross": (apart / 2, -apart / 2), "meet": (-abs(apart) / 2 - 25, abs(apart) / 2 + 25),
         "behind": (0 * apart, -apart)}[kind]  # fmt: skip
    return np.stack([np.stack([450 + x[who], np.full(count, 170.0 + 6 * who)], 1) for who in range(2)])


QUICK = [("cross", 2.5, 0), ("cross", 5, 1), ("behind", 2.5, 1), ("behind", 5, 1), ("meet", 2.5, 1)]
ALL = [(kind, speed, front) for kind in ("cross", "meet", "behind") for speed in (1, 2.5, 5) for front in (0, 1)]


@pytest.mark.parametrize(
    ("kind", "speed", "front"),
    [*QUICK, *(pytest.param(*one, marks=pytest.mark.long) for one in ALL if one not in QUICK)],
)
def test_a_clip_has_frames_of_one_person(tmp_path, kind, speed, front):
    """``front``: which of the two is before the other one where they overlap."""
    count = {1: 110, 2.5: 50, 5: 50}[speed]
    truth = ways(kind, speed, count)
    video = make.video(tmp_path / "v.mp4", make.meeting(count, *truth, front=front, height=640))  # room for a long way
    config = Config(results=tmp_path, crop={"size": 256}, landmarks={"hands_every": 0})
    for stage in (with_code("crop"), with_code("landmarks")):
        assert run(stage, [Row("a", "d", "v.mp4", video)], config)["a"].status == "ok"
    cropped, followed = Store(tmp_path / "crop" / "a.zarr"), Store(tmp_path / "landmarks" / "a.zarr")
    first, end = cropped.attrs["shot"]
    assert end - first >= 0.35 * count and not followed["interpolated"].any()
    points = followed["points"][..., :2]
    middle = (points.min(1) + points.max(1)) / 2 / cropped.attrs["scale"] + cropped.attrs["box"][:2]
    away = np.linalg.norm(truth[:, first:end] - middle, axis=-1)
    who = np.where(np.linalg.norm(truth[0] - truth[1], axis=-1)[first:end] < 0.4 * FACE, front, away.argmin(0))
    assert away.min(0).max() < 0.5 * FACE
    assert len(set(who)) == 1, who


def test_who_is_seen_all_the_time_is_one_clip_through_the_meeting(tmp_path):
    """And who was hidden is not: in the frames between, the other one's face is there."""
    truth = ways("behind", 2.5, 50)  # the first one stands, the second one comes past
    for front in (0, 1):
        video = make.video(tmp_path / f"{front}.mp4", make.meeting(50, *truth, front=front))
        config = Config(results=tmp_path / str(front), crop={"size": 256})
        assert run(with_code("crop"), [Row("a", "d", "v.mp4", video)], config)["a"].status == "ok"
        attrs = Store(tmp_path / str(front) / "crop" / "a.zarr").attrs
        likenesses = [asked["likeness"] for asked in attrs["identity"]["asked"]]
        assert max(likenesses) > 0.9 and min(likenesses) < 0.3
        first, end = attrs["shot"]
        assert (end - first == 50) if front == 0 else (end <= 25 or first >= 25)
