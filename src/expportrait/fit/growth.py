"""Where D_s starts (section 3.1.3): hair and clothes grown along the normals until the head fills its outline."""

import numpy as np
import scipy.ndimage as ndi
import scipy.sparse as sp
import scipy.sparse.linalg as spla
import torch
from torch import Tensor

from expportrait.fit.losses import adjacency
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.targets import Targets
from expportrait.head import Head
from expportrait.render import vertex_normals

RIM = 0.35  # |n . view| of a vertex that draws the outline
BORDER = 4  # px beside the image's edge, where the outline is the image's and not the person's
SHRINK = 0.01  # m, deepest that the start may cut into the bare head
STIFFNESS = 0.05  # membrane weight that carries the growth from the rim over the scalp
LIMIT = {"scalp": 1.0, "neck": 0.25, "body": 0.6}  # share of max_growth by region; hair beside the neck is not neck


def outline_distance(mask: np.ndarray) -> np.ndarray:
    """(h, w) 0..1 -> signed px distance to the mask's outline, positive inside."""
    inside = mask > 0.5
    return ndi.distance_transform_edt(inside) - ndi.distance_transform_edt(~inside)


@torch.no_grad()
def grow(head: Head, parameters: HeadParameters, targets: Targets, max_growth: float, views: int = 12) -> Tensor:
    """(n_d,) m along the neutral normals: rim vertices reach the outline, the rest follows as a membrane.

    The rim is where the surface turns away from the camera; its signed distance to the mask's outline, in metres at
    its depth, is what it must grow. The face stays where the landmarks put it.
    """
    coarse, faces = head.coarse, head.faces
    n = len(coarse.template)
    names = np.array(head.REGIONS)[head.regions[:n].cpu().numpy()]
    limit = np.array([LIMIT.get(name, 0.0) for name in names]) * max_growth
    total, weight = np.zeros(n), np.zeros(n)
    size = targets.size
    camera = parameters.camera(size)
    focal = float(camera.focal)
    chosen = np.unique(np.linspace(0, targets.frames - 1, min(views, targets.frames)).round().astype(int))
    for t in chosen.tolist():
        frame = slice(t, t + 1)
        vertices = head.pose(
            coarse, parameters.shape, parameters.expression[frame], parameters.matrices(frame), parameters.translation(frame)
        )
        normals = vertex_normals(vertices, faces)[0]
        view = torch.nn.functional.normalize(-vertices[0], dim=-1)
        rim = ((normals * view).sum(-1).abs() < RIM).cpu().numpy()
        pixels = camera.project(vertices[0]).cpu().numpy()
        column, row = np.floor(pixels).astype(int).T
        seen = (column >= BORDER) & (column < size - BORDER) & (row >= BORDER) & (row < size - BORDER)
        use = rim & seen & (limit > 0)
        distance = outline_distance(targets.mask[t].float().cpu().numpy())[row[use], column[use]]
        metres = distance * -vertices[0, use, 2].cpu().numpy() / focal
        near = np.abs(metres) < 1.5 * max_growth  # farther from the outline: a rim inside the head, such as an ear's
        total[np.flatnonzero(use)[near]] += np.clip(metres[near], -SHRINK, limit[use][near])
        weight[np.flatnonzero(use)[near]] += 1
    if not weight.any():
        return head.dense.template.new_zeros(len(head.dense.template))
    data = np.where(limit > 0, np.minimum(weight, 1.0), 10.0)
    mean = total / np.maximum(weight, 1)
    edges = adjacency(faces.cpu().numpy(), n)
    membrane = sp.diags(np.asarray(edges.sum(1)).ravel()) - edges
    system = sp.diags(data) + STIFFNESS * membrane + 1e-6 * sp.identity(n)
    growth = spla.spsolve(system.tocsc(), data * mean)
    growth = torch.from_numpy(np.clip(growth, -SHRINK, max_growth).astype(np.float32))
    return (head.upsample @ growth.to(head.upsample.device).unsqueeze(-1)).squeeze(-1)
