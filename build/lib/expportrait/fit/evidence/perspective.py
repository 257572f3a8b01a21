"""The camera's focal length, and the shift that relative depth leaves open, from normals held against depth.

On a surface with normals n, seen in direction (u, v, -f) px, the depth Z obeys grad Z = Z g with
g = (n_x, n_y) / (f n_z - u n_x - v n_y). An estimate d with Z = a (d + c) therefore has grad d = (d + c) g: linear in
c, and solved by one focal length only. A disparity has 1/Z = a (d + c) and grad d = -(d + c) g.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.evidence.targets import TargetFile, Targets

FRONTAL = 0.25  # n_z, below which a surface is too steep to compare slopes
STEEP = 8.0  # times the median slope of depth, from where on one surface ends before another
MARGIN, BLUR = 2, 3  # px of the estimates' size
CELLS = 8  # a side of the picture: errors are alike within a cell and in all frames of it
RANGE = (1.0, 12.0)  # focal lengths tried, over the picture's size
PRIOR = 0.2  # standard deviation of the logarithm of the focal length about the configured one
FLOOR = 0.04  # least standard deviation that a shift is given: smoothed normals make residuals look too small
DEPENDENT = 2.0  # times the error that independent cells would give: on noisy truth the scatter was twice as large
UNSURE = 0.05  # confidence below which a pixel says nothing
FEWEST = 200  # pixels


@dataclass
class Slopes:
    """Slopes of depth beside normals, at pixels of T frames; all (k,) or (k, 2), px of the estimates' size."""

    at: Tensor  # from the picture's centre, y up
    facing: Tensor  # n_z
    across: Tensor  # n_x, n_y
    depth: Tensor
    slope: Tensor  # of depth
    weight: Tensor
    frame: Tensor
    cell: Tensor  # of CELLS x CELLS

    def direction(self, focal: float) -> Tensor:
        """g of the module's text, (k, 2)."""
        return self.across / (focal * self.facing - (self.at * self.across).sum(1)).clamp_min(0.1 * focal)[:, None]

    def shift(self, g: Tensor, weight: Tensor, frames: int) -> Tensor:
        """(T,) c of every frame, by least squares."""
        off = self.slope - self.depth[:, None] * g
        total = lambda x: x.new_zeros(frames).index_add(0, self.frame, x)  # noqa: E731
        return total(weight * (g * off).sum(1)) / total(weight * g.square().sum(1)).clamp_min(1e-20)

    def residual(self, focal: float, weight: Tensor, frames: int) -> Tensor:
        """(k, 2) with every frame's best c."""
        g = self.direction(focal)
        return self.slope - (self.depth + self.shift(g, weight, frames)[self.frame])[:, None] * g

    def robust(self, residual: Tensor) -> Tensor:
        """(k,) weights under which what lies far off counts less."""
        far = residual.norm(dim=1)
        return self.weight / (1 + (far / (1.5 * far.median()).clamp_min(1e-12)).square())


def blurred(image: Tensor) -> Tensor:
    """(T, c, h, w) averaged with its neighbours, twice."""
    for _ in range(2):
        image = F.avg_pool2d(image, BLUR, 1, BLUR // 2)
    return image


def shrunk(inside: Tensor, margin: int) -> Tensor:
    """(T, 1, h, w) 0/1 without what lies within ``margin`` px of an edge, the picture's too."""
    return -F.max_pool2d(F.pad(-inside, [margin] * 4), 2 * margin + 1, 1)


@torch.no_grad()
def slopes(targets: Targets) -> Slopes:
    """Every other pixel, across and down, of what can be compared in ``targets``."""
    normal, depth = targets.normals.permute(0, 3, 1, 2), targets.depth[:, None]
    right, down = depth[..., :-1, 1:] - depth[..., :-1, :-1], depth[..., 1:, :-1] - depth[..., :-1, :-1]
    change = F.pad((right.square() + down.square()).sqrt(), (0, 1, 0, 1))
    inside = (targets.mask[:, None] > 0.5) & (targets.confidence[:, None] > UNSURE) & (normal[:, 2:] > FRONTAL)
    if inside.any():
        inside &= change < STEEP * change[inside].median()
    inside = shrunk(inside.float(), 2)
    share = blurred(inside).clamp_min(1e-3)
    normal, depth = F.normalize(blurred(normal * inside) / share, dim=1), blurred(depth * inside) / share
    right, up = depth[..., 1:-1, 2:] - depth[..., 1:-1, :-2], depth[..., :-2, 1:-1] - depth[..., 2:, 1:-1]
    slope = torch.cat([right, up], 1) / (-2 if targets.disparity else 2)
    frame, _, row, column = (shrunk(inside, MARGIN)[..., 1:-1:2, 1:-1:2] > 0.5).nonzero().unbind(1)
    slope = slope[frame, :, 2 * row, 2 * column]
    row, column = 2 * row + 1, 2 * column + 1
    size = targets.size
    normal = normal[frame, :, row, column]
    return Slopes(
        at=torch.stack([column + 0.5 - size / 2, size / 2 - row - 0.5], 1),
        facing=normal[:, 2],
        across=normal[:, :2],
        depth=depth[frame, 0, row, column],
        slope=slope,
        weight=targets.confidence[frame, row, column],
        frame=frame,
        cell=row * CELLS // size * CELLS + column * CELLS // size,
    )


def joined(parts: list[Slopes]) -> Slopes:
    """Join the slopes of single frames, in order."""
    columns = {name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])}
    counts = torch.tensor([len(part.frame) for part in parts], device=columns["frame"].device)
    columns["frame"] = torch.arange(len(parts), device=counts.device).repeat_interleave(counts)
    return Slopes(**columns)


@torch.no_grad()
def focal_length(file: TargetFile, views: Tensor, prior: float) -> float:
    """px of the estimates' size: what the frames ``views`` say, weighed against ``prior`` by how well they agree."""
    seen = joined([slopes(file[one]) for one in views.split(1)])
    if len(seen.weight) < FEWEST:
        return prior
    frames, size = len(views), file.size
    weight, log_prior = seen.weight, math.log(prior)
    low, high = (math.log(x * size) for x in RANGE)
    for _ in range(4):  # a narrower search each, with what disagrees counting less
        tried = torch.linspace(low, high, 13).tolist()
        found = [seen.residual(math.exp(x), weight, frames) for x in tried]
        errors = [float((weight * residual.square().sum(1)).sum()) for residual in found]
        best = min(range(len(tried)), key=errors.__getitem__)
        weight = seen.robust(found[best])
        width = 1.5 * (high - low) / 12
        low, high = tried[best] - width, tried[best] + width
    log_focal, step = tried[best], 0.01
    residual = found[best]
    slope = (
        seen.residual(math.exp(log_focal + step), weight, frames)
        - seen.residual(math.exp(log_focal - step), weight, frames)
    ) / (2 * step)
    # Errors of one place in the picture are one error: the variance of sums over clusters.
    score = residual.new_zeros(CELLS**2).index_add(0, seen.cell, weight * (slope * residual).sum(1))
    stiffness = (weight * slope.square().sum(1)).sum().clamp_min(1e-20)
    variance = DEPENDENT**2 * float(score.square().sum() / stiffness.square()) + FLOOR**2
    total = (weight * seen.slope.square().sum(1)).sum().clamp_min(1e-20)
    variance += float((weight * residual.square().sum(1)).sum() / total)  # what stays unexplained may be all one way
    share = PRIOR**2 / (PRIOR**2 + variance)
    return math.exp(share * log_focal + (1 - share) * log_prior)


@torch.no_grad()
def depth_shift(targets: Targets, focal: float) -> float | None:
    """c of one frame, in the depth's own unit; None where too little can be compared. ``focal``: px of its size."""
    seen = slopes(targets)
    if len(seen.weight) < FEWEST:
        return None
    weight = seen.weight
    for _ in range(2):
        weight = seen.robust(seen.residual(focal, weight, 1))
    return float(seen.shift(seen.direction(focal), weight, 1))
