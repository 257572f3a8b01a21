"""A pair's metrics: block by block with the numbers of the whole, faces counted, and the noise floor beside them."""

import numpy as np
import pytest
from skimage.data import astronaut

from expportrait.metrics import image
from expportrait.metrics.floor import encoded_again
from expportrait.metrics.pair import BLOCK, CARRIED, COPY, FLOOR, METHODS, METRICS, RUN, measure
from expportrait.metrics.tools import Tools
from expportrait.settings.config import Evaluate
from expportrait.store import Store, StoreWriter
from expportrait.store.frames import Chosen, Frames

from .stand_ins import Distance, Faces, Likeness, Tracker

COUNT, SIDE, DARK = 2 * BLOCK + 5, 24, 20


class Watched(Chosen):
    """Frames that may not be asked for by more than a block."""

    def __getitem__(self, key):
        got = super().__getitem__(key)
        assert len(got) <= BLOCK
        return got


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    random = np.random.default_rng(0)
    made = random.integers(0, 256, (2, COUNT, SIDE, SIDE, 3)).astype(np.uint8)
    made[0, DARK] = 0
    with StoreWriter(tmp_path_factory.mktemp("films") / "a.zarr", {}) as out:
        for name, frames in zip(("made", "driving"), made, strict=True):
            out.stream(name, COUNT, frames.shape[1:], np.uint8, 20).append(frames)
    return Store(out.path)


@pytest.mark.parametrize("tracker", [None, Tracker()], ids=["by default", "own tracker"])
@pytest.mark.parametrize("own", [True, False], ids=["self", "cross"])
def test_a_clip_read_block_by_block_has_the_numbers_of_the_whole(films, own, tracker):
    tools = Tools(Faces(), tracker, Distance(), Likeness())
    made, driving = (films[name] for name in ("made", "driving"))
    seen, truth, moved = (
        Watched(Frames(films, name, 0), [*range(COUNT)], lambda frames: frames) for name in ("made", "driving", "made")
    )
    scores = measure(tools, seen, truth, driving[1], own, carried=moved)
    whole = measure(tools, made, driving, driving[1], own, carried=made)
    assert tuple(scores) == METHODS
    for method, one in scores.items():
        assert one.fields() == whole[method].fields()
        for name, values in one.values.items():
            assert values.shape == (COUNT,)
            np.testing.assert_array_equal(values, whole[method].values[name])
    if own:
        with encoded_again(driving) as again:
            coded = np.stack([*again])
        for name in ("psnr", "ssim", "l1"):
            for method, pictures in ((RUN, made), (CARRIED, made), (FLOOR, coded)):
                np.testing.assert_allclose(scores[method].values[name], getattr(image, name)(pictures, driving))
        assert np.isinf(scores[COPY].values["psnr"][1])
    assert ("psnr" in scores[RUN].reasons) != own and (scores[RUN].fields()["gaze"] is None) == (tracker is not None)


def test_frames_without_a_face_are_counted_and_give_no_number(films):
    scores = measure(
        Tools(Faces(), None, Distance(), Likeness()), films["made"], films["driving"], films["made"][0], True
    )
    one = scores[RUN]
    for name in ("aed", "apd", "jaw", "gaze", "csim"):
        assert np.flatnonzero(np.isnan(one.values[name])).tolist() == [DARK], name
    row = one.fields()
    assert row["no_face"] == {"result": 1, "driver": 0} and np.flatnonzero(~one.faces["result"]).tolist() == [DARK]
    assert row["counted"] == {name: COUNT - (name in ("aed", "apd", "jaw", "gaze", "csim")) for name in METRICS}


def test_where_no_frame_has_a_face_that_is_the_reason():
    black, grey = (np.full((3, 32, 32, 3), value, np.uint8) for value in (0, 90))
    row = measure(Tools(Faces(), None, Distance(), Likeness()), black, grey, grey[0], False)[RUN].fields()
    assert row["aed"] is None and row["csim"] is None and row["counted"]["aed"] == 0
    assert row["reasons"]["aed"] == ("no frame shows a face in both: none found in 3 frames of the result and in 0 of "
                                     "the driver")  # fmt: skip


def test_likeness_is_to_the_truth_to_the_portrait_or_to_the_driver():
    red, green, blue = (np.full((2, 32, 32, 3), 0, np.uint8) for _ in range(3))
    red[..., 0], green[..., 1], blue[..., 2] = 200, 200, 200
    tools = Tools(Faces(), None, Distance(), Likeness())
    cross = measure(tools, red, green, (red // 2 + blue // 2)[0], False)
    assert cross[RUN].fields()["csim"] == pytest.approx(np.sqrt(0.5))
    assert cross[COPY].fields()["csim"] == pytest.approx(1) and cross[FLOOR].fields()["csim"] > 0.95
    own = measure(tools, red, green, blue[0], True)
    assert own[RUN].fields()["csim"] == own[COPY].fields()["csim"] == 0
    told = {method: one.fields()["backends"]["csim"]["against"] for method, one in cross.items()}
    assert told == {RUN: "the reference portrait", COPY: "the reference portrait", FLOOR: "the driver's frame"}


@pytest.mark.parametrize(("count", "height", "width"), [(1, 16, 16), (3, 33, 47), (40, 20, 18)])
def test_a_film_encoded_again_has_its_frames_in_their_order(count, height, width):
    ramp = np.broadcast_to(np.linspace(20, 220, count).astype(np.uint8)[:, None, None, None], (count, height, width, 3))
    with encoded_again(iter(ramp)) as again:
        for _ in range(2):
            np.testing.assert_allclose(np.stack([*again]).astype(float), ramp, atol=12)


@pytest.mark.parametrize("size", [48, 96, 256])
def test_equal_frames_are_encoded_equally(size):
    picture = astronaut()[:size, 160 : 160 + size]
    frames = np.stack([np.roll(picture, 3 * t, 1) for t in range(30)])
    coded = set()
    for _ in range(12):
        with encoded_again(frames) as again:
            coded.add(np.stack([*again]).tobytes())
    assert len(coded) == 1


def test_the_floor_is_a_little_and_not_nothing():
    picture = astronaut()[:256, 128:384]
    frames = np.stack([np.roll(picture, 2 * t, 1) for t in range(6)])
    with encoded_again(frames) as again:
        psnr = image.psnr(np.stack([*again]), frames)
    assert ((psnr > 28) & (psnr < 45)).all()


def test_what_comes_with_the_package_measures_all_of_it_by_default():
    """Real networks: a face against itself darkened, mirrored, and every number says what it rests on."""
    face = astronaut()[:256, 96:352]
    truth = np.stack([face] * 3)
    made = np.stack([face, (face * 0.6).astype(np.uint8), face[:, ::-1]])
    scores = measure(Tools.load(Evaluate(), "cpu"), made, truth, face, True)
    row = scores[RUN].fields()
    assert not [name for name in METRICS if row[name] is None] and row["reasons"] == {}
    for name, about in row["backends"].items():
        assert {"backend", "input", "norm", "unit", "reduction"} <= set(about), name
        assert name in ("psnr", "ssim", "l1") or [len(sha) for sha in about["weights"].values()] == [64], name
    values = scores[RUN].values
    assert values["lpips"][0] == values["aed"][0] == 0 and values["csim"][0] == pytest.approx(1)
    assert values["csim"][1] > 0.8 and 0.05 < values["lpips"][1] < values["lpips"][2]
    copy = scores[COPY].fields()
    assert copy["lpips"] == 0 and copy["identical"] == 3 and copy["psnr"] is None
