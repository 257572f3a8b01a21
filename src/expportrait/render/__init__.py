"""Differentiable rendering of a dense mesh: normals, depth, coverage, vertex attributes. Conventions in
docs/render.md."""

from expportrait.render.camera import Camera
from expportrait.render.edges import Edges, edge_grad, find_edges
from expportrait.render.raster import face_ids, interpolate, rasterize
from expportrait.render.shade import Fragments, Maps, at_pixels, fragments, render, vertex_normals

__all__ = [
    "Camera",
    "Edges",
    "Fragments",
    "Maps",
    "at_pixels",
    "edge_grad",
    "face_ids",
    "find_edges",
    "fragments",
    "interpolate",
    "rasterize",
    "render",
    "vertex_normals",
]
