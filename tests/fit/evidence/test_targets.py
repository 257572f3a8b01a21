"""Weights that the fit reads from a packed store: nothing where there was nothing, something where there was little."""

import cv2
import numpy as np
import pytest
import torch

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.occlusion import KNOWN, SCALE, draw_hand, hide
from expportrait.fit.evidence.targets import StoredTargets, TargetFile, Targets, target_files
from expportrait.stages.geometry import PACKING, encode
from expportrait.store import Store, StoreWriter

FRAMES, SIZE = 16, 256
LEVELS = {
    "high": lambda random: np.full((SIZE, SIZE), 0.9),
    "least": lambda random: np.zeros((SIZE, SIZE)),
    "noisy": lambda random: 0.5 * random.random((SIZE, SIZE)),
}


@pytest.fixture(params=LEVELS)
def stored(request, tmp_path):
    """A store, and what of it is hidden, outside, or known: (T,S,S) bool each."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    masks, hidden = (
        np.zeros((FRAMES, SIZE, SIZE), np.float32),
        np.zeros((FRAMES, SIZE // SCALE, SIZE // SCALE), np.uint8),
    )
    for t in range(FRAMES):
        masks[t] = np.clip((1 - np.hypot((x - 128 - t / 2) / 75, (y - 120) / 100)) * 30 + 0.5, 0, 1)
        fingers = [[30 - 10 + 1.5 * k + t / 4, 30 - 2 * j] for k in range(5) for j in range(1, 5)]
        draw_hand(hidden[t], np.float32([[30, 45], *fingers]))
    confidence = np.stack([LEVELS[request.param](random) for _ in range(FRAMES)]).astype(np.float32) * masks
    normals = np.zeros((FRAMES, SIZE, SIZE, 3), np.float32)
    normals[..., 2] = masks > 0
    maps = Geometry(normals, np.zeros_like(masks), masks, confidence, "depth")
    hide(maps, hidden)
    with StoreWriter(tmp_path / "a.zarr", {"depth_space": "depth"}) as out:
        for name, block in encode(maps).items():
            out.stream(name, FRAMES, block.shape[1:], block.dtype, PACKING[name]).append(block)
    wide = np.stack([cv2.resize(one, (SIZE, SIZE)) for one in hidden])
    inside = masks > 0.5
    return Store(tmp_path / "a.zarr"), inside & (wide == 255), masks == 0, inside & (wide == 0)


def test_zero_stays_zero_and_little_stays_little(stored):
    store, hidden, outside, known = stored
    assert min(part.sum() for part in (hidden, outside, known)) > 10_000
    targets = StoredTargets(store).block(slice(None))
    weight = (targets.mask * targets.confidence).numpy()
    assert (weight[hidden] > 0).mean() < 5e-4 and weight[hidden].max() < 0.05
    assert (weight[outside] > 0).mean() < 1e-4 and weight[outside].max() < 0.005
    assert (weight[known] == 0).mean() < 5e-3


def test_the_fit_tells_them_apart_at_the_size_at_which_it_works(stored):
    store, hidden, outside, known = stored
    size = SIZE // 2
    file = target_files(StoredTargets(store), {size}, "cpu")[size]
    found = file.hidden(file[:]).numpy() > 0

    def all_of(part):
        return part.reshape(FRAMES, size, 2, size, 2).all((2, 4))

    assert found[all_of(hidden)].mean() > 0.999
    assert found[all_of(known)].mean() < 1e-3
    assert not found[all_of(outside)].any()


@pytest.mark.parametrize("known", [torch.tensor([True, False, True]), None], ids=["known", "unknown"])
def test_whether_a_depths_shift_is_known_is_carried_along(known):
    image = torch.ones(3, 16, 16)
    targets = Targets(torch.ones(3, 16, 16, 3), image, image, image, True, known)
    kept = targets.block(slice(1, 3)), targets.resized(8), targets.resized(16), targets.to("cpu")
    parts = slice(1, 3), slice(None), slice(None), slice(None)
    for one, part in zip(kept, parts, strict=True):
        assert one.disparity
        assert one.anchored is None if known is None else torch.equal(one.anchored, known[part])
    if known is not None:
        assert targets.to("meta").anchored.device.type == "meta"


def test_what_is_in_front_is_no_outline() -> None:
    file = TargetFile(1, 8, disparity=False)
    mask, confidence = torch.ones(1, 8, 8), torch.full((1, 8, 8), KNOWN)
    mask[:, :, :2], confidence[:, :, :2] = 0, 0  # background
    confidence[:, :3, 4:] = 0  # a hand
    file[slice(0, 1)] = Targets(torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8), mask, confidence)
    hidden = torch.zeros(1, 8, 8)
    hidden[:, :3, 4:] = 1
    assert torch.equal(file.hidden(file[:1]), hidden)
