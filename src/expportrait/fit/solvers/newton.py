"""Gauss-Newton steps of the coarse head on landmarks, normals and depth (eq. 5 to 7), offsets held still.

The unknowns of a frame are tied to its neighbours' by the temporal terms, and to the clip's by everything else. They
are eliminated frame by frame, front to back; what is needed to get them back lies on disk, so that neither the time a
frame nor the memory depends on the length of a clip.
"""

import math
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from expportrait.fit.model import ClipModel
from expportrait.fit.parameters import FRAME_JOINTS
from expportrait.fit.solvers.coarse_equations import CoarseEquations
from expportrait.fit.spool import FrameFile
from expportrait.fit.terms.priors import of_bias, of_clip, of_frame
from expportrait.fit.terms.residuals import Terms, numbers, rows_of
from expportrait.fit.terms.table import StepTerms
from expportrait.fit.terms.temporal import evenly
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_sixd, sixd_to_matrix

BLOCK = 8  # frames whose joints are differentiated at a time
DAMPING = 1e-3  # of the diagonal
MEAN = 9  # numbers of a mean rotation
LARGEST = 0.3  # rad, turn of a joint in one step

Tell = Callable[[int], None]  # frames done


def coarse_step(model: ClipModel, size: int, step: StepTerms, tell: Tell = lambda frames: None) -> dict[str, float]:
    """Move all coarse parameters of ``model`` by one step; the weighted terms before it, by name."""
    with torch.no_grad():
        return CoarseStep(model, size, step).run(tell)


def zeros(*shape: int) -> Tensor:
    """Of float64, on the CPU."""
    return torch.zeros(shape, dtype=torch.float64)


class CoarseStep:
    """Gauss-Newton's step for a whole clip. Matrices are float64 on the CPU; n = unknowns of a frame, c = of the clip.

    The clip's are those of ``CoarseEquations``, the bias, and last the mean of the torso's rotations (9 numbers), which
    the frames draw after them: as an unknown it couples all frames, and the system stays banded.
    """

    def __init__(self, model: ClipModel, size: int, step: StepTerms):
        self.model, self.p, self.e = model, model.parameters, model.head.n_expression
        self.equations, self.weights = CoarseEquations(model, size, step), step.weights(model.settings.weights)
        self.own, self.shared = self.equations.own, self.equations.shared + self.equations.bias_terms + MEAN
        self.p.rotation = matrix_to_sixd(sixd_to_matrix(self.p.rotation))  # columns of unit length, as L_tmp has them
        units, self.expected = model.head.bounded_units, model.expected
        self.units = None if units is None else units.double().cpu()
        self.mean_torso = sixd_to_matrix(self.p.rotation[:, 0]).double().mean(0).cpu()
        self.terms: Counter[str] = Counter()  # summed over the frames

    def run(self, tell: Tell) -> dict[str, float]:
        """Eliminate, step, substitute; the weighted terms before the step, as means over the frames."""
        own, frames = self.own, self.model.frames
        schur = zeros(self.shared + 1, self.shared + 1)
        # For the frames t, t + 1 and t + 2: diagonal block, couplings to the next and next but one, to the clip.
        diagonal, near, far = ([zeros(own, own) for _ in range(3)] for _ in range(3))
        clip = [zeros(own, self.shared + 1) for _ in range(3)]
        kept = FrameFile(frames, (own, 3 * own + self.shared + 1), torch.float64)
        moving = self.motion(0, 2)

        for first in range(0, frames, BLOCK):
            block = torch.arange(first, min(first + BLOCK, frames))
            transforms, change = self.equations.joints(block.to(self.model.device))
            priors, moving = self.priors(first, first + BLOCK), moving + self.motion(first + 2, first + BLOCK + 2)
            for k, t in enumerate(block.tolist()):
                gram = self.with_priors(self.equations.gram(t, transforms[k], change[k]), priors[k])
                diagonal[0] += gram[:own, :own]
                clip[0] += gram[:own, own:]
                schur += gram[own:, own:]
                if t + 2 < frames:  # the second difference about t + 1
                    (a, at_a), (b, at_b), (c, at_c) = ((x[:, :-1], x[:, -1]) for x in moving[:3])
                    change_of = at_a - 2 * at_b + at_c
                    self.record(change_of, self.even)
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
        self.of_frames(self.of_clip(schur), kept)
        return {name: value / frames for name, value in (numbers(self.equations.terms) | self.terms).items()}

    def record(self, residuals: Tensor, sizes: dict[str, int]) -> None:
        """Add the energies of the rows (k,), which belong to the terms ``sizes`` in turn."""
        for name, part in zip(sizes, residuals.split(list(sizes.values())), strict=True):
            self.terms[name] += float(part.square().sum()) / 2

    def turned(self, step: Tensor, rotation: Tensor) -> Tensor:
        """(6, 3, 3) rotations of a frame after the step (n,)."""
        turns = step[self.e : self.e + 3 * FRAME_JOINTS].view(-1, 3)
        return sixd_to_matrix(rotation) @ axis_angle_to_matrix(turns)

    def priors(self, first: int, last: int) -> Tensor:
        """(B, k, n + 10): rows of the priors of the frames ``first`` to ``last`` - 1: derivatives by the frame's
        unknowns and by the mean of the torso's rotations, and the residual."""
        p, own = self.p, self.own

        def residuals(step: Tensor, expression: Tensor, rotation: Tensor, *expected: Tensor) -> Terms:
            mean, moved = self.mean_torso + step[own:].view(3, 3), expression + step[: self.e]
            return of_frame(moved, self.turned(step, rotation), mean, self.weights, self.units, *expected)

        known = (p.expression, p.rotation) if self.expected is None else (p.expression, p.rotation, self.expected)
        frames = [x[first:last].double().cpu() for x in known]
        rows, sizes = rows_of(residuals, own + MEAN, *frames)
        for row in rows:
            self.record(row[:, -1], sizes)
        return rows

    def motion(self, first: int, last: int) -> list[Tensor]:
        """Returns for each of these frames the k quantities whose acceleration L_tmp penalises: derivatives by the
        n unknowns and, as last column, values (k, n + 1). Their second differences are the rows of L_tmp."""
        p = self.p

        def values(step: Tensor, expression: Tensor, rotation: Tensor, place: Tensor) -> Terms:
            sixd = matrix_to_sixd(self.turned(step, rotation))
            return evenly(expression + step[: self.e], sixd, place + step[-3:], self.weights)

        place = torch.cat([p.place, p.log_scale[:, None]], -1)
        frames = [x[first:last].double().cpu() for x in (p.expression, p.rotation, place)]
        if not len(frames[0]):
            return []
        rows, self.even = rows_of(values, self.own, *frames)
        return list(rows)

    def with_priors(self, gram: Tensor, rows: Tensor) -> Tensor:
        """(n + c + 1, n + c + 1): the data's J^T J, which lacks the mean of the torso's rotations, and that of the rows
        of the priors (k, n + 10)."""
        size = self.own + self.shared + 1
        of_data = torch.tensor([*range(size - 1 - MEAN), size - 1])
        of_priors = torch.tensor([*range(self.own), *range(size - 1 - MEAN, size)])
        out = zeros(size, size)
        out[of_data[:, None], of_data] = gram
        out[of_priors[:, None], of_priors] += rows.t() @ rows
        return out

    def clip_priors(self) -> Tensor:
        """(k, c - 9 + 1): rows of the priors of what all frames share, for each frame once: the frames' are sums."""
        p, w, sizes = self.p, self.weights, self.clip_sizes()
        bias = self.model.unknowns.bias.turn.flatten()[: sizes[-1]]

        def residuals(step: Tensor, shape: Tensor, shoulders: Tensor, bias: Tensor) -> Terms:
            by = step.split(sizes)
            turned = sixd_to_matrix(shoulders) @ axis_angle_to_matrix(by[1].view(-1, 3))
            # The focal length stays near where it is, which landmarks and estimates told.
            found = of_clip(shape + by[0], turned, by[2][0], w)
            return found | (of_bias(bias + by[3], w) if len(bias) else {})

        rows, counts = rows_of(residuals, sum(sizes), *(x.double().cpu()[None] for x in (p.shape, p.shoulders, bias)))
        rows = math.sqrt(self.model.frames) * rows[0]
        self.record(rows[:, -1], counts)
        return rows

    def clip_sizes(self) -> list[int]:
        """Unknowns of shape, shoulders, focal length and bias."""
        return [len(self.p.shape), 3 * len(self.p.shoulders), 1, self.equations.bias_terms]

    def of_clip(self, schur: Tensor) -> Tensor:
        """(c,) step of shape, shoulders, focal length and bias from what elimination left; they move."""
        p, bias, rows, sizes = self.p, self.model.unknowns.bias, self.clip_priors(), self.clip_sizes()
        last = sum(sizes)
        hessian = schur[:-1, :-1] + torch.diag(DAMPING * schur[:-1, :-1].diagonal().abs() + 1e-9)
        hessian[:last, :last] += rows[:, :-1].t() @ rows[:, :-1]
        gradient = schur[:-1, -1].clone()
        gradient[:last] += rows[:, :-1].t() @ rows[:, -1]
        step = -torch.linalg.solve(hessian, gradient)
        moved = step[:last].float().to(p.shape.device).split(sizes)
        p.shape = p.shape + moved[0]
        p.shoulders = turned(p.shoulders, moved[1])
        p.log_focal = p.log_focal + moved[2][0]
        if sizes[-1]:
            bias.turn = bias.turn + moved[3].view(-1, 2)
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
