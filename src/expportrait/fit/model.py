"""What a clip looks like under the current unknowns, and how far that is from what the estimators saw (eq. 3 to 6)."""

import torch
from torch import Tensor

from expportrait.fit.bias import NormalBias
from expportrait.fit.displacement import displaced, displacement
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.problem import Judgement, Problem
from expportrait.fit.terms import landmarks, outline, surface
from expportrait.fit.terms.offsets import OffsetWeights
from expportrait.fit.terms.surface import SurfaceResiduals, observe
from expportrait.fit.unknowns import Unknowns
from expportrait.head import Head
from expportrait.render import Fragments, fragments
from expportrait.settings.config import Proxy


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
    def parameters(self) -> HeadParameters:
        return self.unknowns.parameters

    def displacement(self, frames: Tensor, dynamic: Tensor | None = None) -> Tensor:
        """(B, n_d, 3) m: both masked fields of ``frames``, B = 1 where D_t is still zero.

        ``dynamic`` (B, n_f, 3): their D_t, where it is at hand.
        """
        problem, u = self.problem, self.unknowns
        if dynamic is None and u.dynamic.moved:
            dynamic = u.dynamic[frames]
        masked = None if dynamic is None else problem.dynamic_mask * dynamic
        return displacement(problem.static_mask * u.static, masked, problem.dynamic_vertices)

    def vertices(self, frames: Tensor, dense: bool, dynamic: Tensor | None = None) -> Tensor:
        """(B, n, 3) camera space, m: eq. (4) for the chosen frames where ``dense``, else the coarse head without
        offsets; ``dynamic`` as for ``displacement``."""
        p = self.parameters
        coarse = p.shape, p.expression[frames], p.matrices(frames), p.translation(frames)
        if dense:
            return displaced(self.head, *coarse, self.displacement(frames, dynamic))
        return self.head.pose(self.head.coarse, *coarse)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """(B, 478, 3): the embedding's points on the posed mesh, whose first vertices are the coarse ones."""
        corners = self.head.faces[self.head.landmark_faces]
        weights = self.head.landmark_barycentric
        return sum(weights[:, k, None] * vertices.index_select(1, corners[:, k]) for k in range(3))

    def rendered(self, vertices: Tensor, size: int, dense: bool, edges: bool = False) -> Fragments:
        """The mesh of vertices (B, n, 3) at ``size`` px; with ``edges``, its coverage can be differentiated."""
        faces = self.head.dense_faces if dense else self.head.faces
        return fragments(vertices, faces, self.parameters.camera(size), self.problem.backend, cull=True, edges=edges)

    @torch.no_grad()
    def valid(self, frames: Tensor, vertices: Tensor, size: int) -> Tensor:
        """(B, h, w) 0..1 where the mask is this head's: above the bust's cut, below which the mask shows a body that
        the mesh lacks, and not set aside."""
        hem = self.parameters.camera(size).project(vertices.index_select(1, self.problem.hem))[..., 1]
        rows = torch.arange(size, device=self.device) + 0.5
        return (rows[None, :, None] < hem.amin(1)[:, None, None]) * self.kept(frames, size)

    def kept(self, frames: Tensor, size: int) -> Tensor:
        """(B, h, w) 0..1: 0 where something is in front, or where the mask is no surface of this head."""
        shown, explained = 1 - self.problem.targets[size].hidden(frames), self.judged.explained
        return shown * explained[size][frames].to(self.device) / 255 if size in explained else shown

    @torch.no_grad()
    def observed(self, frame: Tensor, size: int, dense: bool, edges: Tensor) -> SurfaceResiduals:
        """Residuals of one ``frame`` (1,) on the ``edges`` (E, 2); a bare head is bald, so it has no outline."""
        vertices = self.vertices(frame, dense)
        rendered, n = self.rendered(vertices, size, dense), vertices.shape[1]
        reliable = self.problem.reliable if dense else self.problem.reliable_bare
        if self.judged.aside[frame.cpu()]:
            reliable = reliable * self.problem.of_head
        return observe(
            vertices[0],
            self.head.dense_faces if dense else self.head.faces,
            edges,
            rendered,
            self.problem.targets[size][frame],
            self.parameters.camera(size),
            reliable[:n],
            self.valid(frame, vertices, size)[0] if dense else None,
            self.unknowns.bias.at(n),
        )

    def landmark_energy(self, frames: Tensor, vertices: Tensor) -> Tensor:
        """Eq. (5) of ``frames``, whose posed vertices are (B, n, 3)."""
        projected, judged = self.parameters.camera().project(self.landmarks(vertices)), self.judged
        weights = judged.weights[frames]
        off = landmarks.residuals(projected, judged.points[frames], judged.unit[frames])
        return landmarks.energy(off, weights) / weights.sum().clamp_min(1)

    def pixel_energies(self, frames: Tensor, size: int, dynamic: Tensor) -> dict[str, Tensor]:
        """The weighted data terms of 3.1.2, by pixels, of ``frames`` whose D_t is ``dynamic`` (B, n_f, 3)."""
        s, targets = self.settings, self.problem.targets[size][frames]
        vertices = self.vertices(frames, True, dynamic)
        found = {"landmark": self.landmark_energy(frames, vertices)}
        rendered = self.rendered(vertices, size, True, s.w_silhouette > 0)
        found |= surface.pixel_energies(rendered, targets, self.unknowns.bias.at(vertices.shape[1]))
        if s.w_silhouette > 0:
            valid = self.valid(frames, vertices, size)
            found["silhouette"] = outline.pixel_energy(rendered.coverage, targets.mask, valid)
        return {name: getattr(s, f"w_{name}") * value for name, value in found.items()}

    def static_weights(self) -> OffsetWeights:
        """Weights of the terms of D_s."""
        s, along = self.settings, self.judged.along
        return OffsetWeights(s.w_static_magnitude, s.w_static_laplacian, s.w_strain, s.w_static_tangent, along)

    def dynamic_weights(self) -> OffsetWeights:
        """Weights of the terms of D_t."""
        s = self.settings
        return OffsetWeights(s.w_dynamic_magnitude, s.w_dynamic_laplacian, s.w_dynamic_strain)

    def static_energies(self) -> dict[str, Tensor]:
        """The weighted terms of D_s alone, by the names of their weights."""
        energy, start = self.problem.static_energy, self.judged.static_start
        found = energy.terms(self.unknowns.static, start, self.static_weights())
        return {"strain" if name == "strain" else f"static_{name}": value for name, value in found.items()}

    def dynamic_energies(self, rows: Tensor) -> dict[str, Tensor]:
        """The weighted terms of D_t in single frames, ``rows`` (B, n_f, 3), as means over these."""
        found = self.problem.dynamic_energy.terms(rows.transpose(0, 1), None, self.dynamic_weights())
        return {f"dynamic_{name}": value for name, value in found.items()}
