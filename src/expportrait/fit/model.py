"""What a clip looks like under the current unknowns, and how far that is from what the estimators saw (eq. 3 to 6)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.displacement import displacement
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.evidence.targets import TargetFile, Targets
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Judgement, Problem
from expportrait.fit.terms import landmarks, outline, surface
from expportrait.fit.terms.landmarks import LandmarkPoints
from expportrait.fit.terms.offsets import OffsetWeights
from expportrait.fit.terms.priors import prior_energies
from expportrait.fit.terms.surface import SurfaceResiduals, observe
from expportrait.fit.terms.table import DYNAMIC, FINAL, STATIC
from expportrait.fit.unknowns import Unknowns
from expportrait.head import Head, Surface
from expportrait.head.model import blend
from expportrait.render import Camera, Fragments, fragments
from expportrait.settings.config import Proxy


def singly(frames: Tensor) -> Iterator[slice]:
    """Each of ``frames`` (B,) by itself. Rows are cut out by it without an operation on the device, and without a wait
    for one."""
    return (slice(t, t + 1) for t in frames.tolist())


@dataclass(frozen=True)
class Posed:
    """The coarse head in all T frames. ``made_of``: the parameters, each with the number of times it was changed."""

    made_of: list[tuple[Tensor, int]]
    matrices: Tensor  # (T, 10, 3, 3) of the joints
    transforms: Tensor  # (T, 10, 3, 4)
    focal: Tensor  # () px
    neutral: dict[bool, Tensor]  # dense or not -> (n, 3) m, with the person's shape and no expression
    cameras: dict[int, Camera]  # by the size of their pictures


class ClipModel:
    """One clip: the ``problem``, what is ``judged`` of its evidence, and the ``unknowns``, the only part that solvers
    move."""

    def __init__(self, problem: Problem, parameters: HeadParameters | None = None):
        """``parameters``: where the coarse head starts; the neutral one in every frame, without."""
        head, frames, size = problem.head, problem.frames, problem.size
        self.problem, self.judged = problem, Judgement.first(problem)
        self.unknowns = Unknowns(
            parameters or HeadParameters.neutral(head, frames, size, problem.settings.focal * size),
            torch.zeros(len(head.dense.template), 3, device=problem.device),
            DynamicField(frames, len(problem.dynamic_vertices), problem.device),
            NormalBias(head),
        )
        self._posed: Posed | None = None
        self.landmark_corners = head.faces[head.landmark_faces]  # (478, 3) of the points, in either mesh

    @property
    def head(self) -> Head:
        return self.problem.head

    @property
    def settings(self) -> Proxy:
        return self.problem.settings

    @property
    def frames(self) -> int:
        return self.problem.frames

    @property
    def device(self) -> torch.device:
        return self.problem.device

    @property
    def expected(self) -> Tensor | None:
        """(T, E): the problem's expression, NaN also in frames whose points are not believed."""
        known = self.problem.expected
        return None if known is None else known.masked_fill(self.judged.aside.to(known.device)[:, None], torch.nan)

    @property
    def parameters(self) -> HeadParameters:
        return self.unknowns.parameters

    def surface(self, dense: bool) -> Surface:
        """The dense mesh with offsets, or the coarse one."""
        return self.head.dense if dense else self.head.coarse

    def posed(self) -> Posed:
        """All frames at once, made again once the coarse parameters have moved."""
        p, head, known = self.parameters, self.head, self._posed
        made_of = [(x, x._version) for x in p.tensors().values()]
        if known and all(a is x and b == y for (a, b), (x, y) in zip(known.made_of, made_of, strict=True)):
            return known
        matrices, still = p.matrices(), p.expression.new_zeros(1, head.n_expression)
        transforms = head.transforms(p.shape, p.expression, matrices, p.translation())
        neutral = {dense: self.surface(dense).canonical(p.shape, still)[0] for dense in (False, True)}
        posed = Posed(made_of, matrices, transforms, p.log_focal.exp(), neutral, {})
        self._posed = None if any(x.requires_grad for x, _ in made_of) else posed  # a graph is gone through once
        return posed

    def camera(self, size: int) -> Camera:
        """The clip's, for square pictures of ``size`` px."""
        posed = self.posed()
        if size not in posed.cameras:
            focal = posed.focal * (size / self.problem.size)
            posed.cameras[size] = Camera(focal, size / 2, size / 2, size, size)
        return posed.cameras[size]

    def canonical(self, frames: Tensor | slice, dense: bool) -> Tensor:
        """(B, n, 3) m: eq. (3) of ``frames`` without offsets, unposed."""
        posed, surface = self.posed(), self.surface(dense)
        points = posed.neutral[dense] + blend(surface.expression_basis, self.parameters.expression[frames])
        return points if surface.pose_basis is None else points + surface.corrected(posed.matrices[frames])

    def displacement(self, frames: Tensor | slice, dynamic: Tensor | None = None) -> Tensor:
        """(B, n_d, 3) m: both masked fields of ``frames``, B = 1 where D_t is still zero.

        ``dynamic`` (B, n_f, 3): their D_t, where it is at hand.
        """
        problem, u = self.problem, self.unknowns
        if dynamic is None and u.dynamic.moved:
            dynamic = u.dynamic[frames]
        masked = None if dynamic is None else problem.dynamic_mask * dynamic
        return displacement(problem.static_mask * u.static, masked, problem.dynamic_vertices)

    def vertices(self, frames: Tensor | slice, dense: bool, dynamic: Tensor | None = None) -> Tensor:
        """(B, n, 3) camera space, m: eq. (4) for the chosen frames where ``dense``, else the coarse head without
        offsets; ``dynamic`` as for ``displacement``."""
        canonical = self.canonical(frames, dense)
        if dense:
            canonical = canonical + self.displacement(frames, dynamic)
        return self.surface(dense).skin(canonical, self.posed().transforms[frames])

    def landmarks(self, vertices: Tensor) -> Tensor:
        """(B, 478, 3): the embedding's points on the posed mesh, whose first vertices are the coarse ones."""
        at = vertices.index_select(1, self.landmark_corners.reshape(-1)).unflatten(1, (-1, 3))
        return (self.head.landmark_barycentric[..., None] * at).sum(2)

    def landmarks_alone(self, frames: Tensor, dense: bool) -> Tensor:
        """(B, 478, 3): the same of ``frames``, without the rest of the mesh."""
        at, posed = self.landmark_corners.reshape(-1), self.posed()
        surface = self.surface(dense).rows(at)
        canonical = posed.neutral[dense][at] + blend(surface.expression_basis, self.parameters.expression[frames])
        if surface.pose_basis is not None:
            canonical = canonical + surface.corrected(posed.matrices[frames])
        if dense:
            canonical = canonical + self.displacement(frames)[:, at]
        posed = surface.skin(canonical, posed.transforms[frames]).unflatten(1, (-1, 3))
        return (self.head.landmark_barycentric[..., None] * posed).sum(2)

    def rendered(self, vertices: Tensor, size: int, dense: bool, edges: bool = False) -> Fragments:
        """The mesh of vertices (B, n, 3) at ``size`` px; with ``edges``, its coverage can be differentiated."""
        faces = self.head.dense_faces if dense else self.head.faces
        return fragments(vertices, faces, self.camera(size), self.problem.backend, cull=True, edges=edges)

    @torch.no_grad()
    def valid(self, frames: Tensor | slice, vertices: Tensor, targets: Targets) -> Tensor:
        """(B, h, w) 0..1 where the mask of the frames' ``targets`` is this head's: above the bust's cut, below which it
        shows a body that the mesh lacks, and not set aside."""
        size = targets.size
        hem = self.camera(size).project(vertices.index_select(1, self.problem.hem))[..., 1]
        rows = torch.arange(size, device=self.device) + 0.5
        return (rows[None, :, None] < hem.amin(1)[:, None, None]) * self.kept(frames, targets)

    def kept(self, frames: Tensor | slice, targets: Targets) -> Tensor:
        """(B, h, w) 0..1: 0 where something is in front, or where the mask is no surface of this head."""
        size, explained = targets.size, self.judged.explained
        shown = 1 - self.problem.targets[size].hidden(targets)
        return shown * explained[size][frames].to(self.device) / 255 if size in explained else shown

    @torch.no_grad()
    def observed(
        self, frame: slice, size: int, dense: bool, edges: Tensor, maps: TargetFile | None = None
    ) -> SurfaceResiduals:
        """Residuals of one ``frame`` on the ``edges`` (E, 2), held against ``maps`` or the problem's; a bare head is
        bald, so it has no outline."""
        vertices = self.vertices(frame, dense)
        rendered, n = self.rendered(vertices, size, dense), vertices.shape[1]
        targets = (self.problem.targets[size] if maps is None else maps)[frame]
        reliable = self.problem.reliable if dense else self.problem.reliable_bare
        if self.judged.aside[frame]:
            reliable = reliable * self.problem.of_head
        return observe(
            vertices[0],
            edges,
            rendered,
            targets,
            self.camera(size),
            reliable[:n],
            self.valid(frame, vertices, targets)[0] if dense else None,
            self.unknowns.bias.at(n),
        )

    def maps_of_frames(self, size: int) -> TargetFile:
        """What D_t is held against at ``size`` px."""
        return self.judged.shaded.get(size, self.problem.targets[size])

    @torch.no_grad()
    def observed_points(self, frame: slice) -> LandmarkPoints:
        """Residuals of one ``frame``'s landmarks on the dense head; over the clip their weights are 1 a frame."""
        points, judged = self.landmarks_alone(frame, True)[0], self.judged
        weight, camera = judged.weights[frame][0] / judged.usual, self.camera(self.problem.size)
        return LandmarkPoints.observe(points, judged.points[frame][0], weight, judged.unit[frame][0], camera)

    def landmark_energies(self, frames: Tensor, points: Tensor) -> Tensor:
        """(B,): eq. (5) of each of ``frames``, whose own landmarks are at ``points`` (B, 478, 3)."""
        judged, projected = self.judged, self.camera(self.problem.size).project(points)
        weights = judged.weights[frames]
        off = landmarks.residuals(projected, judged.points[frames], judged.unit[frames])
        return landmarks.energies(off, weights) / weights.sum(1).clamp_min(1)

    def landmark_energy(self, frames: Tensor | slice, vertices: Tensor) -> Tensor:
        """Eq. (5) of ``frames``, whose posed vertices are (B, n, 3)."""
        projected, judged = self.camera(self.problem.size).project(self.landmarks(vertices)), self.judged
        weights = judged.weights[frames]
        off = landmarks.residuals(projected, judged.points[frames], judged.unit[frames])
        return landmarks.energy(off, weights) / weights.sum().clamp_min(1)

    def pixel_energies(self, frames: Tensor, size: int, dynamic: Tensor) -> dict[str, Tensor]:
        """The weighted data terms of 3.1.2, by pixels, of ``frames`` whose D_t is ``dynamic`` (B, n_f, 3)."""
        w, targets = FINAL.weights(self.settings.weights), self.maps_of_frames(size)[frames]
        vertices = self.vertices(frames, True, dynamic)
        found = {"landmark": self.landmark_energy(frames, vertices)}
        rendered = self.rendered(vertices, size, True, w["silhouette"] > 0)
        found |= surface.pixel_energies(rendered, targets, self.unknowns.bias.at(vertices.shape[1]))
        if w["silhouette"] > 0:
            valid = self.valid(frames, vertices, targets)
            found["silhouette"] = outline.pixel_energy(rendered.coverage, targets.mask, valid)
        return {name: w[name] * value for name, value in found.items()}

    def static_weights(self) -> OffsetWeights:
        """Weights of the terms of D_s."""
        return OffsetWeights(STATIC.weights(self.settings.weights), self.judged.along)

    def prior_energies(self, w: Mapping[str, float]) -> dict[str, Tensor]:
        """The weighted priors of the coarse head, with the focal length expected where it is."""
        p = self.parameters
        return prior_energies(p, float(p.log_focal), w, self.head.bounded_units, self.expected)

    def dynamic_weights(self) -> OffsetWeights:
        """Weights of the terms of D_t."""
        along = self.judged.along[self.problem.dynamic_vertices]
        return OffsetWeights(DYNAMIC.weights(self.settings.weights), along)

    def static_energies(self) -> dict[str, Tensor]:
        """The weighted terms of D_s alone."""
        return self.problem.static_energy.terms(self.unknowns.static, self.judged.static_start, self.static_weights())

    def dynamic_energies(self, rows: Tensor) -> dict[str, Tensor]:
        """The weighted terms of D_t in single frames, ``rows`` (B, n_f, 3), as means over these."""
        return self.problem.dynamic_energy.terms(rows.transpose(0, 1), None, self.dynamic_weights())
