"""What a clip looks like under the current unknowns, and how far that is from what the estimators saw (eq. 3 to 6)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.errors import ClipError
from expportrait.fit.bias import NormalBias
from expportrait.fit.dynamic import DynamicField
from expportrait.fit.evidence.growth import LONG, ears, grow, hanging_hair, thickness_axes, unexplained
from expportrait.fit.evidence.hanging import hidden_pixels
from expportrait.fit.evidence.perspective import depth_shift
from expportrait.fit.evidence.points import (
    LOST,
    frame_confidence,
    interocular,
    landmark_error,
    point_weights,
    project_landmarks,
)
from expportrait.fit.evidence.targets import TargetSource, target_files
from expportrait.fit.evidence.turned import settle_turns
from expportrait.fit.evidence.visibility import places
from expportrait.fit.mesh_operators import laplacian, strain_matrix
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.solvers.posture import turns_in
from expportrait.fit.spool import FrameFile
from expportrait.fit.terms import landmarks, outline, surface
from expportrait.fit.terms.offsets import OffsetEnergy, OffsetWeights
from expportrait.head import Head
from expportrait.head.topology import edges_of
from expportrait.render import Fragments, fragments
from expportrait.settings.config import Proxy

FACE_PACE, EAR_PACE = 0.15, 0.1
UNSEEN = 0.05  # trust in the maps of a frame without landmarks
# Of the maps of a frame whose landmarks are not believed, where the head fits the silhouette: they tell its pose, and
# have no more say than before in its shape.
FOUND_AGAIN = 0.5
WORN = {"scalp": 0.0, "body": 0.2}  # trust in the maps of hair and clothes where the head has none yet
STIFF_EARS = 10  # times the strain term
HELD_EARS = 1000  # times L_mag: ears stay where D_s starts, hair around them would stretch and crumple them
ROOM = 0.05  # m_s from which on D_s can take something over
IN_EARS = 0.05  # trust in what the maps say of ears: folds that hide each other


def hem(head: Head) -> Tensor:
    """(h,) coarse vertices of the loop where the bust is cut from the body: the skin's boundary below the neck."""
    edges, of_face = edges_of(head.faces.cpu().numpy())
    alone = edges[np.bincount(of_face.ravel()) == 1]
    boundary = torch.from_numpy(np.unique(alone)).to(head.faces.device)
    neck = head.joint_template[0, 1]
    return boundary[head.coarse.template[boundary, 1] < neck]


class ClipModel:
    """One clip: its unknowns (``parameters``, ``static_raw``, ``dynamic``, ``bias``) and what they are held against.

    ``targets``: the estimates, whole in memory or in a store; ``points`` (T, 478, 3) px at ``targets.size``;
    ``confidence`` (T,) or (T, 478). Of every frame only points and coarse parameters stay in memory.
    """

    def __init__(
        self,
        head: Head,
        targets: TargetSource,
        points: Tensor,
        confidence: Tensor,
        settings: Proxy,
        backend: str = "auto",
    ):
        self.device = device = head.coarse.template.device
        self.head, self.s, self.backend = head, settings, backend
        self.points, self.confidence = points.to(device), confidence.to(device)
        self.detected = self.points  # those of frames set aside are replaced in ``points``
        self.aside = torch.zeros(len(points), dtype=torch.bool)  # frames whose landmarks are not believed
        self.frames, self.size = targets.frames, targets.size
        self.targets = target_files(targets, {settings.coarse_size, settings.fine_size}, device)
        self.weights = point_weights(head, self.points, self.confidence, settings)
        self.unit = interocular(self.points).clamp_min(1)[:, None, None]
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
        ear = ears(head)
        stiff = 1 + STIFF_EARS * ear.cpu().numpy()
        smooth, strain = laplacian(faces, n), strain_matrix(faces, head.dense.template.cpu().numpy(), stiff)
        rows = self.face.cpu().numpy()
        self.static_energy = OffsetEnergy(smooth, strain, device, 1 + HELD_EARS * ear)
        self.dynamic_energy = OffsetEnergy(smooth[rows][:, rows], strain[rows][:, rows], device)
        self.hem = hem(head)
        self.edges, self.dense_edges = (
            torch.from_numpy(edges_of(mesh.cpu().numpy())[0]).to(device) for mesh in (head.faces, head.dense_faces)
        )
        self.trust = frame_confidence(self.confidence).float().clamp(UNSEEN, 1)  # (T,) of a frame's maps
        self.pose_trust = self.trust.clone()  # the same for the steps of the coarse head
        # (n_d,) trust in what the maps say of a vertex, with D_s and without: hair and clothes are not the bare head's
        self.reliable = 1 - (1 - IN_EARS) * ear
        worn = head.regions.new_tensor([WORN.get(name, 1.0) for name in head.REGIONS], dtype=torch.float32)
        self.reliable_bare = worn[head.regions.long()] * self.reliable
        self.explained: dict[int, FrameFile] = {}  # size -> (h, w) 0..255; nothing is set aside where it is empty
        self.static_raw = torch.zeros(n, 3, device=device)
        self.static_start = torch.zeros(n, 3, device=device)
        self.along = torch.zeros(n, 3, 3, device=device)  # onto the bare head's surface, of which D_s has a thickness
        # Of D_s's rate under Adam: hair has centimetres to go, a lip half a millimetre.
        self.pace = ((1 - (1 - FACE_PACE) * head.facial) * (1 - (1 - EAR_PACE) * ear)).unsqueeze(-1)
        self.dynamic = DynamicField(self.frames, len(self.face), device)
        self.bias = NormalBias(head)
        self.parameters: HeadParameters

    def vertices(
        self, frames: Tensor, dense: bool, matrices: Tensor | None = None, dynamic: Tensor | None = None
    ) -> Tensor:
        """(B, n, 3) camera space, m: eq. (4) for the chosen frames, with the offsets where ``dense``; ``dynamic``
        (B, n_f, 3): their D_t, where it is at hand."""
        p = self.parameters
        offset = None
        if dense:
            offset = (self.static_mask * self.static_raw).unsqueeze(0)
            if dynamic is None and self.dynamic.moved:
                dynamic = self.dynamic[frames]
            if dynamic is not None:
                offset = offset.expand(len(frames), -1, -1).index_add(1, self.face, self.dynamic_mask * dynamic)
        surface = self.head.dense if dense else self.head.coarse
        matrices = p.matrices(frames) if matrices is None else matrices
        return self.head.pose(surface, p.shape, p.expression[frames], matrices, p.translation(frames), offset)

    def offsets(self, frames: Tensor) -> Tensor:
        """(n_d, 3) m: both masked fields of one frame."""
        offset = self.static_mask * self.static_raw
        if not self.dynamic.moved:
            return offset
        return offset.index_add(0, self.face, self.dynamic_mask * self.dynamic[frames][0])

    def static_weights(self) -> OffsetWeights:
        s = self.s
        return OffsetWeights(s.w_static_magnitude, s.w_static_laplacian, s.w_strain, s.w_static_tangent, self.along)

    def dynamic_weights(self) -> OffsetWeights:
        s = self.s
        return OffsetWeights(s.w_dynamic_magnitude, s.w_dynamic_laplacian, s.w_dynamic_strain)

    def static_terms(self) -> dict[str, Tensor]:
        """The weighted terms of D_s alone, by the names of their weights."""
        found = self.static_energy.terms(self.static_raw, self.static_start, self.static_weights())
        return {"strain" if name == "strain" else f"static_{name}": value for name, value in found.items()}

    def dynamic_terms(self, rows: Tensor) -> dict[str, Tensor]:
        """Those of D_t in single frames, ``rows`` (B, n_f, 3), as means over these."""
        found = self.dynamic_energy.terms(rows.transpose(0, 1), None, self.dynamic_weights())
        return {f"dynamic_{name}": value for name, value in found.items()}

    def landmarks(self, vertices: Tensor) -> Tensor:
        """(B, 478, 3): the embedding's points on the posed mesh, whose first vertices are the coarse ones."""
        corners = self.head.faces[self.head.landmark_faces]
        weights = self.head.landmark_barycentric
        return sum(weights[:, k, None] * vertices.index_select(1, corners[:, k]) for k in range(3))

    def landmark_loss(self, frames: Tensor, vertices: Tensor) -> Tensor:
        """Eq. (5) of ``frames``, whose posed vertices are (B, n, 3)."""
        projected = self.parameters.camera().project(self.landmarks(vertices))
        off, weights = landmarks.residuals(projected, self.points[frames], self.unit[frames]), self.weights[frames]
        return landmarks.energy(off, weights) / weights.sum().clamp_min(1)

    def terms(
        self, frames: Tensor, size: int, dense: bool, matrices: Tensor, dynamic: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Every data term of 3.1.2 for a batch of frames."""
        targets = self.targets[size][frames]
        vertices = self.vertices(frames, dense, matrices, dynamic)
        landmark = self.landmark_loss(frames, vertices)
        edges = dense and self.s.w_silhouette > 0  # the coarse head is bald, its outline is not the mask's
        rendered = self.rendered(vertices, size, dense, edges)
        result = {"landmark": landmark}
        result |= surface.pixel_energies(rendered, targets, self.bias.at(vertices.shape[1]))
        if edges:
            valid = self.valid(frames, vertices, size)
            result["silhouette"] = outline.pixel_energy(rendered.coverage, targets.mask, valid)
        return result

    def rendered(self, vertices: Tensor, size: int, dense: bool, edges: bool = False) -> Fragments:
        faces = self.head.dense_faces if dense else self.head.faces
        return fragments(vertices, faces, self.parameters.camera(size), self.backend, cull=True, edges=edges)

    @torch.no_grad()
    def valid(self, frames: Tensor, vertices: Tensor, size: int) -> Tensor:
        """(B, h, w) 0..1 where the mask is this head's: above the bust's cut, below which the mask shows a body that
        the mesh lacks, and not set aside."""
        hem = self.parameters.camera(size).project(vertices.index_select(1, self.hem))[..., 1]
        rows = torch.arange(size, device=self.device) + 0.5
        return (rows[None, :, None] < hem.amin(1)[:, None, None]) * self.kept(frames, size)

    def kept(self, frames: Tensor, size: int) -> Tensor:
        """(B, h, w) 0..1: 0 where something is in front, or where ``mark_unexplained`` set the mask aside."""
        free = 1 - self.targets[size].hidden(frames)
        return free * self.explained[size][frames].to(self.device) / 255 if size in self.explained else free

    @torch.no_grad()
    def evaluate(self, size: int, dense: bool, frames: Tensor | None = None) -> dict[str, Tensor]:
        """Of ``frames`` (None: all), (B,): errors of landmarks in inter-ocular distances and of normals in degrees,
        overlap with the mask, share of the mask that is set aside. Of the mesh drawn, (n,): evidence, the mean trust in
        what the estimates say of a vertex, 0 where it never shows."""
        landmark, normal, overlap, aside, evidence = [], [], [], [], 0.0
        frames = torch.arange(self.frames) if frames is None else frames
        faces = self.head.dense_faces if dense else self.head.faces
        for one in frames.split(1):
            targets, vertices = self.targets[size][one], self.vertices(one, dense)
            projected = self.parameters.camera().project(self.landmarks(vertices))
            landmark.append(landmark_error(self.head, projected, self.detected[one]))
            rendered = self.rendered(vertices, size, dense)
            sure = targets.confidence * targets.mask
            at = places(vertices[0], faces, rendered, self.parameters.camera(size))
            evidence = evidence + self.trust[one] * at.shown * sure[0, at.row, at.column]
            weight = sure.flatten()[rendered.index]
            cosine = (rendered.normals * targets.normals.reshape(-1, 3)[rendered.index]).sum(-1).clamp(-1, 1)
            normal.append(torch.rad2deg((weight * cosine.acos()).sum() / weight.sum().clamp_min(1e-6))[None])
            valid = self.valid(one, vertices, size)
            mask, covered = targets.mask * valid, rendered.image(torch.ones_like(rendered.depth)) * valid
            overlap.append((torch.minimum(mask, covered).sum() / torch.maximum(mask, covered).sum().clamp_min(1))[None])
            shown = targets.mask * self.targets[size].inside
            aside.append((1 - (shown * self.kept(one, size)).sum() / shown.sum().clamp_min(1))[None])
        figures = {"landmark": landmark, "normal_deg": normal, "overlap": overlap, "set_aside": aside}
        return {name: torch.cat(values) for name, values in figures.items()} | {"evidence": evidence / len(frames)}

    @torch.no_grad()
    def settle_turns(self, move: bool) -> None:
        """Weigh the landmarks of far turns by how far they are off; in frames set aside the head is found again where
        it may ``move``, and its own points stand for the detector's, with little weight."""
        maps = self.targets[self.s.coarse_size]

        def at(t: int) -> tuple[Tensor, Tensor, Tensor]:
            one = maps[torch.tensor([t])]
            return one.mask[0], one.normals[0], one.confidence[0]

        found = settle_turns(
            self.head,
            self.parameters,
            self.points,
            self.confidence,
            at,
            maps.size,
            self.s.max_growth,
            maps.margins,
            move,
        )
        count = int(found.aside.sum())
        if count > self.s.max_aside * self.frames:
            raise ClipError(
                f"in {count} of {self.frames} frames the landmarks are guesses, as in far turns: too little is left "
                f"to fit a head to (proxy.max_aside: {self.s.max_aside:.0%})"
            )
        self.parameters, self.aside = found.parameters, found.aside
        aside = found.aside.to(self.device)
        if aside.any():
            own = torch.cat([project_landmarks(self.head, self.parameters), self.points[..., 2:]], -1)
            self.points = torch.where(aside[:, None, None], own, self.points)
            self.unit = interocular(self.points).clamp_min(1)[:, None, None]
        usual = self.weights[~aside].mean(0) if not aside.all() else self.weights.mean(0)
        self.weights = self.weights * found.share.to(self.device)[:, None]
        self.weights[aside] = LOST * self.trust[aside, None] * usual
        again = found.found.to(self.device)
        self.pose_trust[again] = self.pose_trust[again].clamp_min(FOUND_AGAIN)

    @torch.no_grad()
    def anchor_depth(self) -> None:
        """Take off the shift of every frame's depth, where the normals tell it (see perspective)."""
        maps = self.targets[self.s.fine_size]
        focal = float(self.parameters.camera(maps.size).focal)
        for t in range(self.frames):
            shift = depth_shift(maps[torch.tensor([t])], focal)
            for each in self.targets.values():
                each.shift[t] = torch.nan if shift is None else shift

    @torch.no_grad()
    def mark_unexplained(self, size: int) -> None:
        """Set aside the parts of the masks that are no surface of this head (see growth.unexplained)."""
        radius = LONG / float(self.parameters.log_scale.mean().exp()) * size / self.size
        self.explained = {each: FrameFile(self.frames, (each, each), torch.uint8) for each in self.targets}
        for one in torch.arange(self.frames).split(1):
            seen = self.rendered(self.vertices(one, dense=True), size, dense=True)
            coverage = seen.image(torch.ones_like(seen.depth))[0].cpu().numpy()
            mask = (self.targets[size].masks(one)[0] * self.targets[size].inside).cpu().numpy()
            kept = torch.from_numpy(~unexplained(mask, coverage, radius)).float()
            for each, file in self.explained.items():
                file[one] = (255 * F.interpolate(kept[None, None], (each, each), mode="area")[0]).round()

    @torch.no_grad()
    def hide_hanging(self) -> None:
        """Take confidence from what hangs past the ears and from what it hides (see ``hanging``)."""
        size = self.s.fine_size
        hidden = hanging_hair(self.head, self.parameters, self.targets[size])
        if not hidden.any():
            return
        hidden = torch.from_numpy(hidden).float().to(self.device)
        for one in torch.arange(self.frames).split(1):
            rendered = self.rendered(self.vertices(one, dense=False), size, dense=False)
            covered = rendered.image(torch.ones_like(rendered.depth))[0].cpu().numpy() > 0
            share = hidden_pixels(rendered.image(rendered.interpolate(hidden))[0].cpu().numpy(), covered)
            share = torch.from_numpy(share).to(self.device)[None, None]
            for each, file in self.targets.items():
                file.hide(one, F.interpolate(share, (each, each), mode="area")[0])

    def start_static(self, size: int) -> None:
        """D_s starts as hair grown to the outline; from there magnitude and stretch are measured."""
        self.static_start = grow(self.head, self.parameters, self.targets[size], self.s.max_growth)
        self.static_raw = self.static_start.clone()
        axes = thickness_axes(self.head, self.parameters)
        self.along = torch.eye(3, device=self.device) - axes[:, :, None] * axes[:, None]
        self.mark_unexplained(size)

    @torch.no_grad()
    def recentre(self) -> None:
        """Move the mean of m_d D_t into m_s D_s where m_s allows it (section 3.1.3: D_t is zero-mean)."""
        if not self.s.disentangle or self.s.offsets != "both" or self.frames == 1:
            return
        mean = self.dynamic.mean() * (self.static_mask[self.face] > ROOM)
        self.dynamic.shift -= mean
        self.add_static(mean * self.dynamic_mask, self.face)

    @torch.no_grad()
    def straighten(self, seen: Tensor) -> None:
        """Give the joints what m_s D_s has of their turns over the vertices ``seen`` (n_d,) bool (see posture)."""
        turns, part = turns_in(self.head, self.parameters.shape, self.static_mask * self.static_raw, seen)
        self.add_static(-part)
        self.parameters.turn_body(turns)

    def add_static(self, change: Tensor, rows: Tensor | slice = slice(None)) -> None:
        """Add ``change`` (k, 3) m to m_s D_s of the vertices ``rows``, where m_s leaves room for it."""
        mask = self.static_mask[rows]
        self.static_raw[rows] += change * (mask > ROOM) / mask.clamp_min(ROOM)
