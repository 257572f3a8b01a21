import numpy as np
import pytest
import torch
from benchmarks.made_heads import Truth
from scipy import sparse

from expportrait.fit.evidence.growth import closed, ears, grow
from expportrait.fit.evidence.targets import StoredTargets, TargetFile, Targets, target_files
from expportrait.head import Head
from expportrait.store import Store, StoreWriter


def test_an_ear_is_held_with_its_hollow(head: Head) -> None:
    """Hair beside an ear would draw a hollow that is not held out of the rest, and tear it."""
    points, held = head.dense.template.numpy(), (ears(head) > 0.9).numpy()
    scalp = (head.regions == head.REGIONS.index("scalp")).numpy()
    for side in (points[:, 0] > 0, points[:, 0] < 0):
        low, high = np.quantile(points[held & side, 1:], [0.02, 0.98], axis=0)
        assert (high - low < [0.07, 0.04]).all()
        beside = scalp & side & ((points[:, 1:] > low) & (points[:, 1:] < high)).all(1)
        assert held[beside].mean() > 0.95


def test_closing_fills_holes_and_keeps_the_outline() -> None:
    side = 30
    row, column = np.divmod(np.arange(side**2), side)
    edges = sparse.kronsum(*[sparse.diags([1.0, 1.0], [-1, 1], (side, side))] * 2).tocsr()
    square = (np.abs(row - 15) < 9) & (np.abs(column - 15) < 9)
    hole = np.abs(row - 15) + np.abs(column - 15) < 3
    assert (closed(square & ~hole, edges, 3) == square).all()
    assert not closed(square & ~hole, edges, 2)[hole].all()


def stored(targets: Targets, path, top: int) -> StoredTargets:
    """As the geometry stage leaves a clip whose picture begins ``top`` rows below the crop's edge."""
    normals, depth, mask, confidence = (x.clone().numpy() for x in targets.maps())
    for maps in (normals, depth, mask, confidence):
        maps[:, :top] = 0
    with StoreWriter(path, {"depth_space": "depth", "padded": [0, top, 0, 0]}) as out:
        out.array("normals", np.rint(127 * normals).astype(np.int8))
        out.array("depth", depth.astype(np.float16))
        for name, values in (("mask", mask), ("confidence", confidence)):
            out.array(name, np.rint(255 * values).astype(np.uint8))
    return StoredTargets(Store(path))


@pytest.mark.parametrize("cut", [0.2, 0.4])
def test_hair_above_the_pictures_edge_grows_as_what_is_seen_of_it(head: Head, truth: Truth, tmp_path, cut) -> None:
    """The edge is no outline: the crown that it cuts off is neither pressed down to it nor drawn out beyond it."""
    rows = np.flatnonzero(truth.targets.mask[0].numpy().any(1))
    top = round(rows[0] + cut * (float(truth.points[0, 10, 1]) - rows[0]))
    size, crown = truth.targets.size, truth.static.norm(dim=-1) > 0.018

    def height(targets) -> float:
        grown = grow(head, truth.parameters, target_files(targets, {size}, "cpu")[size], 0.06)
        return float(grown[crown].norm(dim=-1).mean())

    assert abs(height(stored(truth.targets, tmp_path / "a.zarr", top)) - height(truth.targets)) < 0.0025


def test_no_outline_is_told_beyond_the_picture(truth: Truth, tmp_path) -> None:
    targets = stored(truth.targets, tmp_path / "a.zarr", 30)
    block = targets.block(slice(0, 2))
    assert (block.confidence[:, :30] == 0).all() and torch.equal(
        block.mask[:, :30], block.mask[:, 30:31].expand(-1, 30, -1)
    )
    assert (block.depth[:, 29] == block.depth[:, 30]).all() and (block.normals[:, 29] == block.normals[:, 30]).all()
    for size in (128, 64):
        file = target_files(targets, {size}, "cpu")[size]
        edge = 30 * size // 128
        hidden = file.hidden(file[:])
        assert (hidden[:, :edge] == 1).all() and not hidden[:, edge:].any()
        assert file[slice(0, 1)].margins == block.block(slice(0, 1)).resized(64).to("cpu").margins == targets.margins


def test_hair_grows_and_neck_and_clothes_do_not(head: Head, truth: Truth) -> None:
    """A mask that is 2 cm wider than the bare head all around: only the scalp goes after it."""
    wide = TargetFile(truth.targets.frames, truth.targets.size, False)
    targets = truth.targets.block(slice(None))
    metre = float(truth.parameters.camera().focal) / 1.45  # px
    reach = 2 * round(0.02 * metre) + 1
    targets.mask = torch.nn.functional.max_pool2d(targets.mask[:, None], reach, 1, reach // 2)[:, 0]
    wide[slice(None)] = targets
    grown = grow(head, truth.parameters, wide, 0.06).norm(dim=1)
    scalp = head.regions == head.REGIONS.index("scalp")
    assert grown[scalp].quantile(0.9) > 0.015 and grown.max() < 0.06
    below = torch.isin(head.regions, torch.tensor([head.REGIONS.index(name) for name in ("neck", "body")]))
    beside = head.upsample @ scalp[: len(head.coarse.template)].float() > 0
    assert (grown[below & ~beside] == 0).all()
