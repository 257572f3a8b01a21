"""Pure-torch z-buffer: no dependency but torch, exact, deterministic, the same code on CPU and CUDA.

Every face is cut into small square tiles of pixels that cover its bounding box, so that coverage is one dense
evaluation over (pixel of the tile, tile) without a gather. Hits compete in a scatter-minimum of one 64-bit key: depth
above, face index below.
"""

from itertools import pairwise

import torch
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
    owner, corners, (left, low, across, up) = _candidates(pos, faces, size, cull)
    if len(owner):
        face, start = owner % len(faces), owner // len(faces) * (rows * columns) + (low * columns + left).long()
        tiles = (across * up).long()
        ends = tiles.cumsum(0)
        chunk = CHUNK.get(pos.device.type, CHUNK["cpu"])
        marks = torch.arange(chunk, max(chunk, int(ends[-1])), chunk, device=pos.device)
        bounds = [0, *torch.searchsorted(ends, marks).tolist(), len(owner)]
        planes = _planes(corners, left, low)
        for first, last in pairwise(bounds):
            if last > first:
                part = slice(first, last)
                _scatter(keys, planes[:, part], across[part], tiles[part], face[part], start[part], columns)
    ids = keys.view(batch, rows, columns)[:, :height, :width]
    return torch.where(ids == EMPTY, -1, ids & 0xFFFFFFFF)


def _candidates(
    pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Faces that may cover a pixel centre: flat index b * F + f (K,), corners (9, K) as x, y (pixels), z/w of each
    vertex, and the box of pixels: first column, first row, number of tiles across and up (K,) each."""
    batch, n_vertices, _ = pos.shape
    x, y, z, w = pos.reshape(-1, 4).unbind(-1)
    inverse = torch.where(w > 0, 1 / w, torch.nan)  # nan fails every comparison below
    points = torch.stack([(x * inverse + 1) * (size[1] / 2), (y * inverse + 1) * (size[0] / 2), z * inverse])
    index = faces.t()
    if batch > 1:
        index = (index[:, None] + n_vertices * torch.arange(batch, device=pos.device)[:, None]).reshape(3, -1)
    corners = torch.cat([points.index_select(1, i) for i in index.unbind(0)])
    x0, y0, _, x1, y1, _, x2, y2, _ = corners.unbind(0)
    x_min, x_max = torch.minimum(torch.minimum(x0, x1), x2), torch.maximum(torch.maximum(x0, x1), x2)
    y_min, y_max = torch.minimum(torch.minimum(y0, y1), y2), torch.maximum(torch.maximum(y0, y1), y2)
    left, right = (x_min - 0.5).ceil().clamp(min=0), (x_max - 0.5).floor().clamp(max=size[1] - 1)
    low, high = (y_min - 0.5).ceil().clamp(min=0), (y_max - 0.5).floor().clamp(max=size[0] - 1)
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    # Slivers thinner than the rounding of pixel coordinates have no usable barycentrics.
    thin = 1e-4 * (x_max - x_min + y_max - y_min)
    keep = ((area if cull else area.abs()) > thin) & (left <= right) & (low <= high)
    owner = keep.nonzero()[:, 0]
    left, right, low, high = torch.stack([left, right, low, high]).index_select(1, owner).unbind(0)
    box = left, low, ((right - left) / TILE).floor() + 1, ((high - low) / TILE).floor() + 1
    return owner, corners.index_select(1, owner), box


def _planes(corners: Tensor, left: Tensor, low: Tensor) -> Tensor:
    """Barycentrics of vertices 0 and 1 as planes over the pixels, from the centre of the box's first pixel: (b0,
    db0/dx, db0/dy, b1, db1/dx, db1/dy, z2, z0 - z2, z1 - z2), shape (9, K)."""
    x0, y0, z0, x1, y1, z1, x2, y2, z2 = corners.unbind(0)
    inverse = 1 / ((x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0))
    x, y = left + 0.5 - x2, low + 0.5 - y2
    b0x, b0y, b1x, b1y = (y1 - y2) * inverse, (x2 - x1) * inverse, (y2 - y0) * inverse, (x0 - x2) * inverse
    return torch.stack([x * b0x + y * b0y, b0x, b0y, x * b1x + y * b1y, b1x, b1y, z2, z0 - z2, z1 - z2])


def _scatter(
    keys: Tensor, planes: Tensor, across: Tensor, tiles: Tensor, face: Tensor, start: Tensor, columns: int
) -> None:
    """Enter one range of faces into keys. planes (9, K); across, tiles, face, start (K,): tiles in a row, in all,
    index, first pixel."""
    device = keys.device
    owner = torch.repeat_interleave(tiles)
    count = len(owner)
    nth = torch.arange(count, device=device) - (tiles.cumsum(0) - tiles).index_select(0, owner)
    planes, across = planes.index_select(1, owner), across.index_select(0, owner)
    row = TILE * (nth / across).floor()
    column = TILE * nth - row * across
    b0, b0x, b0y, b1, b1x, b1y = planes[:6].unbind(0)
    step = torch.arange(TILE, device=device, dtype=planes.dtype)[:, None]
    b0 = (b0 + row * b0y + column * b0x + step * b0x) + (step * b0y)[:, None]  # (TILE rows, TILE columns, tiles)
    b1 = (b1 + row * b1y + column * b1x + step * b1x) + (step * b1y)[:, None]
    hit = (torch.minimum(torch.minimum(b0, b1), 1 - (b0 + b1)) >= -SLACK).view(-1).nonzero()[:, 0]
    tile = hit % count
    within = torch.arange(TILE, device=device)
    within = (
        (within[:, None] * columns + within).reshape(-1).index_select(0, torch.div(hit, count, rounding_mode="floor"))
    )
    pixel = (start.index_select(0, owner) + (row * columns + column).long()).index_select(0, tile) + within
    z2, z02, z12 = planes[6:].index_select(1, tile).unbind(0)
    z = z2 + b0.view(-1).index_select(0, hit) * z02 + b1.view(-1).index_select(0, hit) * z12
    key = ((z * 2**30).long() << 32) | face.index_select(0, owner).index_select(0, tile)
    keys.scatter_reduce_(0, pixel, torch.where(z.abs() <= 1, key, EMPTY), "amin")
