"""Differentiable rendering of a dense mesh: normals, depth, coverage, vertex attributes. Conventions in
docs/render.md."""

from .camera import Camera
from .edges import Edges, edge_grad, find_edges
from .raster import face_ids, interpolate, rasterize
from .shade import Fragments, Maps, fragments, render, vertex_normals

__all__ = [
    "Camera",
    "Edges",
    "Fragments",
    "Maps",
    "edge_grad",
    "face_ids",
    "find_edges",
    "fragments",
    "interpolate",
    "rasterize",
    "render",
    "vertex_normals",
]
