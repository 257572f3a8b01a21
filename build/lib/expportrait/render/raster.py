"""Rasterising in nvdiffrast's conventions with a choice of backend, and interpolation over visible faces with exact
gradients.

A backend only answers which face is nearest at each pixel centre. Everything with a gradient is computed from that
here, so that both backends share one shading code.
"""

import torch
from torch import Tensor

from expportrait.errors import UserError
from expportrait.render import raster_nvdiffrast, raster_torch

BACKENDS = ("auto", "torch", "nvdiffrast")


def choose_backend(backend: str, device: torch.device) -> str:
    """'auto' is nvdiffrast where it is installed and the mesh is on CUDA, else 'torch'."""
    if backend not in BACKENDS:
        raise UserError(f"Unknown raster backend '{backend}': choose one of {', '.join(BACKENDS)}.")
    if backend != "auto":
        return backend
    return "nvdiffrast" if device.type == "cuda" and raster_nvdiffrast.available() else "torch"


def face_ids(pos: Tensor, faces: Tensor, size: tuple[int, int], backend: str = "auto", cull: bool = False) -> Tensor:
    """pos (B, V, 4) clip space, faces (F, 3), (H, W) -> nearest face at each pixel centre (B, H, W) int64, or -1.

    Row 0 at the bottom. cull=True leaves out back faces (clockwise on the screen): the same images for a closed
    surface whose faces turn counter-clockwise seen from outside, at about half the cost of the torch backend.
    """
    if pos.dim() != 3 or pos.shape[-1] != 4 or faces.dim() != 2 or faces.shape[-1] != 3:
        raise ValueError(
            f"Expected positions (B, V, 4) and faces (F, 3), got {tuple(pos.shape)} and {tuple(faces.shape)}."
        )
    if choose_backend(backend, pos.device) == "nvdiffrast":
        return raster_nvdiffrast.face_ids(pos, faces, size, cull)
    return raster_torch.face_ids(pos, faces.long(), size, cull)


def rasterize(pos: Tensor, faces: Tensor, size: tuple[int, int], backend: str = "auto", cull: bool = False) -> Tensor:
    """pos (B, V, 4) clip space, faces (F, 3), (H, W) -> rast (B, H, W, 4) = (u, v, z/w, id + 1), row 0 at the BOTTOM,
    background 0.

    u and v are the perspective-correct weights of a face's vertices 0 and 1 and carry gradients to pos; z/w carries
    none.
    """
    if choose_backend(backend, pos.device) == "nvdiffrast":
        return raster_nvdiffrast.rasterize(pos, faces, size, cull)
    batch, (height, width) = len(pos), size
    ids = face_ids(pos, faces, size, "torch", cull).flip(1)
    index, seen = covered(ids, len(faces))
    planes = FacePlanes(pos, faces, seen, index, size)
    u, v, _ = planes.barycentrics().unbind(0)
    z = planes.interpolate(pos.detach()[..., 2:]).detach()[0] / planes.depth().detach()
    values = torch.stack([u, v, z, (seen % len(faces) + 1).to(pos.dtype)], 1)
    return pos.new_zeros(batch * height * width, 4).index_copy(0, index, values).view(batch, height, width, 4).flip(1)


def interpolate(attribute: Tensor, rast: Tensor, faces: Tensor) -> Tensor:
    """Vertex attribute (V, C) or (B, V, C) -> image (B, H, W, C) in rast's row order, background 0. Gradients reach
    attribute and rast."""
    batch, height, width, _ = rast.shape
    flat = rast.reshape(-1, 4)
    index, seen = covered(rast[..., 3].detach().long() - 1, len(faces))
    u, v = flat.index_select(0, index)[:, :2].unbind(1)
    shared = attribute.dim() == 2 or len(attribute) == 1
    table = attribute.reshape(-1, attribute.shape[-1])
    corners = flat_corners(faces, 1 if shared else batch, table.shape[0] // (1 if shared else batch))
    a, b, c = (
        table.index_select(0, i) for i in corners.index_select(1, seen % len(faces) if shared else seen).unbind(0)
    )
    values = u[:, None] * a + v[:, None] * b + (1 - u - v)[:, None] * c
    return (
        values.new_zeros(len(flat), table.shape[1])
        .index_copy(0, index, values)
        .view(batch, height, width, table.shape[1])
    )


def covered(ids: Tensor, n_faces: int) -> tuple[Tensor, Tensor]:
    """ids (B, H, W), -1 where nothing is -> covered pixels (P,) as flat indices, and their faces (P,) as b * F + f."""
    flat = ids.reshape(-1)
    index = (flat >= 0).nonzero()[:, 0]
    if len(ids) > 1:
        flat = (ids + n_faces * torch.arange(len(ids), device=ids.device)[:, None, None]).reshape(-1)
    return index, flat.index_select(0, index)


def flat_corners(faces: Tensor, batch: int, n_vertices: int) -> Tensor:
    """faces (F, 3) -> (3, B * F) int64: vertex indices into the concatenated vertices of a batch. int64, because the
    backward of index_select with int32 indices is several times slower on CPU."""
    corners = faces.long().t()
    if batch == 1:
        return corners
    return (corners[:, None] + n_vertices * torch.arange(batch, device=faces.device)[:, None]).reshape(3, -1)


def cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product over the first axis, on contiguous slices."""
    (ax, ay, az), (bx, by, bz) = a.unbind(0), b.unbind(0)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])


class FacePlanes:
    """Interpolation over the faces that are visible somewhere, evaluated at the covered pixels.

    Before the perspective division everything is affine in the pixel (Olano and Greer 1997, "Triangle scan conversion
    using 2D homogeneous coordinates"): with a vertex written p = (x, y, w) relative to the pixel, the edge function
    of vertex 0 is p1 x p2 . (X, Y, 1), a barycentric is an edge function over the sum of the three, and an attribute
    is the sum of edge functions times values over that sum. So planes are set up once a visible face and evaluated at
    its pixels: far fewer operations than barycentrics and gathers of vertices at every pixel. Arrays lie channel
    first, so that every operation runs on contiguous memory.
    """

    def __init__(
        self, pos: Tensor, faces: Tensor, seen: Tensor, index: Tensor, size: tuple[int, int], snapped: bool = False
    ) -> None:
        """pos (B, V, 4) clip space; faces (F, 3); seen (P,): b * F + f; index (P,): b * H * W + y * W + x, rows
        top-down. snapped: the ids come from a rasteriser that rounds vertices first, so that a pixel may lie slightly
        outside of its face."""
        (batch, self.n_vertices, _), (height, width) = pos.shape, size
        corners = flat_corners(faces, batch, self.n_vertices)
        used = torch.zeros(corners.shape[1], dtype=torch.bool, device=pos.device)
        used.index_fill_(0, seen, True)
        # Of the N faces seen anywhere: (3 * N,), all first corners, then all second, then all third.
        self.corners = corners.index_select(1, used.nonzero()[:, 0]).reshape(-1)
        self.slot = (used.cumsum(0) - 1).index_select(0, seen)
        x, y, _, w = pos.reshape(-1, 4).t().index_select(1, self.corners).view(4, 3, len(self.corners) // 3).unbind(0)
        # Edge functions are tiny differences. With the origin of the screen at the face (a constant, so without
        # effect on gradients) nothing cancels in float32.
        origin = torch.stack([x[0] / w[0], y[0] / w[0], w[0]]).detach()
        x0, y0, w0 = origin.unbind(0)
        self.depths = w - w0  # (corner, N), relative to the face, for the same reason
        p = torch.stack([x - x0 * w, y - y0 * w, w])
        self.edges = cross(p.roll(-1, 1), p.roll(-2, 1))  # (X Y 1, corner, N)
        x0, y0, self.origin_depth = origin.index_select(1, self.slot).unbind(0)
        row = torch.div(index, width, rounding_mode="floor")
        self.x = (2 * (index - row * width) + 1).to(pos.dtype) / width - 1 - x0
        self.y = 1 - (2 * (row % height if batch > 1 else row) + 1).to(pos.dtype) / height - y0
        if snapped:
            _, p1, p2 = p.detach().unbind(1)
            self._pull_inside(p1, p2)
        total = self._evaluate(self.edges.sum(1)[None])[0]
        self.inverse = 1 / (self._away_from_zero(total, p1, p2) if snapped else total)

    def _evaluate(self, planes: Tensor) -> Tensor:
        """Planes (C, [X Y 1], N) at the fragments: (C, P)."""
        x, y, constant = planes.flatten(0, 1).index_select(1, self.slot).view(len(planes), 3, len(self.slot)).unbind(1)
        return torch.addcmul(torch.addcmul(constant, x, self.x), y, self.y)

    def combine(self, values: Tensor) -> Tensor:
        """Values at the faces' corners (C, corner, N) -> at the fragments (C, P)."""
        e0, e1, e2 = self.edges.unbind(1)
        v0, v1, v2 = values[:, :, None].unbind(1)
        return self._evaluate(v0 * e0 + v1 * e1 + v2 * e2) * self.inverse

    def interpolate(self, attribute: Tensor) -> Tensor:
        """Vertex attribute (V, C), shared by the batch, or (B, V, C) -> (C, P)."""
        corners = self.corners if attribute.dim() == 3 and len(attribute) > 1 else self.corners % self.n_vertices
        table = attribute.reshape(-1, attribute.shape[-1]).t()
        return self.combine(table.index_select(1, corners).view(len(table), 3, len(corners) // 3))

    def depth(self) -> Tensor:
        """w, the depth in metres: (P,)."""
        return self.combine(self.depths[None])[0] + self.origin_depth

    def barycentrics(self) -> Tensor:
        """Perspective-correct weights of the three vertices: (3, P)."""
        return self._evaluate(self.edges.transpose(0, 1)) * self.inverse

    @torch.no_grad()
    def _pull_inside(self, p1: Tensor, p2: Tensor) -> None:
        """Move a fragment that lies outside of its face towards the centroid, until it lies on the border."""
        e0, e1, e2 = self._evaluate(self.edges.transpose(0, 1)).unbind(0)
        total = self._away_from_zero(e0 + e1 + e2, p1, p2)
        lowest = torch.minimum(torch.minimum(e0 / total, e1 / total), e2 / total)
        keep = 1 / (1 - 3 * lowest.clamp(max=0))  # the weights along the way are 1/3 + keep * (weight - 1/3)
        x, y = ((p1[:2] / p1[2] + p2[:2] / p2[2]) / 3).index_select(1, self.slot).unbind(0)
        self.x, self.y = x + keep * (self.x - x), y + keep * (self.y - y)

    def _away_from_zero(self, total: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        """The sum of the edge functions (P,), kept above the rounding of its terms: a sliver that only the snapping
        made visible gets harmless values instead of infinite ones."""
        floor = (1e-5 * p1[:2].abs().sum(0) * p2[:2].abs().sum(0) * p1[2] + 1e-30).index_select(0, self.slot)
        return torch.where(total.abs() < floor, floor.copysign(total), total)
