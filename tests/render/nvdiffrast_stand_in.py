"""nvdiffrast's interface, as its documentation and its checks have it, on the torch rasteriser.

What nvdiffrast does differently is done here too: vertices are rounded to 1/16 pixel, and faces that reach behind the
camera are clipped at the near plane instead of left out.
"""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from expportrait.render import raster, raster_nvdiffrast

SUBPIXELS = 16
calls: list[tuple[int, ...]] = []  # shape of the result of each


class RasterizeCudaContext:
    made = 0

    def __init__(self, device: torch.device | str | int | None = None):
        self.device = torch.device("cuda", 0) if device is None else torch.device(device)
        RasterizeCudaContext.made += 1


def rasterize(
    glctx: RasterizeCudaContext,
    pos: Tensor,
    tri: Tensor,
    resolution: tuple[int, int],
    ranges=None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    assert isinstance(glctx, RasterizeCudaContext) and grad_db in (True, False)
    assert pos.is_cuda and tri.is_cuda and pos.device == tri.device == glctx.device
    assert pos.is_contiguous() and tri.is_contiguous()
    assert pos.dtype == torch.float32 and tri.dtype == torch.int32 and tri.dim() == 2 and tri.shape[1] == 3 and len(tri)
    height, width = resolution
    assert isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    if ranges is None:  # instanced mode
        assert pos.dim() == 3 and pos.shape[2] == 4 and pos.shape[:2].numel()
        images = [(one, tri, 0) for one in pos]
    else:
        assert ranges.device.type == "cpu" and ranges.is_contiguous() and ranges.dtype == torch.int32
        assert pos.dim() == 2 and pos.shape[1] == 4 and ranges.dim() == 2 and ranges.shape[1] == 2
        images = [(pos, tri[first : first + count], first) for first, count in ranges.tolist()]
    rast = torch.stack([one_image(*image, (height, width)) for image in images])
    calls.append(tuple(rast.shape))
    return rast, torch.zeros_like(rast)


def one_image(pos: Tensor, tri: Tensor, first: int, size: tuple[int, int]) -> Tensor:
    """(H, W, 4); ids count from ``first``."""
    faces, number = tri.long(), torch.arange(len(tri), device=tri.device)
    behind = (pos[:, 3][faces] <= 0.1).any(1)
    made, of = clipped(pos, faces[behind], number[behind])
    pos, faces, number = (
        torch.cat([pos, made]),
        torch.cat([faces[~behind], of[0] + len(pos)]),
        torch.cat([number[~behind], of[1]]),
    )
    half = pos.new_tensor([size[1] / 2, size[0] / 2])
    snapped = ((pos[:, :2] / pos[:, 3:] + 1) * half * SUBPIXELS).round() / SUBPIXELS
    pos = torch.cat([(snapped / half - 1) * pos[:, 3:], pos[:, 2:]], 1)
    rast = raster.rasterize(pos[None], faces, size, "torch")[0]
    seen = rast[..., 3].long()
    return torch.cat([rast[..., :3], torch.where(seen > 0, first + 1 + number[seen - 1], 0)[..., None].float()], -1)


def clipped(pos: Tensor, faces: Tensor, number: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Faces as far as they are before w = 0.1: vertices (n, 4), faces (f, 3) of these, and the numbers they have."""
    points, made, of = [], [], []
    for face, name in zip(pos[faces], number.tolist(), strict=True):
        ring = []
        for a, b in zip(face, face.roll(-1, 0), strict=True):
            if a[3] > 0.1:
                ring.append(a)
            if (a[3] > 0.1) != (b[3] > 0.1):
                ring.append(a + (b - a) * (0.1001 - a[3]) / (b[3] - a[3]))
        made += [(len(points), len(points) + k, len(points) + k + 1) for k in range(1, len(ring) - 1)]
        of += [name] * max(0, len(ring) - 2)
        points += ring
    new = {"device": pos.device, "dtype": torch.long}
    return torch.stack(points) if points else pos[:0], (torch.tensor(made, **new).view(-1, 3), torch.tensor(of, **new))


def install(patch: pytest.MonkeyPatch) -> None:
    """Let ``import nvdiffrast.torch`` find this module."""
    package, module = ModuleType("nvdiffrast"), ModuleType("nvdiffrast.torch")
    module.RasterizeCudaContext, module.rasterize, package.torch = RasterizeCudaContext, rasterize, module
    patch.setitem(sys.modules, "nvdiffrast", package)
    patch.setitem(sys.modules, "nvdiffrast.torch", module)
    patch.setattr(raster_nvdiffrast, "available", lambda: True)
    patch.setattr(RasterizeCudaContext, "made", 0)
    calls.clear()
    for cached in (raster_nvdiffrast._load, raster_nvdiffrast._context):
        cached.cache_clear()
