import hashlib
import json
import re

import cv2
import numpy as np
import pytest

from benchmarks import stand_in_networks as networks
from expportrait.engine.loop import run
from expportrait.errors import UserError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.landmarks.sapiens_points import GIVEN
from expportrait.estimators.mediapipe_models import HandDetector
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.settings.weights import check_given
from expportrait.stages import with_code
from expportrait.store import Store, StoreWriter
from expportrait.video.tracks import link

from ..video import make

SIZE = 300
HERE = (0, 0, 1.0)


@pytest.fixture(scope="module", autouse=True)
def detector():
    """The models are loaded once for all tests of this file."""
    detector, hands = LandmarkDetector(), HandDetector()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expportrait.stages.landmarks.LandmarkDetector", lambda: detector)
        patch.setattr("expportrait.stages.landmarks.HandDetector", lambda: hands)
        yield detector


@pytest.fixture
def landmarks(tmp_path, detector):
    """Runs the stage on frames as `crop` leaves them; gives its store, or the reason why there is none. `places`: of
    the face in them, (k,5) frame, x0 y0 x1 y1 px; by default wherever there is one in every fifth frame."""

    def landmarks(frames, padded=(0, 0, 0, 0), places=None, **settings):
        key = hashlib.sha256(np.array(frames)).hexdigest() + str(padded)
        with StoreWriter(tmp_path / "crop" / "a.zarr", {"key": key}) as out:
            out.array("frames", np.array(frames))
            out.array("track", track(frames, detector) if places is None else places)
            out.attrs(padded=list(padded))
        config = Config(results=tmp_path, landmarks=settings)
        outcome = run(with_code("landmarks"), [Row("a", "test", "a", tmp_path)], config)["a"]
        if outcome.status == "ok":
            return Store(tmp_path / "landmarks" / "a.zarr").check()
        assert "unforeseen" not in outcome.why and "\n" not in outcome.why
        return outcome.why

    return landmarks


def track(frames, detector):
    tracks = link((0, len(frames)), {t: detector.faces(frame) for t, frame in enumerate(frames) if t % 5 == 0})
    found = np.column_stack([tracks[0].frames, tracks[0].boxes]) if tracks else None
    return np.array([[0, 50, 50, 250, 250]]) if found is None else found


def people(*places):
    """A frame for each place (x, y, scale) of one portrait; None: nobody."""
    return [make.scene(SIZE, SIZE, *([place] if place else [])) for place in places]


def test_a_clip_gets_points_in_its_pixels(landmarks, detector):
    frames = people(*((2 * t, t, 1.0) for t in range(20)))
    store = landmarks(frames)
    assert store["points"].shape == (20, 478, 3) and store["points"].dtype == np.float32
    assert store["confidence"].shape == (20, 478) and store["confidence"].dtype == np.float32
    assert store["interpolated"].dtype == bool and not store["interpolated"].any()
    np.testing.assert_array_equal(store["points"], detector.detect(frames)[0])  # of one face, wherever it is looked for
    centre = store["points"][..., :2].mean(1)
    np.testing.assert_allclose(centre[-1] - centre[0], [38, 19], atol=1.5)
    assert store.lazy("points").attrs["unit"] == "px"
    assert "mediapipe 0.10.14" in store.attrs["detector"] and store.attrs["found"] == 1


def test_one_frame_is_enough(landmarks):
    store = landmarks(people(HERE))
    assert store["points"].shape == (1, 478, 3) and not store["interpolated"].any()


def test_short_gaps_are_interpolated_and_marked(landmarks):
    places = [(3 * t, 0, 1.0) for t in range(14)]
    whole = landmarks(people(*places))["points"]
    store = landmarks(people(*places[:5], None, None, None, *places[8:]))
    np.testing.assert_array_equal(store["interpolated"], np.isin(np.arange(14), [5, 6, 7]))
    assert np.abs(store["points"] - whole)[5:8, :, :2].mean() < 1.5
    sure = store["confidence"].mean(1)
    assert sure[5:8].min() > 0 and sure[5:8].max() < 0.6 * sure[4]


def test_a_track_of_two_people_is_refused_by_their_faces(landmarks, tmp_path):
    network = networks.mean_colour(tmp_path / "face.onnx")
    one = people(*[HERE] * 30)
    other = [frame[..., ::-1] for frame in one]  # blue skin stands for another face
    settings = {"arcface": network, "min_identity": 0.9}
    store = landmarks(one, **settings)
    told = store.attrs["identity"]
    assert told["least"] > 0.99 and told["others"] == 0 and len(told["weights"]) == 64
    mixed = one[:20] + other[20:]
    reason = landmarks(mixed, **settings)
    assert "1 of 3 frames" in reason and "frame 20" in reason and "landmarks.min_identity: 0.9" in reason
    assert landmarks(mixed, **settings, max_others=0.5).attrs["identity"]["others"] == pytest.approx(1 / 3)
    assert "identity" not in landmarks(mixed).attrs


def test_the_shipped_network_tells_people_apart(landmarks):
    """Two people, one after the other in the same place."""
    (one, _), (other, _) = make.heads()
    faces = [np.uint8(cv2.resize(head, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)) for head in (one, other)]
    assert "identity" not in landmarks([faces[0]] * 12).attrs
    told = landmarks([faces[0]] * 21, identity="sface").attrs["identity"]
    assert told["least"] > 0.99 and told["others"] == 0 and "SFace" in told["backend"] and len(told["weights"]) == 64
    mixed = [faces[0]] * 20 + [faces[1]] * 10
    reason = landmarks(mixed, identity="sface")
    assert "1 of 3 frames" in reason and "frame 20" in reason and "landmarks.min_sface: 0.35" in reason
    told = landmarks(mixed, identity="sface", max_others=0.5).attrs["identity"]
    assert told["others"] == pytest.approx(1 / 3) and told["least"] < 0.3


def test_who_asks_for_arcface_has_to_give_its_file():
    with pytest.raises(UserError, match=r"landmarks\.arcface is empty: take w600k_r50.onnx .* landmarks.identity"):
        check_given(Config(landmarks={"identity": "arcface"}), ("landmarks",))
    check_given(Config(landmarks={"identity": "sface"}), ("landmarks",))
    assert Config().landmarks.embedder is None
    assert Config(landmarks={"arcface": "face.onnx"}).landmarks.embedder == "arcface"


def test_long_gaps_keep_their_place_but_no_weight(landmarks):
    store = landmarks(people(*[HERE] * 8, *[None] * 4, *[HERE] * 8), max_gap=3)
    assert store["interpolated"][8:12].all() and not store["confidence"][8:12].any()
    assert np.abs(store["points"][8:12] - store["points"][7]).max() < 5
    assert store["confidence"][:8].any() and store.attrs["found"] == pytest.approx(0.8)


def test_a_face_in_another_place_for_a_moment_is_not_the_clips_face(landmarks):
    small = (180, 150, 0.4)
    store = landmarks(people(*[HERE] * 10, small, *[HERE] * 5))
    np.testing.assert_array_equal(store["interpolated"], np.arange(16) == 10)
    assert np.abs(store["points"][10] - store["points"][9]).max() < 5


def test_reasons_name_the_value_and_the_threshold(landmarks):
    assert "no face is found in the 4 cropped frames" in landmarks(people(*[None] * 4))
    rare = people(*[HERE] * 6, *[None] * 4)
    assert "only 60% of the 10 cropped frames (landmarks.min_found: 70%)" in landmarks(rare)
    assert landmarks(rare, min_found=0.5).attrs["found"] == pytest.approx(0.6)


def test_a_clip_that_is_refused_leaves_its_figures(landmarks, tmp_path):
    """So that thresholds can be chosen afterwards."""
    record = tmp_path / "landmarks" / "a.failed.json"
    frames = people(*[HERE] * 6, *[None] * 4, *[HERE] * 6)
    reason = landmarks(frames, max_missing=3)
    assert reason == "the face is lost for 4 frames in a row (landmarks.max_missing: 3)"
    refused = json.loads(record.read_text())
    assert refused["why"] == reason and refused["quality"]["longest_gap"] == 4
    kept = landmarks(frames, max_missing=4).attrs
    assert refused["quality"] == {name: kept[name] for name in refused["quality"]}
    assert {"found", "yaw", "pitch", "turned", "unsure", "hands", "mean_confidence"} < refused["quality"].keys()
    assert not record.exists()
    turned = kept["turned"]["pitch"]
    assert f"turned up or down by {turned:.0f} degrees or more (landmarks.max_pitch: 0.01)" in landmarks(
        frames, max_pitch=0.01
    )
    assert json.loads(record.read_text())["quality"]["turned"]["pitch"] == turned
    landmarks(people(*[None] * 3))
    assert json.loads(record.read_text())["quality"] == {"found": 0}


def test_figures_of_turns_and_guesses(landmarks):
    frames = people(*[HERE] * 10)
    attrs = landmarks(frames).attrs
    (least, most), (up, down) = attrs["yaw"], attrs["pitch"]
    assert -15 < least <= most < 15 and up <= down
    assert attrs["unsure"] == 0 and attrs["mean_confidence"] > 0.7 and attrs["longest_gap"] == 0
    assert attrs["roll"] == pytest.approx([attrs["turned"]["roll"]] * 2, abs=1) and 0 < attrs["roll"][0] < 10
    assert "half of the frames show the head turned by " in landmarks(frames, max_yaw=0.01)
    assert landmarks(people(*[HERE] * 8, None, None, HERE, HERE)).attrs["longest_gap"] == 2


def cut(frames, top=0, bottom=SIZE):
    """The rows ``top`` to ``bottom`` of the frames, the rest as ``crop`` fills it; and its attribute ``padded``."""
    rows = np.arange(SIZE).clip(top, bottom - 1)
    return [frame[rows] for frame in frames], (0, top, 0, SIZE - bottom)


def test_points_beyond_the_picture_have_no_confidence_and_their_share_is_a_figure(landmarks):
    frames = people(*[HERE] * 4)
    whole = landmarks(frames)
    assert whole.attrs["outside"] == 0
    chin = round(float(whole["points"][0, 152, 1]))
    store = landmarks(*cut(frames, bottom=chin - 8))
    points, confidence = store["points"], store["confidence"]
    beyond = points[..., 1] >= chin - 8
    assert 4 < beyond.sum() / 4 < 60 and (confidence[beyond] == 0).all() and confidence[~beyond].min() > 0
    assert 0 < store.attrs["outside"] < 0.2
    forehead = round(float(whole["points"][0, 10, 1]))
    above = landmarks(*cut(frames, top=forehead + 8))
    assert (above["confidence"][:, 10] == 0).all() and (above["confidence"][:, 152] > 0).all()


def test_a_face_that_the_picture_cuts_off_is_refused_by_that_name(landmarks):
    frames = people(*[HERE] * 4)
    points = landmarks(frames)["points"][0]
    nose, brows = round(float(points[2, 1])), round(float(points[105, 1]))
    reason = landmarks(*cut(frames, bottom=nose + 3), min_found=0.5)
    assert re.fullmatch(r"the picture ends above the chin, so that there is none to fit: it leaves out [2-6]\d% of the "
                        r"face \(landmarks.max_outside: 20%\)", reason), reason  # fmt: skip
    lower, padded = cut(frames, top=brows + 12)
    reason = landmarks(lower, padded, min_found=0.5, max_outside=0.1)
    assert re.match(r"the picture cuts the face off: it leaves out \d+% of the face", reason), reason


def test_hands_before_the_face_are_seen_in_the_confidence(landmarks):
    frames = people(*[HERE] * 8)
    for frame in frames:  # the colour of skin over mouth, cheek and an eye, with gaps as between fingers
        for x in (120, 146, 172):
            frame[70:200, x : x + 20] = (205, 150, 125)
    hidden = landmarks(frames, max_unsure=1).attrs
    assert hidden["mean_confidence"] < landmarks(people(*[HERE] * 8)).attrs["mean_confidence"] - 0.15
    assert hidden["unsure"] > 0.9
    assert "in 100% of the frames a quarter of the points are guesses" in landmarks(frames)
    assert "(landmarks.max_unsure: 90%)" in landmarks(frames)


def test_hands_are_looked_for_every_so_many_frames(landmarks, monkeypatch):
    class Hands:
        looked = 0

        def detect(self, frame):  # in every second frame looked at there is one, of 21 points about the nose
            self.looked += 1
            return np.full((self.looked % 2, 21, 2), 130, np.float32)

    hands = Hands()
    monkeypatch.setattr("expportrait.stages.landmarks.HandDetector", lambda: hands)
    frames = people(*[HERE] * 20)
    assert landmarks(frames, hands_every=5).attrs["hands"] == 0.5 and hands.looked == 4
    said = landmarks(frames, hands_every=5, max_hands=0.3)
    assert said == "a hand is before the face in 50% of the frames looked at (landmarks.max_hands: 30%)"
    assert landmarks(frames, hands_every=0).attrs["hands"] == 0 and hands.looked == 8


def test_sapiens_points_stand_in_their_places_and_the_others_have_no_confidence(landmarks, tmp_path):
    random = np.random.default_rng(0)
    network = networks.sapiens_points(tmp_path / "points.pt2", random.uniform(0.2, 0.8, (308, 2)), spread=0.5)
    frames = people(*[(0, 0, 1.0)] * 3)
    plain = landmarks(frames)
    points, unsure = plain["points"], plain.attrs["unsure"]
    store = landmarks(frames, detector="sapiens", model=network, max_yaw=180, max_pitch=90)
    others = np.setdiff1d(np.arange(478), GIVEN)
    assert (store["points"][:, others] == points[:, others]).all() and not store["confidence"][:, others].any()
    assert store["confidence"][:, GIVEN].mean() > 0.1
    assert "sapiens" in store.attrs["detector"] and len(store.attrs["files"]["model"]) == 64
    assert unsure == 0 and "files" in plain.attrs


@pytest.mark.parametrize("roll", [-75, 40, 75, 90])
def test_a_face_on_its_side_is_refused_by_that_name(landmarks, roll):
    turn = cv2.getRotationMatrix2D((150, 120), -roll, 1.0)  # OpenCV turns the other way
    frames = [
        cv2.warpAffine(frame, turn, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE) for frame in people(*[HERE] * 8)
    ]
    said = landmarks(frames)
    attrs = said.attrs if abs(roll) < 60 else landmarks(frames, max_roll=180).attrs
    assert attrs["roll"] == pytest.approx([roll + 3] * 2, abs=4)  # the portrait's own head is tilted by 3
    assert attrs["turned"]["roll"] == pytest.approx(abs(roll + 3), abs=4)
    if abs(roll) > 60:
        assert said == (f"half of the frames show the head lying on its side, rolled by {attrs['turned']['roll']:.0f} "
                        "degrees or more (landmarks.max_roll: 60)")  # fmt: skip


def test_the_face_that_was_cropped_is_followed_not_a_larger_one_beside_it(landmarks):
    """Also where it is gone for a moment and somebody else is there."""
    small, large = (10, 30, 0.8), (280, 20, 1.2)
    frames = [make.scene(360, 640, small, large) for _ in range(10)]
    for t in (4, 5):
        frames[t] = make.scene(360, 640, large)
    ours = landmarks([make.scene(360, 640, small)])["points"][0]
    box = [*ours[:, :2].min(0), *ours[:, :2].max(0)]
    store = landmarks(frames, places=np.array([[0, *box], [9, *box]]))
    assert np.flatnonzero(store["interpolated"]).tolist() == [4, 5]
    assert np.abs(store["points"] - ours)[..., :2].mean() < 3
