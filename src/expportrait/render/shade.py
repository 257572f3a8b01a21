"""Normals, depth, coverage and attributes of a mesh: as fragments (covered pixels only) for losses, or as images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from expportrait.render.camera import Camera
from expportrait.render.edges import edge_grad, find_edges
from expportrait.render.raster import FacePlanes, choose_backend, covered, cross, face_ids, flat_corners


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (B, V, 3) of vertices (B, V, 3): the mean of the adjacent faces' normals, weighted by area. Faces
    (F, 3) turn counter-clockwise seen from outside. A vertex of no face gets 0."""
    batch, count, _ = vertices.shape
    return _vertex_normals(vertices, faces).t().reshape(batch, count, 3)


def _vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Channel first, batch concatenated: (3, B * V)."""
    flat = vertices.reshape(-1, 3).t().contiguous()
    corners = flat_corners(faces, *vertices.shape[:2]).unbind(0)
    a, b, c = (flat.index_select(1, corner) for corner in corners)
    weighted = cross(b - a, c - a)
    total = torch.zeros_like(flat)
    for corner in corners:
        total = total.index_add(1, corner, weighted)
    return _unit(total)


def _unit(vectors: Tensor) -> Tensor:
    """(3, N) -> unit vectors; 0 stays 0."""
    return vectors * (vectors * vectors).sum(0).clamp(min=1e-30).rsqrt()


@dataclass
class Fragments:
    """The covered pixels of a batch, in the order of their index. Normals, depth and interpolated attributes carry
    exact gradients to the vertices for a fixed visibility."""

    index: Tensor  # (P,) int64: b * H * W + y * W + x, rows top-down
    face_id: Tensor  # (P,) int64
    normals: Tensor  # (P, 3) unit, camera space
    depth: Tensor  # (P,) metres
    shape: tuple[int, int, int]  # B, H, W
    planes: FacePlanes = field(repr=False)
    vertex_normals: Tensor = field(repr=False)  # (B, V, 3) unit
    coverage: Tensor | None = None  # (B, H, W) 0 or 1 with edge gradients, where asked for

    def interpolate(self, attribute: Tensor) -> Tensor:
        """Vertex attribute (V, C), shared by the batch, or (B, V, C) -> (P, C), perspective-correct, with gradients
        to the attribute and to the vertices."""
        return self.planes.interpolate(attribute).t()

    def image(self, values: Tensor, background: float = 0) -> Tensor:
        """Values of the fragments (P,) or (P, C) -> image (B, H, W) or (B, H, W, C)."""
        empty = values.new_full((torch.Size(self.shape).numel(), *values.shape[1:]), background)
        return empty.index_copy(0, self.index, values).view(*self.shape, *values.shape[1:])


def fragments(
    vertices: Tensor, faces: Tensor, camera: Camera, backend: str = "auto", cull: bool = False, edges: bool = False
) -> Fragments:
    """Camera-space vertices (B, V, 3), faces (F, 3) -> the covered pixels: the fast path, since losses and gradients
    touch only those.

    cull=True leaves out back faces: the same result for a closed surface, at half the cost of the torch rasteriser.
    edges=True adds the coverage image, whose gradient sees silhouettes.
    """
    found, ids, pos = _fragments(vertices, faces, camera, backend, cull)
    if edges:
        borders = find_edges(
            pos, faces, ids, found.image(found.depth.detach()), gap=1e6
        )  # a mask has no edges but the silhouette
        found.coverage = edge_grad((ids >= 0).to(vertices.dtype), borders)
    return found


def at_pixels(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    attribute: Tensor,
    face_id: Tensor,
    chosen: Tensor,
    backend: str = "auto",
) -> Tensor:
    """A vertex attribute (V, C) at some pixels of rendered maps: (P, C), in the order of the pixels.

    vertices (B, V, 3), faces (F, 3), camera and backend are those of the maps; face_id (B, H, W) is what they show,
    chosen (B, H, W) bool says which pixels are asked, none of them empty. It costs what these pixels cost.
    """  # fmt: skip
    index, seen = covered(torch.where(chosen, face_id, -1), len(faces))
    snapped = choose_backend(backend, vertices.device) == "nvdiffrast"
    planes = FacePlanes(camera.clip(vertices), faces, seen, index, tuple(face_id.shape[1:]), snapped)
    return planes.interpolate(attribute).t()


def _fragments(
    vertices: Tensor, faces: Tensor, camera: Camera, backend: str, cull: bool
) -> tuple[Fragments, Tensor, Tensor]:
    size = (camera.height, camera.width)
    pos = camera.clip(vertices)
    ids = face_ids(pos.detach(), faces, size, backend, cull).flip(1)
    index, seen = covered(ids, len(faces))
    planes = FacePlanes(pos, faces, seen, index, size, snapped=choose_backend(backend, pos.device) == "nvdiffrast")
    of_vertices = _vertex_normals(vertices, faces)
    normals, depth = _normals_and_depth(planes, of_vertices)
    face_id = seen if len(ids) == 1 else seen % len(faces)
    smooth = of_vertices.t().view(vertices.shape)
    return Fragments(index, face_id, normals, depth, tuple(ids.shape), planes, smooth), ids, pos


def _normals_and_depth(planes: FacePlanes, of_vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Of each fragment: (P, 3), (P,), from the vertices' normals (3, B * V). In one evaluation, so that the fragments'
    planes are gathered once."""
    corner_normals = of_vertices.index_select(1, planes.corners).view_as(planes.edges)
    values = planes.combine(torch.cat([corner_normals, planes.depths[None]]))
    return _unit(values[:3]).t(), values[3] + planes.origin_depth


@dataclass
class Maps:
    """Images of a batch, rows top-down."""

    normals: Tensor  # (B, H, W, 3) unit, camera space, background 0
    depth: Tensor  # (B, H, W) metres, positive, background 0
    coverage: Tensor  # (B, H, W) 0 or 1
    face_id: Tensor  # (B, H, W) int64, -1 where nothing is
    attributes: dict[str, Tensor] = field(default_factory=dict)  # name: (B, H, W, C), background 0


def render(
    vertices: Tensor,
    faces: Tensor,
    camera: Camera,
    attributes: Mapping[str, Tensor] | None = None,
    edges: bool | Sequence[str] = False,
    backend: str = "auto",
    cull: bool = False,
) -> Maps:
    """Camera-space vertices (B, V, 3), faces (F, 3) -> maps.

    attributes: vertex attributes (V, C) or (B, V, C). edges: names of the maps ("coverage", "normals", "depth", or
    attributes) whose gradients also see silhouettes and occluding edges move; True means the coverage alone. The
    values are the same either way.
    """
    found, ids, pos = _fragments(vertices, faces, camera, backend, cull)
    maps = {"normals": found.normals, "depth": found.depth}
    for name, attribute in (attributes or {}).items():
        if name in ("normals", "depth", "coverage"):
            raise ValueError(f"render: an attribute may not be called '{name}', the name of a map.")
        maps[name] = found.interpolate(attribute)
    maps = {name: found.image(values) for name, values in maps.items()}
    maps["coverage"] = (ids >= 0).to(vertices.dtype)
    wanted = ("coverage",) if edges is True else edges or ()
    if unknown := set(wanted) - set(maps):
        raise ValueError(f"render: edges names {sorted(unknown)}, but the maps are {sorted(maps)}.")
    if wanted:
        borders = find_edges(pos, faces, ids, maps["depth"])
        maps.update({name: edge_grad(maps[name], borders) for name in wanted})
    return Maps(maps.pop("normals"), maps.pop("depth"), maps.pop("coverage"), ids, maps)
