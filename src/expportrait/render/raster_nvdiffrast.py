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
    # stay.
    images = []
    for one in pos:
        kept = torch.where(front_facing(one.detach(), faces)[:, None], faces, faces[:1, :1])
        images.append(module.rasterize(context, one[None], kept, size, grad_db=False)[0])
    return torch.cat(images)


def front_facing(pos: Tensor, faces: Tensor) -> Tensor:
    """pos (V, 4), faces (F, 3) -> (F,) bool: counter-clockwise on the screen."""
    x, y = (pos[:, :2] / pos[:, 3:]).index_select(0, faces.long().reshape(-1)).view(-1, 3, 2).unbind(-1)
    (x0, x1, x2), (y0, y1, y2) = x.unbind(1), y.unbind(1)
    return (x1 - x0) * (y2 - y0) > (y1 - y0) * (x2 - x0)


def face_ids(pos: Tensor, faces: Tensor, size: tuple[int, int], cull: bool = False) -> Tensor:
    """As raster_torch.face_ids: (B, H, W) int64, -1 where nothing is, row 0 at the bottom."""
    ids = rasterize(pos.detach(), faces, size, cull)[..., 3].contiguous()
    # Above 2^24 the library stores the integer in the float's bits, offset by 0x4A800000.
    return torch.where(ids > 2**24, ids.view(torch.int32) - 0x4A800000, ids.int()).long() - 1
