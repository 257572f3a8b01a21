"""Made frames put back into the whole picture that their portrait was cut out of.

A pixel is the source's own where nothing changed, and the made frame's where something did: how much, the difference
between a made frame and the crop's picture says, both at ``LOOK`` px, where grain and the codec's noise average out. In
between they mix, which nobody sees, since there they hardly differ. Towards those sides of the box beyond which the
picture goes on, what moved has to meet what stands still. To mix the two there would double all edges; so the source is
bent: it follows the movement (optical flow) less and less, and not at all at the box's side.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from expportrait.video.turning import turned

LOOK = 256  # px, at which pictures are compared and movement is measured
STILL, MOVED = 2.0, 6.0  # levels of 255: differences below are none, from the second one on the made frame is shown
SPREAD = 1.2  # px of LOOK, over which differences are averaged
HOLES = 31  # px of LOOK: so far apart may parts that moved lie, and what is between them belongs to them ...
EQUAL = 0.3, 1.0  # ... unless it is equal: below the first level, it is
BAND = 0.12  # of the box's side: in this border the source is bent
BENT = 0.6  # of the border, from the box's side on: beyond, the source is bent by all of the movement
OVER = 0.45  # of the border, from where on the made frame takes over from the bent source


class Paste:
    """``Paste(source, box, rotated, picture)(made)``: the source with one made frame in it, (H,W,3) u8, a new array.

    ``source`` (H,W,3) u8, the picture before it is turned; ``box`` x0 y0 x1 y1, the square that was cut out of it, px,
    which may reach beyond it; ``rotated``: degrees clockwise by which the square was turned; ``picture`` (S,S,3) u8,
    the square as the crop has it (attributes ``box`` and ``rotated`` of its store); ``made`` (S',S',3) u8.
    """

    def __init__(self, source: np.ndarray, box: tuple[int, int, int, int], rotated: int, picture: np.ndarray) -> None:
        self.source, self.rotated = source, rotated
        height, width = source.shape[:2]
        x0, y0, x1, y1 = (round(v) for v in box)
        self.side = x1 - x0
        seen = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
        self.place = seen
        self.part = slice(seen[0].start - y0, seen[0].stop - y0), slice(seen[1].start - x0, seen[1].stop - x0)
        self.own = np.ascontiguousarray(source[seen])
        self.before = _small(turned(picture, -rotated))
        far = np.full(self.own.shape[:2], np.inf, np.float32)  # px from the box's nearest side that is in the picture
        down, across = (np.arange(part.start, part.stop, dtype=np.float32) + 0.5 for part in self.part)
        for inside, away in ((x0 > 0, across[None]), (x1 < width, self.side - across[None]),
                             (y0 > 0, down[:, None]), (y1 < height, self.side - down[:, None])):  # fmt: skip
            if inside:
                far = np.minimum(far, away)
        share = far / max(BAND * self.side, 1)
        self.bend = _smooth(share / BENT)
        self.over = _smooth((share - OVER) / (1 - OVER))
        grid = np.mgrid[seen].astype(np.float32)
        self.y, self.x = grid[0], grid[1]
        self.border = cv2.resize(np.float32(self.over < 1), (64, 64), interpolation=cv2.INTER_AREA) > 0
        self.flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, made: np.ndarray) -> np.ndarray:
        whole = self.source.copy()
        made = turned(made, -self.rotated)
        small = _small(made)
        changed = _changed(small, self.before)
        if not changed.any():
            return whole
        change = self._up(changed)
        new = _resized(made, self.side)[self.part]
        if (change[self.over < 1] > 0).any():
            new = _mixed(self._bent(small), new, self.over)
        whole[self.place] = _mixed(self.own, new, change)
        return whole

    def _up(self, small: np.ndarray) -> np.ndarray:
        """A map (LOOK, LOOK, ...) f32 at the size of the box, its part that is in the picture."""
        return np.ascontiguousarray(cv2.resize(small, (self.side,) * 2, interpolation=cv2.INTER_LINEAR)[self.part])

    def _bent(self, small: np.ndarray) -> np.ndarray:
        """The source's part, moved as the made frame is, less and less towards the box's sides."""
        way = self.flow.calc(_grey(small), _grey(self.before), None)
        way = cv2.GaussianBlur(way, (0, 0), 2) * (self.side / LOOK)
        way = self._up(way) * self.bend[..., None]
        return cv2.remap(self.source, self.x + way[..., 0], self.y + way[..., 1], cv2.INTER_CUBIC,
                         borderMode=cv2.BORDER_REPLICATE)  # fmt: skip


def pasted(
    source: np.ndarray, box: tuple[int, int, int, int], rotated: int, picture: np.ndarray, frames: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """The source with each of the made ``frames`` in it, one at a time; see ``Paste``."""
    paste = Paste(source, box, rotated, picture)
    for made in frames:
        yield paste(made)


def _changed(small: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(LOOK, LOOK) f32, 0 to 1: how much of a picture is no longer what it was. Both (LOOK, LOOK, 3) u8."""
    off = cv2.absdiff(small, before).astype(np.float32)
    off = np.sqrt(cv2.GaussianBlur((off * off).max(2), (0, 0), SPREAD))
    sure = _smooth((off - STILL) / (MOVED - STILL))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (HOLES, HOLES))
    within = cv2.morphologyEx(np.pad(np.uint8(255 * sure), HOLES), cv2.MORPH_CLOSE, kernel)
    within = within[HOLES:-HOLES, HOLES:-HOLES].astype(np.float32) / 255
    return np.maximum(sure, within * _smooth((off - EQUAL[0]) / (EQUAL[1] - EQUAL[0])))


def _mixed(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """u8 pictures (H,W,3), ``share`` (H,W) f32 of ``b``; exactly the one where there is nothing of the other."""
    return cv2.blendLinear(np.ascontiguousarray(a), np.ascontiguousarray(b), 1 - share, share)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 up to 0, 1 from 1 on, without a kink between, f32."""
    x = np.clip(x, 0, 1).astype(np.float32)
    return x * x * (3 - 2 * x)


def _small(picture: np.ndarray) -> np.ndarray:
    return _resized(picture, LOOK)


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    if len(picture) == side:
        return picture
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if len(picture) > side else cv2.INTER_CUBIC)


def _grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
