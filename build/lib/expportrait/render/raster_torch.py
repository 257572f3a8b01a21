"""Pure-torch z-buffer: no dependency but torch, exact, deterministic, the same code on CPU and CUDA.

Every face is cut into small square tiles of pixels that cover its bounding box, so that coverage is one dense
evaluation over (pixel of the tile, tile) without a gather. Hits compete in a scatter-minimum of one 64-bit key: depth
above, face index below.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4  # pixels: about the box of a face of a dense head at 512x512
SLACK = 1e-6  # in barycentrics, so that rounding opens no crack between two faces that share an edge
EMPTY = torch.iinfo(torch.int64).max
CHUNK = {
    "cpu": 1 << 14,
    "cuda": 1 << 18,
}  # tiles at a time: the temporaries of a chunk fit the second-level cache of a CPU


@torch.no_grad()
def face_ids(pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool = False) -> Tensor:
    """Nearest face at every pixel centre.

    pos: (B, V, 4) clip space. faces: (F, 3) int64. size: (H, W). cull: leave out faces that turn clockwise on the
    screen (back faces). Returns (B, H, W) int64, -1 where nothing is, row 0 at the BOTTOM. Of faces at equal depth
    the first wins. Faces with a vertex behind the camera (w <= 0) are left out: there is no near clipping.
    """
    batch, (height, width) = len(pos), size
    rows, columns = height + TILE - 1, width + TILE - 1  # tiles may run over the upper and right border
    keys = torch.full((batch * rows * columns,), EMPTY, dtype=torch.int64, device=pos.device)
    owner, corners, area, first, number = _candidates(pos, faces, size, cull)
    if len(owner):
        face, start = owner, (first[1] * columns + first[0]).long()
        if batch > 1:
            face, start = owner % len(faces), start + owner // len(faces) * (rows * columns)
        across, tiles = number[0], (number[0] * number[1]).long()
        ends = tiles.cumsum(0)
        planes = _planes(corners, area, first)
        for part, count in _parts(ends, CHUNK.get(pos.device.type, CHUNK["cpu"])):
            before = ends[part] - tiles[part]
            before = before - before[:1]  # of the part's own tiles
            _scatter(keys, planes[:, part], across[part], tiles[part], before, face[part], start[part], columns, count)
    ids = keys.view(batch, rows, columns)[:, :height, :width]
    return torch.where(ids == EMPTY, -1, ids & 0xFFFFFFFF)


def _parts(ends: Tensor, chunk: int) -> Iterator[tuple[slice, int]]:
    """Ranges of faces whose tiles are about ``chunk``, with the number of these; ``ends`` (K,): tiles up to each."""
    whole = int(ends[-1])
    if whole <= chunk:
        yield slice(0, len(ends)), whole
        return
    marks = torch.arange(chunk, whole, chunk, device=ends.device)
    bounds = [0, *torch.searchsorted(ends, marks).tolist(), len(ends)]
    passed = F.pad(ends, (1, 0))[bounds].tolist()
    for (first, last), (before, after) in zip(pairwise(bounds), pairwise(passed), strict=True):
        if last > first:
            yield slice(first, last), after - before


def _candidates(
    pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Faces that may cover a pixel centre: flat index b * F + f (K,); corners (3, 3, K) as x, y (pixels), z/w of each
    vertex; twice their area (K,), px^2, negative of back faces; of the box of pixels, column and row of the first (2,
    K), and how many tiles it has across and up (2, K)."""
    batch, n_vertices, _ = pos.shape
    flat = pos.reshape(-1, 4).t()
    inverse = torch.where(flat[3] > 0, 1 / flat[3], torch.nan)  # nan fails every comparison below
    points = torch.mul(flat[:3], inverse, out=pos.new_empty(3, flat.shape[1]))
    points[:2] += 1
    for axis, side in ((0, size[1]), (1, size[0])):
        points[axis] *= side / 2
    index = faces.t()
    if batch > 1:
        index = (index[:, None] + n_vertices * torch.arange(batch, device=pos.device)[:, None]).reshape(3, -1)
    corners = torch.stack([points.index_select(1, i) for i in index.unbind(0)], 1)
    a, b, c = corners[:2].unbind(1)
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    (x1, y1), (x2, y2) = (b - a).unbind(0), (c - a).unbind(0)
    area = x1 * y2 - y1 * x2
    first, last = (low - 0.5).ceil().clamp_(min=0), (high - 0.5).floor()
    for axis, side in ((0, size[1]), (1, size[0])):
        last[axis].clamp_(max=side - 1)
    # Slivers thinner than the rounding of pixel coordinates have no usable barycentrics.
    thin = 1e-4 * (high - low).sum(0)
    keep = ((area if cull else area.abs()) > thin) & (first[0] <= last[0]) & (first[1] <= last[1])
    owner = keep.nonzero()[:, 0]
    first, last = torch.cat([first, last]).index_select(1, owner).split(2)
    number = ((last - first) / TILE).floor_() + 1
    return owner, corners.view(9, -1).index_select(1, owner).view(3, 3, -1), area.index_select(0, owner), first, number


def _planes(corners: Tensor, area: Tensor, first: Tensor) -> Tensor:
    """Barycentrics of vertices 0 and 1 as planes over the pixels, from the centre of the box's ``first`` pixel: b0, b1,
    their derivatives by x, those by y, then z2, z0 - z2, z1 - z2; shape (9, K)."""
    # (x1 - x2, x2 - x0) and the same of y: the derivatives are these, turned by 90 degrees, over the area
    across, up = ((corners[:2, 1:] - corners[:2, ::2].flip(1)) * (1 / area)).unbind(0)
    x, y = (first + 0.5 - corners[:2, 2]).unbind(0)
    across = -across
    z = corners[2]
    return torch.cat([x * up + y * across, up, across, z[2:], z[:2] - z[2]])


def _scatter(
    keys: Tensor,
    planes: Tensor,
    across: Tensor,
    tiles: Tensor,
    before: Tensor,
    face: Tensor,
    start: Tensor,
    columns: int,
    count: int,
) -> None:
    """Enter one range of faces into keys. planes (9, K); across, tiles, before, face, start (K,): tiles in a row, in
    all, of the faces before, index, first pixel; ``count``: tiles of all of them."""
    device = keys.device
    owner = torch.repeat_interleave(tiles, output_size=count)
    nth = torch.arange(count, device=device) - before.index_select(0, owner)
    planes, across = planes.index_select(1, owner), across.index_select(0, owner)
    row = TILE * (nth / across).floor()
    column = TILE * nth - row * across
    at, by_x, by_y = planes[:6].view(3, 2, count).unbind(0)
    step = torch.arange(TILE, device=device, dtype=planes.dtype)[:, None]
    along = (at + row * by_y + column * by_x)[:, None] + step * by_x[:, None]
    weights = along[:, None] + (step * by_y[:, None])[:, :, None]  # (2, TILE rows, TILE columns, tiles)
    b0, b1 = weights.unbind(0)
    hit = (torch.minimum(torch.minimum(b0, b1), 1 - (b0 + b1)) >= -SLACK).view(-1).nonzero()[:, 0]
    tile = hit % count
    within = torch.arange(TILE, device=device)
    within = (
        (within[:, None] * columns + within).reshape(-1).index_select(0, torch.div(hit, count, rounding_mode="floor"))
    )
    pixel = (start.index_select(0, owner) + (row * columns + column).long()).index_select(0, tile) + within
    z = planes[6:].index_select(1, tile)
    b0, b1 = weights.view(2, -1).index_select(1, hit).unbind(0)
    z = z[0] + b0 * z[1] + b1 * z[2]
    key = ((z * 2**30).long() << 32) | face.index_select(0, owner.index_select(0, tile))
    keys.scatter_reduce_(0, pixel, torch.where(z.abs() <= 1, key, EMPTY), "amin")
