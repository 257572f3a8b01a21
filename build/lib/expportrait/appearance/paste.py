"""Made frames put back into the whole picture that their portrait was cut out of.

A pixel is the source's own where nothing changed, and the made frame's where something did: how much, the difference
between a made frame and the crop's picture says, both small, where grain and the codec's noise average out. In
between they mix, which nobody sees, since there they hardly differ. Towards those sides of the box beyond which the
picture goes on, what moved has to meet what stands still. To mix the two there would double all edges; so the source is
bent: it follows the movement (optical flow) less and less, and not at all at the box's side.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from expportrait.video.turning import turned

LOOK = 256  # px at most, at which pictures are compared
GRAIN, SPREAD = 1.0, 1.2  # px of these: differences are smoothed first with their signs, then without
STILL, MOVED = 1.5, 5.0  # levels of 255: differences below are none, from the second one on the made frame is shown
HOLES = 0.12  # of the side: so far apart may parts that moved lie, and what is between them belongs to them ...
EQUAL = 0.3, 1.0  # levels: ... unless it is equal, as it is below the first one
WAYS = 96  # px, at which movement is measured: fewer are faster and find edges that went far
BLUR = 2.0  # px of these: without, a plain shape's edge is lost
RIM = 16  # px of these, by which pictures are carried on for it: near their edges the search finds nothing
BAND = 0.16  # of the box's side: in this border the source is bent
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
        self.picture, self.before = turned(picture, -rotated), None
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
        self.flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.flow.setFinestScale(0)
        self.flow.setVariationalRefinementIterations(3)

    def __call__(self, made: np.ndarray) -> np.ndarray:
        whole = self.source.copy()
        made = turned(made, -self.rotated)
        look = min(LOOK, len(made), len(self.picture))
        if self.before is None or len(self.before) != look:
            self.before = _resized(self.picture, look)
        small = _resized(made, look)
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
        """A square map f32 at the size of the box, its part that is in the picture."""
        return np.ascontiguousarray(cv2.resize(small, (self.side,) * 2, interpolation=cv2.INTER_LINEAR)[self.part])

    def _bent(self, small: np.ndarray) -> np.ndarray:
        """The source's part, moved as the made frame is, less and less towards the box's sides."""
        way = self.flow.calc(_plain(small), _plain(self.before), None)[RIM:-RIM, RIM:-RIM] * (self.side / WAYS)
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
    """(N,N) f32, 0 to 1: how much of a picture is no longer what it was. Both (N,N,3) u8."""
    off = cv2.GaussianBlur(cv2.subtract(small, before, dtype=cv2.CV_32F), (0, 0), GRAIN)
    off = np.sqrt(cv2.GaussianBlur((off * off).max(2), (0, 0), SPREAD))
    sure = _smooth((off - STILL) / (MOVED - STILL))
    reach = round(HOLES * len(small) / 2)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    within = cv2.morphologyEx(np.pad(np.uint8(255 * sure), 2 * reach), cv2.MORPH_CLOSE, kernel)
    within = within[2 * reach : -2 * reach, 2 * reach : -2 * reach].astype(np.float32) / 255
    return np.maximum(sure, within * _smooth((off - EQUAL[0]) / (EQUAL[1] - EQUAL[0])))


def _mixed(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """u8 pictures (H,W,3), ``share`` (H,W) f32 of ``b``; exactly the one where there is nothing of the other."""
    return cv2.blendLinear(np.ascontiguousarray(a), np.ascontiguousarray(b), 1 - share, share)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 up to 0, 1 from 1 on, without a kink between, f32."""
    x = np.clip(x, 0, 1).astype(np.float32)
    return x * x * (3 - 2 * x)


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    if len(picture) == side:
        return picture
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if len(picture) > side else cv2.INTER_CUBIC)


def _plain(picture: np.ndarray) -> np.ndarray:
    """Grey u8, WAYS px and a rim, for the search of movement."""
    grey = cv2.cvtColor(_resized(picture, WAYS), cv2.COLOR_RGB2GRAY)
    return cv2.GaussianBlur(cv2.copyMakeBorder(grey, RIM, RIM, RIM, RIM, cv2.BORDER_REPLICATE), (0, 0), BLUR)
