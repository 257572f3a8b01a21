"""Gauss-Newton steps of the coarse head on landmarks, normals and depth (eq. 5 to 7), offsets held still.

The unknowns of a frame are tied to its neighbours' by the temporal terms, and to the clip's by everything else. They
are eliminated frame by frame, front to back; what is needed to get them back lies on disk, so that neither the time a
frame nor the memory depends on the length of a clip.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.clip_model import ClipModel
from expportrait.fit.coarse_equations import CoarseEquations
from expportrait.fit.frames import FrameFile
from expportrait.fit.parameters import FRAME_JOINTS
from expportrait.fit.rotation import axis_angle_to_matrix, matrix_to_sixd, sixd_to_matrix

BLOCK = 8  # frames whose joints are differentiated at a time
DAMPING = 1e-3  # of the diagonal
LARGEST = 0.3  # rad, turn of a joint in one step

Tell = Callable[[int], None]  # frames done


def coarse_step(model: ClipModel, size: int, dense: bool, tell: Tell = lambda frames: None) -> dict[str, float]:
    """Move all coarse parameters of ``model`` by one step; the mean losses before it."""
    with torch.no_grad():
        return CoarseStep(model, size, dense).run(tell)


def half_skew(matrices: Tensor) -> Tensor:
    """(..., 3, 3) -> (..., 3): the sine of the angle times the axis, the gradient of (3 - trace) / 2."""
    m = matrices
    return torch.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1) / 2


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)


class CoarseStep:
    """One step. Matrices are float64 on the CPU; n = unknowns of a frame, c = of the clip."""

    def __init__(self, model: ClipModel, size: int, dense: bool):
        self.model, self.p, self.s, self.e = model, model.parameters, model.s, model.head.n_expression
        self.equations = CoarseEquations(model, size, dense)
        self.own, self.shared = self.equations.own, self.equations.shared + self.equations.bias_terms

    def run(self, tell: Tell) -> dict[str, float]:
        own, frames = self.own, self.model.frames
        self.p.rotation = matrix_to_sixd(sixd_to_matrix(self.p.rotation))  # columns of unit length for ``motion``
        schur = zeros(self.shared + 1, self.shared + 1)
        # For the frames t, t + 1 and t + 2: diagonal block, couplings to the next and next but one, to the clip.
        diagonal, near, far = ([zeros(own, own) for _ in range(3)] for _ in range(3))
        clip = [zeros(own, self.shared + 1) for _ in range(3)]
        kept = FrameFile(frames, (own, 3 * own + self.shared + 1), torch.float64)
        moving = [self.motion(t) for t in range(min(2, frames))]

        for first in range(0, frames, BLOCK):
            block = torch.arange(first, min(first + BLOCK, frames))
            transforms, change = self.equations.joints(block.to(self.model.device))
            for k, t in enumerate(block.tolist()):
                gram = self.equations.gram(t, transforms[k], change[k])
                stiffness, pull = self.priors(t)
                diagonal[0] += gram[:own, :own] + torch.diag(stiffness)
                clip[0] += gram[:own, own:]
                clip[0][:, -1] += pull
                schur += gram[own:, own:]
                if t + 2 < frames:  # the second difference about t + 1
                    moving.append(self.motion(t + 2))
                    (a, at_a), (b, at_b), (c, at_c) = ((x[:, :-1], x[:, -1]) for x in moving)
                    change_of = at_a - 2 * at_b + at_c
                    for i, (x, factor) in enumerate(((a, 1), (b, -2), (c, 1))):
                        diagonal[i] += factor**2 * x.t() @ x
                        clip[i][:, -1] += factor * x.t() @ change_of
                    near[0] -= 2 * a.t() @ b
                    near[1] -= 2 * b.t() @ c
                    far[0] += a.t() @ c
                moving = moving[1:]

                damped = diagonal[0] + torch.diag(DAMPING * diagonal[0].diagonal() + 1e-9)
                factor = torch.linalg.cholesky(damped)
                right = torch.linalg.solve_triangular(factor, torch.cat([near[0], far[0], clip[0]], 1), upper=False)
                kept[slice(t, t + 1)] = torch.cat([factor, right], 1)[None]
                n, f, c = right.split([own, own, self.shared + 1], 1)
                diagonal[1] -= n.t() @ n
                diagonal[2] -= f.t() @ f
                near[1] -= n.t() @ f
                clip[1] -= n.t() @ c
                clip[2] -= f.t() @ c
                schur -= c.t() @ c
                for blocks in (diagonal, near, far, clip):
                    blocks.append(torch.zeros_like(blocks.pop(0)))
            tell(len(block))
        shared = self.of_clip(schur)
        self.of_frames(shared, kept)
        return {name: value / frames for name, value in self.equations.losses.items()}

    def priors(self, t: int) -> tuple[Tensor, Tensor]:
        """Diagonal and gradient (n,) of the frame's own priors, as in landmarks.priors."""
        p, s, e = self.p, self.s, self.e
        stiffness, pull = zeros(self.own), zeros(self.own)
        stiffness[:e] = 2 * s.w_expression / e
        pull[:e] = stiffness[:e] * p.expression[t].double().cpu()
        matrices = p.matrices(slice(t, t + 1))[0, :FRAME_JOINTS].double().cpu()
        sine = half_skew(matrices)
        weights = 2 * torch.tensor([s.w_torso, s.w_neck, s.w_neck, s.w_jaw, s.w_eyes, s.w_eyes]).double()
        turns = slice(e, e + 3 * FRAME_JOINTS)
        stiffness[turns] = weights.repeat_interleave(3)
        pull[turns] = (weights[:, None] * sine).flatten()
        opening = float(matrices[3, 2, 1])
        if opening < 0:  # the lower teeth would pass the upper
            stiffness[e + 9] += 40 * s.w_jaw
            pull[e + 9] += 40 * s.w_jaw * opening
        apart = 2 * s.w_eyes * (sine[4] - sine[5])
        stiffness[e + 12 : e + 18] += 2 * s.w_eyes
        pull[e + 12 : e + 18] += torch.cat([apart, -apart])
        return stiffness, pull

    def motion(self, t: int) -> Tensor:
        """(dims, n + 1): what of a frame should move evenly, weighted: its derivatives, and its values last."""
        p, s, e = self.p, self.s, self.e
        turns = 6 * FRAME_JOINTS
        out = zeros(e + turns + 3, self.own + 1)
        values = torch.cat([p.expression[t], p.rotation[t].flatten(), p.place[t], p.log_scale[t : t + 1]])
        out[:, -1] = values.double().cpu()
        out[:e, :e] = torch.eye(e)
        matrices = p.matrices(slice(t, t + 1))[0, :FRAME_JOINTS].double().cpu()
        zero = torch.zeros_like(matrices[..., 0])
        # A turn w in the joint's own frame changes the first column by R (w x e_1), the second by R (w x e_2).
        first = torch.stack([zero, -matrices[..., 2], matrices[..., 1]], -1)
        second = torch.stack([matrices[..., 2], zero, -matrices[..., 0]], -1)
        out[e : e + turns, e : e + turns // 2] = torch.block_diag(*torch.cat([first, second], -2))
        out[-3:, -4:-1] = torch.eye(3)
        weights = zeros(len(out))
        weights[:e] = 2 * s.w_temporal_expression / e
        weights[e:-3], weights[-3:] = 2 * s.w_temporal_pose / turns, 2 * s.w_temporal_place / 3
        return weights.sqrt()[:, None] * out

    def of_clip(self, schur: Tensor) -> Tensor:
        """(c,) step of shape, shoulders, focal length and bias from what elimination left; they move."""
        p, s, count = self.p, self.s, self.model.frames
        sine = half_skew(sixd_to_matrix(p.shoulders)).flatten().double().cpu()
        off = torch.zeros((), dtype=torch.float64)  # it stays near where landmarks put it
        shape = p.shape.double().cpu()
        weights = torch.cat([torch.full_like(shape, s.w_shape / len(shape)), torch.full_like(sine, s.w_shoulders)])
        bias = self.model.bias.turn.flatten()[: self.equations.bias_terms].double().cpu()
        of_bias = torch.full_like(bias, s.w_normal_bias / max(len(bias), 1))
        weights = 2 * count * torch.cat([weights, torch.tensor([s.w_focal_coarse], dtype=torch.float64), of_bias])
        pull = schur[:-1, -1] + weights * torch.cat([shape, sine, off[None], bias])
        stiffness = weights + DAMPING * schur[:-1, :-1].diagonal().abs() + 1e-9
        step = -torch.linalg.solve(schur[:-1, :-1] + torch.diag(stiffness), pull)
        moved = step.float().to(p.shape.device).split([len(shape), len(sine), 1, len(bias)])
        p.shape = p.shape + moved[0]
        p.shoulders = turned(p.shoulders, moved[1])
        p.log_focal = p.log_focal + moved[2][0]
        if len(bias):
            self.model.bias.turn = self.model.bias.turn + moved[3].view(-1, 2)
        return step

    def of_frames(self, shared: Tensor, kept: FrameFile) -> None:
        """Substitution, back to front: the frames move, given the clip's step (c,)."""
        p, own, e = self.p, self.own, self.e
        next_one, next_two = zeros(own), zeros(own)
        for t in range(self.model.frames - 1, -1, -1):
            factor, near, far, clip = kept[slice(t, t + 1)][0].split([own, own, own, self.shared + 1], 1)
            right = clip[:, -1] + clip[:, :-1] @ shared + near @ next_one + far @ next_two
            step = -torch.linalg.solve_triangular(factor.t(), right[:, None], upper=True)[:, 0]
            next_one, next_two = step, next_one
            moved = step.float().to(p.place.device)
            p.expression[t] += moved[:e]
            p.rotation[t] = turned(p.rotation[t], moved[e:-3])
            p.place[t] += moved[-3:-1]
            p.log_scale[t] += moved[-1]


def turned(sixd: Tensor, turn: Tensor) -> Tensor:
    """Rotations (k, 6) after turns (3 k,) in their own frames, none by more than ``LARGEST``."""
    turn = turn.view(-1, 3)
    turn = turn * (LARGEST / turn.norm(dim=-1, keepdim=True).clamp_min(LARGEST))
    return matrix_to_sixd(sixd_to_matrix(sixd) @ axis_angle_to_matrix(turn))
