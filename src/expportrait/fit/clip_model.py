"""What a clip looks like under the current unknowns, and how far that is from what the estimators saw (eq. 3 to 6)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.config import Proxy
from expportrait.fit.growth import LONG, unexplained
from expportrait.fit.landmarks import charbonnier, interocular, landmark_error, point_weights
from expportrait.fit.losses import OffsetEnergy, geometry_loss, laplacian, silhouette_loss, strain_matrix
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.targets import Targets
from expportrait.head import Head
from expportrait.render import fragments


def hem(head: Head) -> Tensor:
    """(h,) coarse vertices of the loop where the bust is cut from the body: the skin's boundary below the neck."""
    directed = head.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).sort(1).values
    edges, count = directed.unique(dim=0, return_counts=True)
    boundary = edges[count == 1].unique()
    neck = head.joint_template[0, 1]
    return boundary[head.coarse.template[boundary, 1] < neck]


class ClipModel:
    """One clip: its unknowns (``parameters``, ``static_raw``, ``dynamic_raw``) and what they are held against.

    ``targets`` at full size; ``points`` (T, 478, 3) px at ``targets.size``; ``confidence`` (T,) or (T, 478).
    """

    def __init__(
        self,
        head: Head,
        targets: Targets,
        points: Tensor,
        confidence: Tensor,
        settings: Proxy,
        backend: str = "auto",
    ):
        self.device = device = head.coarse.template.device
        self.head, self.s, self.backend = head, settings, backend
        self.points, self.confidence = points.to(device), confidence.to(device)
        points = self.points
        self.frames = targets.frames
        self.targets = {size: targets.resized(size).to(device) for size in {settings.coarse_size, settings.fine_size}}
        self.size = targets.size
        self.weights = point_weights(head, points, self.confidence, settings)
        self.unit = interocular(points).clamp_min(1)[:, None, None]
        on_face = settings.static_on_face if self.frames > 1 else settings.static_on_face_single
        self.static_mask = head.static_mask(on_face).unsqueeze(-1)
        facial = head.dynamic_mask
        if not settings.disentangle or settings.offsets == "dynamic":  # ablations: D_t has to do hair and clothes too
            facial = head.free
            self.static_mask = facial.unsqueeze(-1)
        self.face = torch.nonzero(facial > 1e-3).squeeze(-1)
        self.dynamic_mask = facial[self.face].unsqueeze(-1)
        n = len(head.dense.template)
        faces = head.dense_faces.cpu().numpy()
        smooth, strain = laplacian(faces, n), strain_matrix(faces, head.dense.template.cpu().numpy())
        rows = self.face.cpu().numpy()
        self.static_energy = OffsetEnergy(smooth, strain, device)
        self.dynamic_energy = OffsetEnergy(smooth[rows][:, rows], strain[rows][:, rows], device)
        self.hem = hem(head)
        self.explained = {size: torch.ones_like(target.mask) for size, target in self.targets.items()}
        self.static_raw = torch.zeros(n, 3, device=device)
        self.dynamic_raw = torch.zeros(self.frames, len(self.face), 3, device=device)
        self.has_dynamic = False
        self.parameters: HeadParameters

    def vertices(self, frames: Tensor, dense: bool, matrices: Tensor | None = None) -> Tensor:
        """(B, n, 3) camera space, m: eq. (4) for the chosen frames, with the offsets where ``dense``."""
        p = self.parameters
        offset = None
        if dense:
            offset = (self.static_mask * self.static_raw).unsqueeze(0)
            if self.has_dynamic:
                moved = self.dynamic_mask * self.dynamic_raw[frames]
                offset = offset.expand(len(frames), -1, -1).index_add(1, self.face, moved)
        surface = self.head.dense if dense else self.head.coarse
        matrices = p.matrices(frames) if matrices is None else matrices
        return self.head.pose(surface, p.shape, p.expression[frames], matrices, p.translation(frames), offset)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """(B, 478, 3): the embedding's points on the posed mesh, whose first vertices are the coarse ones."""
        corners = self.head.faces[self.head.landmark_faces]
        weights = self.head.landmark_barycentric
        return sum(weights[:, k, None] * vertices.index_select(1, corners[:, k]) for k in range(3))

    def terms(self, frames: Tensor, size: int, dense: bool, matrices: Tensor) -> dict[str, Tensor]:
        """Every data term of 3.1.2 for a batch of frames."""
        targets = self.targets[size]
        vertices = self.vertices(frames, dense, matrices)
        projected = self.parameters.camera().project(self.landmarks(vertices))
        error = charbonnier((projected - self.points[frames, :, :2]) / self.unit[frames])
        weights = self.weights[frames]
        faces = self.head.dense_faces if dense else self.head.faces
        outline = dense and self.s.w_silhouette > 0  # the coarse head is bald, its outline is not the mask's
        rendered = fragments(vertices, faces, self.parameters.camera(size), self.backend, cull=True, edges=outline)
        normal, depth = geometry_loss(rendered, targets, frames)
        result = {"landmark": (weights * error).sum() / weights.sum().clamp_min(1), "normal": normal, "depth": depth}
        if outline:
            valid = self.above_hem(vertices, size) * self.explained[size][frames]
            result["silhouette"] = silhouette_loss(rendered.coverage, targets, frames, valid)
        return result

    def above_hem(self, vertices: Tensor, size: int) -> Tensor:
        """(B, h, w) 1 on the rows above the bust's cut, below which the mask shows a body that the mesh lacks."""
        with torch.no_grad():
            hem = self.parameters.camera(size).project(vertices.index_select(1, self.hem))[..., 1]
            rows = torch.arange(size, device=self.device) + 0.5
            return (rows[None, :, None] < hem.amin(1)[:, None, None]).float().expand(-1, -1, size)

    @torch.no_grad()
    def evaluate(self, size: int, dense: bool) -> dict[str, Tensor]:
        """Per-frame errors (T,): landmarks in inter-ocular distances, normals in degrees, overlap with the mask."""
        landmark, normal, overlap = [], [], []
        targets = self.targets[size]
        faces = self.head.dense_faces if dense else self.head.faces
        for t in range(self.frames):
            frames = torch.tensor([t], device=self.device)
            vertices = self.vertices(frames, dense)
            projected = self.parameters.camera().project(self.landmarks(vertices))
            landmark.append(landmark_error(self.head, projected, self.points[frames]))
            rendered = fragments(vertices, faces, self.parameters.camera(size), self.backend, cull=True)
            weight = (targets.confidence[t] * targets.mask[t]).flatten()[rendered.index]
            cosine = (rendered.normals * targets.normals[t].reshape(-1, 3)[rendered.index]).sum(-1).clamp(-1, 1)
            normal.append(torch.rad2deg((weight * cosine.acos()).sum() / weight.sum().clamp_min(1e-6))[None])
            valid = (self.above_hem(vertices, size) * self.explained[size][frames])[0]
            covered = torch.zeros(size * size, device=self.device)
            covered[rendered.index] = 1
            mask, covered = targets.mask[t] * valid, covered.view(size, size) * valid
            overlap.append((torch.minimum(mask, covered).sum() / torch.maximum(mask, covered).sum().clamp_min(1))[None])
        return {"landmark": torch.cat(landmark), "normal_deg": torch.cat(normal), "overlap": torch.cat(overlap)}

    @torch.no_grad()
    def mark_unexplained(self, targets: Targets) -> None:
        """Set aside the parts of the masks that are no surface of this head (see growth.unexplained)."""
        radius = LONG / float(self.parameters.log_scale.mean().exp()) * targets.size / self.size
        marked = torch.ones_like(targets.mask)
        for t in range(self.frames):
            frames = torch.tensor([t], device=self.device)
            vertices = self.vertices(frames, dense=True)
            seen = fragments(
                vertices, self.head.dense_faces, self.parameters.camera(targets.size), self.backend, cull=True
            )
            coverage = seen.image(torch.ones_like(seen.depth))[0].cpu().numpy()
            marked[t] -= torch.from_numpy(unexplained(targets.mask[t].cpu().numpy(), coverage, radius)).to(marked)
        for size in self.targets:
            self.explained[size] = F.interpolate(marked[:, None], (size, size), mode="area")[:, 0]
