"""The coarse head's residuals in one frame and their derivatives by all that may move: the rows of a linear system.

The unknowns of a frame (``own``): expression, six rotations, place, log scale. Of the clip (``shared``): shape, four
rotations of the shoulders, log focal length, and after these, with offsets, the bias of the normals. Rotations turn
in their own frame, in rad.
"""

import torch
from torch import Tensor

from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import CLIP_JOINTS, FRAME_JOINTS
from expportrait.fit.terms import landmarks
from expportrait.fit.terms.residuals import Terms, add, derived
from expportrait.fit.terms.surface import SurfaceResiduals
from expportrait.fit.terms.table import StepTerms
from expportrait.head import Surface
from expportrait.head.rotation import axis_angle_to_matrix, sixd_to_matrix


class CoarseEquations:
    """Residuals and derivatives of one clip at image size ``size``, for a step of the coarse head; where the bias of
    the normals moves along, offsets count."""

    def __init__(self, model: ClipModel, size: int, step: StepTerms):
        self.model, self.size, self.dense = model, size, "bias" in step.moves
        self.weights = step.weights(model.settings.weights)
        head = model.head
        self.own = head.n_expression + 3 * FRAME_JOINTS + 3
        self.shared = head.n_shape + 3 * CLIP_JOINTS + 1
        self.bias_terms = model.unknowns.bias.turn.numel() if self.dense else 0
        self.terms: Terms = {}  # weighted terms, summed over the frames
        judged = model.judged
        self.trust, self.pose_trust, self.held = (of.tolist() for of in (judged.trust, judged.pose_trust, judged.held))
        self.usual = judged.usual

    def joints(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Joint transforms (B, 10, 3, 4) and their derivatives (B, 10, 3, 4, own + shared)."""
        p, head = self.model.parameters, self.model.head
        e, turns = head.n_expression, 3 * FRAME_JOINTS
        sixd = torch.cat([p.rotation[frames], p.shoulders.expand(len(frames), -1, -1)], 1)
        place = torch.cat([p.place[frames], p.log_scale[frames, None]], -1)

        def transforms(step: Tensor, sixd: Tensor, expression: Tensor, place: Tensor) -> Tensor:
            own, shared = step[: self.own], step[self.own :]
            turn = torch.cat([own[e : e + turns], shared[head.n_shape : -1]]).view(-1, 3)
            x, y, log_scale = (place + own[-3:]).unbind(-1)
            translation = p.place_in_space(x, y, log_scale, p.log_focal + shared[-1])
            pose = sixd_to_matrix(sixd) @ axis_angle_to_matrix(turn)
            shape = p.shape + shared[: head.n_shape]
            # shape[None]: a vector's product has a gradient of the wrong shape under vmap where operations are counted
            return head.transforms(shape[None], (expression + own[:e])[None], pose[None], translation[None])[0]

        return derived(transforms, self.own + self.shared, sixd, p.expression[frames], place)

    def derivative(self, surface: Surface, canonical: Tensor, transforms: Tensor, change: Tensor) -> Tensor:
        """(n, 3, own + shared) of the posed points whose canonical places are (n, 3)."""
        n, head = len(canonical), self.model.head
        homogeneous = torch.cat([canonical, canonical.new_ones(n, 1)], 1)
        weights = (surface.weights[:, :, None] * homogeneous[:, None]).flatten(1)  # (n, 10 * 4)
        out = (weights @ change.transpose(1, 2).reshape(weights.shape[1], -1)).view(n, 3, change.shape[-1])
        linear = (surface.weights @ transforms[:, :, :3].flatten(1)).view(n, 3, 3)
        out[..., : head.n_expression] += linear @ surface.expression_basis
        out[..., self.own : self.own + head.n_shape] += linear @ surface.shape_basis
        return out

    def gram(self, t: int, transforms: Tensor, change: Tensor) -> Tensor:
        """(P + 1, P + 1) float64 on the CPU: J^T J of frame ``t``, with the residual as last column of J; P counts the
        bias. ``transforms`` (10, 3, 4) and ``change`` (10, 3, 4, own + shared) as from ``joints``."""
        model = self.model
        one = slice(t, t + 1)
        seen = model.observed(one, self.size, self.dense, model.problem.edges)
        offset = model.displacement(one)[0] if self.dense else None
        normals, *others = self.surface_rows(t, seen, transforms, change, offset)
        points, maps = self.landmark_rows(t, transforms, change, offset), torch.cat([normals, *others])
        rows = torch.cat([points, maps])
        gram = self.of_pose(t, rows.t() @ rows, points, maps)
        if not self.bias_terms:
            return gram.double().cpu()
        scale = self.trust[t] * self.weights["normal"]
        by_bias = seen.normals.bias_rows(model.unknowns.bias.basis, scale)
        cross = normals.t() @ by_bias
        top = torch.cat([gram[:-1, :-1], cross[:-1], gram[:-1, -1:]], 1)
        middle = torch.cat([cross[:-1].t(), by_bias.t() @ by_bias, cross[-1:].t()], 1)
        return torch.cat([top, middle, torch.cat([top[:, -1], middle[:, -1], gram[-1, -1:]])[None]]).double().cpu()

    def of_pose(self, t: int, gram: Tensor, points: Tensor, maps: Tensor) -> Tensor:
        """J^T J (own + shared + 1) with what the rows of the ``points`` and of the ``maps`` (k, own + shared + 1) say
        beyond their weight of the frame's own unknowns alone."""
        own = torch.tensor([*range(self.own), -1], device=gram.device)
        if self.held[t] > 0:
            turns = self.turns_alone(points)[:, own]
            gram[own[:, None], own] += self.held[t] * turns.t() @ turns
        if (more := self.pose_trust[t] / self.trust[t] - 1) > 0:
            gram[own[:, None], own] += more * maps[:, own].t() @ maps[:, own]
        return gram

    def turns_alone(self, rows: Tensor) -> Tensor:
        """The rows (k, own + shared + 1) of points without what expression and place can explain of them. Of a head
        found again by its skin the turns are known; its expression and distance went on from its neighbours."""
        free = torch.cat([rows[:, : self.model.head.n_expression], rows[:, self.own - 3 : self.own]], 1)
        basis = torch.linalg.qr(free.double())[0].to(rows)
        return rows - basis @ (basis.t() @ rows)

    def landmark_rows(self, t: int, transforms: Tensor, change: Tensor, offset: Tensor | None) -> Tensor:
        """Rows of the landmarks in the picture; ``offset`` (n_d, 3) m carries them along."""
        model, p, head = self.model, self.model.parameters, self.model.head
        canonical = head.landmarks.canonical(p.shape, p.expression[t : t + 1], model.posed().matrices[t : t + 1])[0]
        if offset is not None:
            canonical = canonical + model.landmarks(offset[None])[0]
        point = head.landmarks.skin(canonical[None], transforms[None])[0]
        jacobian = self.derivative(head.landmarks, canonical, transforms, change)
        camera, unit = model.camera(p.size), model.judged.unit[t, 0, 0]
        pixel = camera.project(point)
        screen = landmarks.by_points(point, camera, unit) @ jacobian
        screen[..., -1] += (pixel - camera.cx) / unit  # by the focal length
        weights, scale = model.judged.weights, self.weights["landmark"]
        residual = landmarks.residuals(pixel, model.judged.points[t], unit)
        weight = weights[t] / self.usual
        add(self.terms, {"landmark": scale * landmarks.energy(residual, weight)})
        return landmarks.rows(residual, screen, weight, scale)

    def surface_rows(
        self, t: int, seen: SurfaceResiduals, transforms: Tensor, change: Tensor, offset: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Rows of the normals along edges, of the outline, and of depth."""
        model, coarse = self.model, self.model.head.coarse
        n = len(coarse.template)
        at = torch.cat([seen.normals.edges.flatten(), seen.depth.vertices, seen.outline.vertices])
        used = at[at < n].unique()
        number = torch.zeros(n, dtype=torch.long, device=used.device)
        number[used] = torch.arange(len(used), device=used.device)
        canonical = model.canonical(slice(t, t + 1), dense=False)[0]
        canonical = (canonical if offset is None else canonical + offset[:n])[used]
        moved = self.derivative(coarse.rows(used), canonical, transforms, change)
        trust, terms = self.trust[t], {"normal": seen.normals, "outline": seen.outline, "depth": seen.depth}
        add(self.terms, seen.energies(trust, self.weights))
        told = {name: trust * self.weights[name] for name in terms if name in self.weights}
        return tuple(terms[name].rows(moved, number, scale) for name, scale in told.items())
