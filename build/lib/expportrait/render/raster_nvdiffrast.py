"""nvdiffrast (CUDA only) behind the same interface. Optional: the user installs it, and its licence allows
non-commercial use only."""

import importlib.util
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from expportrait.errors import UserError

INSTALL = (
    "Install it with `pip install git+https://github.com/NVlabs/nvdiffrast --no-build-isolation` (needs the CUDA "
    "toolkit that torch was built with; its licence allows research and evaluation only, no commercial use), or set "
    "the raster backend to 'torch'."
)


def available() -> bool:
    """Whether nvdiffrast is installed. Does not import it."""
    return importlib.util.find_spec("nvdiffrast") is not None


@lru_cache
def _load() -> ModuleType:
    if not available():
        raise UserError(f"The raster backend 'nvdiffrast' is not installed. {INSTALL}")
    try:
        import nvdiffrast.torch as module
    except ImportError as error:
        raise UserError(
            f"The raster backend 'nvdiffrast' is installed but does not load ({error}). {INSTALL}"
        ) from error
    return module


@lru_cache
def _context(device: torch.device) -> Any:
    """One context a device: it owns buffers that grow to the largest image seen."""
    return _load().RasterizeCudaContext(device=device)


def rasterize(pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool = False) -> Tensor:
    """pos (B, V, 4) f32 clip space on CUDA, faces (F, 3), (H, W) -> rast (B, H, W, 4) = (u, v, z/w, id + 1), row 0 at
    the bottom."""
    module = _load()
    if not pos.is_cuda:
        raise UserError(
            f"The raster backend 'nvdiffrast' needs a CUDA device, but the mesh is on '{pos.device}': "
            "use the backend 'torch'."
        )
    context = _context(pos.device)
    pos, faces = pos.float().contiguous(), faces.int().contiguous()
    if not cull:
        return module.rasterize(context, pos, faces, size, grad_db=False)[0]
    # nvdiffrast has no culling: a culled face becomes a point, which covers nothing, so that the ids of the others
    # stay. Each image has faces of its own then, hence its range mode: vertices and faces of all images in one list.
    batch, n_vertices, n_faces = *pos.shape[:2], len(faces)
    of_image = torch.arange(batch, device=pos.device, dtype=torch.int32)[:, None, None]
    corners = faces + n_vertices * of_image
    kept = torch.where(front_facing(pos.detach(), faces)[..., None], corners, corners[:, :1, :1]).reshape(-1, 3)
    ranges = torch.tensor([[n_faces * image, n_faces] for image in range(batch)], dtype=torch.int32)  # on the CPU
    rast = module.rasterize(context, pos.view(-1, 4), kept, size, ranges=ranges, grad_db=False)[0]
    number = triangle_numbers(rast)
    own = torch.where(number > 0, number - n_faces * of_image, 0)
    return torch.cat([rast[..., :3], own[..., None].to(rast.dtype)], -1)


def front_facing(pos: Tensor, faces: Tensor) -> Tensor:
    """pos (B, V, 4), faces (F, 3) -> (B, F) bool: counter-clockwise on the screen."""
    points = pos[..., :2] / pos[..., 3:]
    a, b, c = (points.index_select(1, corner) for corner in faces.long().unbind(1))
    (x1, y1), (x2, y2) = (b - a).unbind(-1), (c - a).unbind(-1)
    return x1 * y2 > y1 * x2


def triangle_numbers(rast: Tensor) -> Tensor:
    """(B, H, W) int32 of rast (B, H, W, 4): id + 1, 0 where nothing is."""
    number = rast[..., 3].contiguous()
    # Above 2^24 the library stores the integer in the float's bits, offset by 0x4A800000.
    return torch.where(number > 2**24, number.view(torch.int32) - 0x4A800000, number.int())


def face_ids(pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool = False) -> Tensor:
    """As raster_torch.face_ids: (B, H, W) int64, -1 where nothing is, row 0 at the bottom."""
    return triangle_numbers(rasterize(pos.detach(), faces, size, cull)).long() - 1
