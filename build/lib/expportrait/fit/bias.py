"""The error of the estimated normals that stays on the head, which no mean over frames removes.

Estimators lean the same way on the same part of a face, by some degrees: n* = n + b x n. Integrated over a face that is
millimetres, other ones in each clip. b is smooth and small where offsets and shape are neither, which tells them apart.
"""

from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.head import Head
from expportrait.render import vertex_normals

REACH = 0.05  # m over which the error changes
SPACING = 1.3  # of REACH, between neighbouring centres
FRONT = -0.3  # z of the template's normals from which on a vertex may show
MOST = 60  # centres


class NormalBias:
    """b of one clip, about the camera's x and y axes, rad: ``basis`` (n_d, k) times ``turn`` (k, 2).

    The basis makes b a Gaussian process over the template, of unit variance where its coefficients have unit variance.
    """

    def __init__(self, head: Head):
        points = head.dense.template
        self.basis = smooth_basis(points, vertex_normals(points[None], head.dense_faces)[0][:, 2] > FRONT)
        self.turn = torch.zeros(self.basis.shape[1], 2, device=points.device)

    def copy(self) -> "NormalBias":
        """The same basis with a ``turn`` of its own."""
        other = copy(self)
        other.turn = self.turn.clone()
        return other

    def at(self, vertices: int) -> Tensor:
        """(vertices, 2) rad, of the first vertices."""
        return self.basis[:vertices] @ self.turn

    def degrees(self) -> float:
        """Root mean square over the vertices that may show."""
        size = self.at(len(self.basis)).square().sum(1)[self.basis.square().sum(1) > 0.5]
        return float(torch.rad2deg(size.mean().sqrt()))


def smooth_basis(points: Tensor, where: Tensor) -> Tensor:
    """(n, k): features of a squared-exponential kernel over points (n, 3), about centres spread over those ``where``
    (n,) bool is true (Nystroem). Centres off the middle come with their mirror image, so that left and right are free
    alike."""
    choice = points[where]
    first = choice[(choice - choice.mean(0)).norm(dim=1).argmin()]
    centre = (first * first.new_tensor([0, 1, 1]))[None]
    gap = (choice - centre).norm(dim=1)
    while float(gap.max()) > SPACING * REACH and len(centre) < MOST:
        found = choice[gap.argmax()]
        pair = torch.stack([found, found * found.new_tensor([-1, 1, 1])])
        if found[0].abs() < REACH / 4:
            pair = pair.mean(0, keepdim=True)
        centre = torch.cat([centre, pair])
        gap = torch.minimum(gap, torch.cdist(choice, pair).amin(1))
    centre = centre.double()
    kernel = lambda x: torch.exp(-0.5 * torch.cdist(x, centre).square() / REACH**2)  # noqa: E731
    factor = torch.linalg.cholesky(kernel(centre) + 1e-3 * torch.eye(len(centre), device=points.device))
    return torch.linalg.solve_triangular(factor, kernel(points.double()).t(), upper=False).t().float().contiguous()


def unbiased(normals: Tensor, turn: Tensor) -> Tensor:
    """Estimated normals (k, 3), zero or unit, less the turn (k, 2) rad."""
    axis = F.pad(turn, (0, 1))
    return F.normalize(normals - torch.linalg.cross(axis, normals), dim=-1)
