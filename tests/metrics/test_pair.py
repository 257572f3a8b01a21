"""A pair's metrics of a long clip: read block by block, with the numbers of the whole."""

import numpy as np
import pytest

from expportrait.metrics import image
from expportrait.metrics.motion import Landmarks, Motion
from expportrait.metrics.pair import BLOCK, Tools, measure
from expportrait.store import Store, StoreWriter
from expportrait.store.frames import Chosen, Frames

COUNT, SIDE = 2 * BLOCK + 5, 24


class Tracker:
    """Sees a face in all frames but one, which moves as the pictures' mean does."""

    def detect(self, frames):
        means = [float(frame.mean()) for frame in frames]
        points = np.broadcast_to(np.array(means, np.float32)[:, None, None], (len(means), 478, 3))
        return Landmarks(points, np.arange(len(means)) != 3, np.ones((len(means), 478), np.float32))

    def fit(self, *clips):
        means = [clip.points[:, 0, 0].astype(float) for clip in clips]
        return [Motion(np.stack([mean, mean], 1), np.stack([mean] * 3, 1) / 100, mean) for mean in means]

    def backends(self, one_shape):
        return {name: {"backend": "stand-in"} for name in ("aed", "apd", "jaw")}


class Likeness:
    """Embeds a face as the mean of its colours."""

    name, sha256, about = "likeness", "", dict

    def embed(self, frames, points, found):
        if not found.any():
            return np.full((len(found), 1), np.nan)
        rows = frames.mean((1, 2)) / np.linalg.norm(frames.mean((1, 2)), axis=1, keepdims=True)
        return np.where(found[:, None], rows, np.nan)


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
    with StoreWriter(tmp_path_factory.mktemp("films") / "a.zarr", {}) as out:
        for name, frames in zip(("made", "driving"), made, strict=True):
            out.stream(name, COUNT, frames.shape[1:], np.uint8, 20).append(frames)
    return Store(out.path)


@pytest.mark.parametrize("own", [True, False])
def test_a_clip_read_block_by_block_has_the_numbers_of_the_whole(films, own):
    tools = Tools(Tracker(), lambda a, b: np.array([1.0 * np.abs(x - y).mean() for x, y in zip(a, b, strict=True)]),
                  Likeness())  # fmt: skip
    tools.lpips.least, tools.lpips.backend = 1, dict
    rows = [*range(COUNT)]
    made, driving = (films[name] for name in ("made", "driving"))
    watched = (Watched(Frames(films, name, 0), rows, lambda frames: frames) for name in ("made", "driving"))
    scores = measure(tools, *watched, driving[1], own)
    whole = measure(tools, made, driving, driving[1], own)
    for method, one in scores.items():
        assert one.fields() == whole[method].fields()
        for name, values in one.values.items():
            np.testing.assert_array_equal(values, whole[method].values[name])
    if own:
        for name in ("psnr", "ssim", "l1"):
            np.testing.assert_allclose(scores["generated"].values[name], getattr(image, name)(made, driving))
        assert np.isinf(scores["copy reference"].values["psnr"][1])
    values = scores["generated"].values["csim"]
    assert values.shape == (COUNT,) and np.flatnonzero(np.isnan(values)).tolist() == [3]
    assert ("psnr" in scores["generated"].reasons) != own
