"""Stage (c): the coarse head by Gauss-Newton on landmarks, normals and depth (eq. 5 to 7), offsets held still.

The frames' own unknowns (expression, rotations, place) are tied to their neighbours by the temporal terms and to the
clip's (shape, shoulders, focal length) by everything else. They are eliminated frame by frame, front to back; what
is needed to get them back lies on disk, so that neither time a frame nor memory depends on the length of a clip.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expportrait.fit.clip_model import ClipModel
from expportrait.fit.frames import FrameFile
from expportrait.fit.landmarks import ROBUST
from expportrait.fit.parameters import CLIP_JOINTS, FRAME_JOINTS, HeadParameters
from expportrait.fit.rotation import axis_angle_to_matrix, matrix_to_sixd
from expportrait.fit.seen import Seen, look
from expportrait.head import Surface

BLOCK = 8  # frames whose joints are differentiated at a time
TILT = 0.1  # robust scale of n* . e / |e|, rad
DEPTH = 0.01  # robust scale of depth, m
DAMPING = 1e-3  # of the diagonal


def turned(sixd: Tensor, step: Tensor) -> Tensor:
    """Rotations (..., 6) turned by ``step`` (..., 3) rad in their own frame, as matrices."""
    from expportrait.fit.rotation import sixd_to_matrix

    return sixd_to_matrix(sixd) @ axis_angle_to_matrix(step)


class CoarseSolver:
    """Gauss-Newton steps of one clip's coarse head."""

    def __init__(self, model: ClipModel, size: int):
        self.model, self.size, self.head, self.s = model, size, model.head, model.s
        self.p: HeadParameters = model.parameters
        e, c = self.head.n_expression, self.head.n_shape
        self.own = e + 3 * FRAME_JOINTS + 3  # expression, rotations, place and log scale
        self.shared = c + 3 * CLIP_JOINTS + 1  # shape, shoulders, log focal length
        faces = self.head.faces
        self.edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values.unique(dim=0)
        n = len(self.head.coarse.template)
        # (the dense mesh begins with the coarse one)
        self.surface = self.head.coarse
        self.n = n

    # --- the posed points as a linear function of the unknowns ---

    def joints(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Transforms (B, 10, 3, 4) and their derivatives (B, 10, 3, 4, own + shared)."""
        p, e = self.p, self.head.n_expression
        base = torch.cat([p.rotation[frames], p.shoulders.expand(len(frames), -1, -1)], 1)

        def transforms(x: Tensor, sixd: Tensor, expression: Tensor, place: Tensor) -> Tensor:
            own, shared = x[: self.own], x[self.own :]
            step = torch.cat([own[e : e + 18], shared[-13:-1]]).view(-1, 3)
            at = place[:2] + own[-3:-1]
            focal = (p.log_focal + shared[-1]).exp()
            depth = (place[2] + own[-1]).exp()
            centre = depth * torch.stack([at[0] * p.size, -at[1] * p.size, -focal])
            shape = p.shape + shared[:-13]
            return self.head.transforms(
                shape, (expression + own[:e])[None], turned(sixd, step)[None], centre[None]
            )[0]

        zero = base.new_zeros(self.own + self.shared)
        place = torch.cat([p.place[frames], p.log_scale[frames, None]], -1)
        derive = torch.func.vmap(torch.func.jacfwd(transforms), (None, 0, 0, 0))
        value = torch.func.vmap(transforms, (None, 0, 0, 0))
        arguments = (zero, base, p.expression[frames], place)
        return value(*arguments), derive(*arguments)

    def derivative(self, surface: Surface, canonical: Tensor, transforms: Tensor, change: Tensor) -> Tensor:
        """(n, 3, own + shared) of points (n, 3) of one frame."""
        n, e = len(canonical), self.head.n_expression
        weights = surface.weights
        moved = (weights @ change.flatten(1)).view(n, 3, 4, -1)
        homogeneous = torch.cat([canonical, canonical.new_ones(n, 1)], 1)
        out = torch.einsum("nkjp,nj->nkp", moved, homogeneous)
        linear = (weights @ transforms[:, :, :3].flatten(1)).view(n, 3, 3)
        out[..., :e] += linear @ surface.expression_basis
        out[..., self.own : self.own + self.head.n_shape] += linear @ surface.shape_basis
        return out

    # --- one frame's normal equations ---

    def equations(self, t: int, transforms: Tensor, change: Tensor, dense: bool) -> Tensor:
        """(P + 1, P + 1) Gram matrix of the frame's weighted residuals' derivatives, the residual last."""
        m, p, s, head = self.model, self.p, self.s, self.head
        frames = torch.tensor([t], device=m.device)
        total = self.own + self.shared
        camera, full = p.camera(self.size), p.camera()
        targets = m.targets[self.size][frames]
        vertices = m.vertices(frames, dense)
        seen = look(
            vertices[0],
            head.dense_faces if dense else head.faces,
            self.edges,
            m.rendered(vertices, self.size, dense),
            targets,
            camera,
        )
        rows: list[Tensor] = []

        # Landmarks.
        canonical = head.landmarks.canonical(p.shape, p.expression[frames])[0]
        offset = m.offsets(frames) if dense else None
        if offset is not None:
            corners = head.faces[head.landmark_faces]
            canonical = canonical + (head.landmark_barycentric[..., None] * offset[corners]).sum(1)
        place = head.landmarks.skin(canonical[None], transforms[None])[0]
        jacobian = self.derivative(head.landmarks, canonical, transforms, change)
        focal = float(p.log_focal.exp())
        z = place[:, 2:]
        pixels = full.project(place)
        screen = torch.stack(
            [
                -focal * (jacobian[:, 0] - place[:, :1] / z * jacobian[:, 2]) / z,
                focal * (jacobian[:, 1] - place[:, 1:2] / z * jacobian[:, 2]) / z,
            ],
            1,
        )
        screen[..., -1] += pixels - full.cx
        unit = m.unit[t, 0, 0]
        residual = (pixels - m.points[t, :, :2]) / unit
        weight = m.weights[t] / m.weights.sum(1).mean().clamp_min(1)
        weight = s.w_landmark_coarse * weight / (residual.square().sum(-1) + ROBUST**2).sqrt()
        rows.append(
            (torch.cat([screen / unit, residual[..., None]], -1) * weight.sqrt()[:, None, None]).flatten(0, 1)
        )

        # Normals along edges, depth of vertices.
        use = torch.cat([seen.edges.flatten(), seen.points[seen.points < self.n]]).unique()
        if len(seen.edges) > 20:
            number = torch.zeros(self.n, dtype=torch.long, device=m.device)
            number[use] = torch.arange(len(use), device=m.device)
            part = Surface(
                head.coarse.template[use], head.coarse.shape_basis[use], head.coarse.expression_basis[use], None,
                head.coarse.weights[use],
            )
            canonical = head.coarse.canonical(p.shape, p.expression[frames], p.matrices(frames))[0][use]
            if offset is not None:
                canonical = canonical + offset[use]
            jacobian = self.derivative(part, canonical, transforms, change)
            a, b = number[seen.edges].unbind(1)
            span = vertices[0][seen.edges[:, 0]] - vertices[0][seen.edges[:, 1]]
            length = span.norm(dim=-1, keepdim=True)
            residual = (seen.normals * span / length).sum(-1)
            # The derivative of the edge's direction: without the projection, edges would shrink to please.
            normal = (seen.normals - residual[:, None] * span / length) / length
            weight = self.trust[t] * seen.weight / (residual.square() + TILT**2).sqrt()
            weight = s.w_normal * weight / seen.weight.sum()
            rows.append(
                torch.cat(
                    [torch.einsum("ek,ekp->ep", normal, jacobian[a] - jacobian[b]), residual[:, None]], -1
                )
                * weight.sqrt()[:, None]
            )
            rows.append(self.depth_rows(seen, number, vertices[0], jacobian, t))
        stacked = torch.cat([row for row in rows if len(row)])
        return (stacked.t() @ stacked).double().cpu() if len(stacked) else torch.zeros(total + 1, total + 1).double()

    def depth_rows(self, seen: Seen, number: Tensor, vertices: Tensor, jacobian: Tensor, t: int) -> Tensor:
        """Weighted depth equations (m, P + 1) with the frame's scale and shift projected out."""
        mine = seen.points < self.n
        points, estimate, trust = seen.points[mine], seen.depth[mine], seen.trust[mine]
        if len(points) < 20:
            return jacobian.new_zeros(0, jacobian.shape[-1] + 1)
        depth = -vertices[points, 2]
        metres = depth.square() if self.model.targets[self.size].disparity else torch.ones_like(depth)
        value = 1 / depth if self.model.targets[self.size].disparity else depth
        sign = -1.0 if self.model.targets[self.size].disparity else 1.0
        basis = torch.stack([estimate * metres, metres], -1)
        known = value * metres
        weight = trust.clone()
        for _ in range(3):
            gram = basis.t() @ (weight[:, None] * basis)
            fit = torch.linalg.lstsq(gram, basis.t() @ (weight * known)[:, None]).solution[:, 0]
            residual = known - basis @ fit
            weight = trust / (1 + (residual / DEPTH).square())
        rows = torch.cat([-sign * jacobian[number[points], 2], residual[:, None]], -1)
        gram = basis.t() @ (weight[:, None] * basis)
        rows = rows - basis @ torch.linalg.lstsq(gram, basis.t() @ (weight[:, None] * rows)).solution
        scale = self.trust[t] * self.s.w_depth_coarse / DEPTH * weight / trust.sum().clamp_min(1)
        return rows * scale.sqrt()[:, None]

    # --- priors ---

    def priors(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Diagonals and gradients (B, own) of the frame's own priors; see landmarks.priors."""
        p, s, e = self.p, self.s, self.head.n_expression
        diagonal = torch.zeros(len(frames), self.own, dtype=torch.float64)
        gradient = torch.zeros_like(diagonal)
        expression = p.expression[frames].double().cpu()
        diagonal[:, :e], gradient[:, :e] = 2 * s.w_expression / e, 2 * s.w_expression / e * expression
        matrices = p.matrices(frames)[:, :FRAME_JOINTS].double().cpu()
        angle = torch.stack(
            [
                matrices[..., 2, 1] - matrices[..., 1, 2],
                matrices[..., 0, 2] - matrices[..., 2, 0],
                matrices[..., 1, 0] - matrices[..., 0, 1],
            ],
            -1,
        ) / 2  # about the axis-angle
        weights = torch.tensor([s.w_torso, s.w_neck, s.w_neck, s.w_jaw, s.w_eyes, s.w_eyes]).double()
        weights = (2 * weights).repeat_interleave(3)
        diagonal[:, e : e + 18], gradient[:, e : e + 18] = weights, weights * angle.flatten(1)
        # The jaw's opening stays above zero.
        closed = matrices[:, 3, 2, 1] < 0
        jaw = e + 9
        diagonal[:, jaw] += 40 * s.w_jaw * closed
        gradient[:, jaw] += 40 * s.w_jaw * closed * matrices[:, 3, 2, 1]
        # The eyes look the same way.
        difference = angle[:, 4] - angle[:, 5]
        diagonal[:, e + 12 : e + 18] += 2 * s.w_eyes
        gradient[:, e + 12 : e + 15] += 2 * s.w_eyes * difference
        gradient[:, e + 15 : e + 18] -= 2 * s.w_eyes * difference
        return diagonal, gradient

    def temporal(self, frames: Tensor) -> Tensor:
        """Weighted (B, dims, own + 1): values whose second differences cost, their derivatives, the value last."""
        p, s, e = self.p, self.s, self.head.n_expression
        b = len(frames)
        out = torch.zeros(b, e + 36 + 3, self.own + 1, dtype=torch.float64)
        scale = math.sqrt(2 * s.w_temporal_expression / e)
        out[:, torch.arange(e), torch.arange(e)] = scale
        out[:, :e, -1] = scale * p.expression[frames].double().cpu()
        matrices = p.matrices(frames)[:, :FRAME_JOINTS].double().cpu()
        scale = math.sqrt(2 * s.w_temporal_pose / 36)
        zero = torch.zeros_like(matrices[..., 0])
        # d(R e1) = R (w x e1), d(R e2) = R (w x e2)
        first = torch.stack([zero, -matrices[..., 2], matrices[..., 1]], -1)
        second = torch.stack([matrices[..., 2], zero, -matrices[..., 0]], -1)
        change = scale * torch.cat([first, second], -2)
        for joint in range(FRAME_JOINTS):
            rows = slice(e + 6 * joint, e + 6 * joint + 6)
            out[:, rows, e + 3 * joint : e + 3 * joint + 3] = change[:, joint]
        out[:, e : e + 36, -1] = scale * p.rotation[frames].double().cpu().flatten(1)
        scale = math.sqrt(2 * s.w_temporal_place / 3)
        for k in range(3):
            out[:, e + 36 + k, self.own - 3 + k] = scale
        place = torch.cat([p.place[frames], p.log_scale[frames, None]], -1)
        out[:, e + 36 :, -1] = scale * place.double().cpu()
        return out

    # --- elimination ---

    @torch.no_grad()
    def step(self, dense: bool, tell: Callable[[], None] = lambda: None) -> None:
        """One Gauss-Newton step on all frames and the clip."""
        p, s, total, own = self.p, self.s, self.model.frames, self.own
        width = self.shared + 1
        sure = self.model.confidence if self.model.confidence.dim() == 1 else self.model.confidence.mean(1)
        self.trust = sure.clamp(0.05, 1)
        p.rotation[:] = matrix_to_sixd(p.matrices()[:, :FRAME_JOINTS])  # columns of unit length, for ``temporal``
        schur = torch.zeros(width, width, dtype=torch.float64)
        # Of the frames t, t + 1, t + 2: the diagonal block, the couplings to the next two, and to the clip's.
        diagonal = [torch.zeros(own, own, dtype=torch.float64) for _ in range(3)]
        near = [torch.zeros(own, own, dtype=torch.float64) for _ in range(3)]
        far = [torch.zeros(own, own, dtype=torch.float64) for _ in range(3)]
        clip = [torch.zeros(own, width, dtype=torch.float64) for _ in range(3)]
        kept = FrameFile(total, (own, own + own + own + width), torch.float64)
        ahead = self.temporal(torch.arange(min(2, total)))
        moving = list(ahead)  # of the frames t, t + 1, ...

        for first in range(0, total, BLOCK):
            frames = torch.arange(first, min(first + BLOCK, total))
            transforms, change = self.joints(frames.to(p.place.device))
            weights, pulls = self.priors(frames)
            for k, t in enumerate(frames.tolist()):
                gram = self.equations(t, transforms[k], change[k], dense)
                tell()
                diagonal[0] += gram[:own, :own] + torch.diag(weights[k])
                clip[0] += gram[:own, own:]
                clip[0][:, -1] += pulls[k]
                schur += gram[own:, own:]
                if t + 2 < total:  # the second difference about t + 1
                    moving.append(self.temporal(torch.tensor([t + 2]))[0])
                    a, b, c = (rows[:, :-1] for rows in moving[:3])
                    a_, b_, c_ = (rows[:, -1] for rows in moving[:3])
                    value = a_ - 2 * b_ + c_
                    diagonal[0] += a.t() @ a
                    diagonal[1] += 4 * b.t() @ b
                    diagonal[2] += c.t() @ c
                    near[0] -= 2 * a.t() @ b
                    near[1] -= 2 * b.t() @ c
                    far[0] += a.t() @ c
                    clip[0][:, -1] += a.t() @ value
                    clip[1][:, -1] -= 2 * b.t() @ value
                    clip[2][:, -1] += c.t() @ value
                moving.pop(0)
                damped = diagonal[0] + torch.diag(DAMPING * diagonal[0].diagonal() + 1e-9)
                factor = torch.linalg.cholesky(damped)
                right = torch.cat([near[0], far[0], clip[0]], 1)
                right = torch.linalg.solve_triangular(factor, right, upper=False)
                kept[torch.tensor([t])] = torch.cat([factor, right], 1)[None]
                n, f, c = right.split([own, own, width], 1)
                diagonal[1] -= n.t() @ n
                near[1] -= n.t() @ f
                diagonal[2] -= f.t() @ f
                clip[1] -= n.t() @ c
                clip[2] -= f.t() @ c
                schur -= c.t() @ c
                for blocks in (diagonal, near, far, clip):
                    blocks.append(torch.zeros_like(blocks.pop(0)))
        self.apply(self.solve_clip(schur), kept)

    def solve_clip(self, schur: Tensor) -> Tensor:
        """(shared,) step of shape, shoulders and focal length from the reduced system."""
        p, s, t = self.p, self.s, self.model.frames
        h, g = schur[:-1, :-1], schur[:-1, -1]
        c = self.head.n_shape
        prior = torch.full((c,), 2 * s.w_shape / c, dtype=torch.float64)
        pull = prior * p.shape.double().cpu()
        matrices = p.matrices(torch.zeros(1, dtype=torch.long))[0, FRAME_JOINTS:].double().cpu()
        angle = torch.stack(
            [matrices[:, 2, 1] - matrices[:, 1, 2], matrices[:, 0, 2] - matrices[:, 2, 0],
             matrices[:, 1, 0] - matrices[:, 0, 1]], -1) / 2
        shoulders = torch.full((12,), 2 * s.w_shoulders, dtype=torch.float64)
        focal = 2 * s.w_focal * torch.ones(1, dtype=torch.float64)
        off = p.log_focal.double().cpu() - math.log(s.focal * p.size)
        diagonal = t * torch.cat([prior, shoulders, focal])
        pulls = t * torch.cat([pull, shoulders * angle.flatten(), focal * off])
        h = h + torch.diag(diagonal + DAMPING * h.diagonal().abs())
        return torch.linalg.solve(h, -(g + pulls))

    def apply(self, shared: Tensor, kept: FrameFile) -> None:
        """Move the parameters: the clip's by ``shared``, the frames' by substitution, back to front."""
        p, e, own = self.p, self.head.n_expression, self.own
        following = [torch.zeros(own, dtype=torch.float64)] * 2
        device = p.place.device
        for t in range(self.model.frames - 1, -1, -1):
            factor, near, far, clip = kept[torch.tensor([t])][0].split([own, own, own, self.shared + 1], 1)
            right = -(clip[:, -1] + clip[:, :-1] @ shared + near @ following[0] + far @ following[1])
            step = torch.linalg.solve_triangular(factor.t(), right[:, None], upper=True)[:, 0]
            following = [step, following[0]]
            step = step.float().to(device)
            p.expression[t] += step[:e]
            p.rotation[t] = matrix_to_sixd(turned(p.rotation[t], clamped(step[e : e + 18].view(-1, 3))))
            p.place[t] += step[-3:-1]
            p.log_scale[t] += step[-1]
        shared = shared.float().to(device)
        p.shape += shared[:-13]
        p.shoulders[:] = matrix_to_sixd(turned(p.shoulders, clamped(shared[-13:-1].view(-1, 3))))
        p.log_focal += shared[-1]


def clamped(turn: Tensor) -> Tensor:
    """Rotation steps (..., 3) of at most 0.3 rad."""
    return turn * (0.3 / turn.norm(dim=-1, keepdim=True).clamp_min(0.3))
