"""What the fit of one clip is held against: nothing of it moves with the unknowns."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expportrait.fit.evidence.growth import ears
from expportrait.fit.evidence.points import frame_confidence, interocular, point_weights
from expportrait.fit.evidence.skin import Pictures
from expportrait.fit.evidence.targets import TargetFile, TargetSource, target_files
from expportrait.fit.mesh_operators import laplacian, strain_matrix
from expportrait.fit.spool import FrameFile
from expportrait.fit.terms.laplacian import Laplacian
from expportrait.fit.terms.magnitude import Magnitude
from expportrait.fit.terms.offsets import OffsetEnergy
from expportrait.fit.terms.strain import Strain
from expportrait.fit.terms.tangent import Tangent
from expportrait.head import Head
from expportrait.head.topology import edges_of
from expportrait.settings.config import Proxy

FACE_PACE, EAR_PACE = 0.15, 0.1
UNSEEN = 0.05  # trust in the maps of a frame without landmarks, or without any that are believed
WORN = {"scalp": 0.0, "body": 0.2}  # trust in the maps of hair and clothes where the head has none yet
STIFF_EARS = 10  # times the strain term
HELD_EARS = 1000  # times L_mag: ears stay where D_s starts, hair around them would stretch and crumple them
IN_EARS = 0.05  # trust in what the maps say of ears: folds that hide each other


@dataclass(frozen=True)
class Problem:
    """One clip, the head that is fitted to it, and what of this head may move how."""

    head: Head
    settings: Proxy
    backend: str
    size: int  # px of the points' square image
    detected: Tensor  # (T, 478, 3) px
    confidence: Tensor  # (T,) or (T, 478)
    targets: dict[int, TargetFile]  # by their size
    fitted_face: bool  # the maps' face is another head's, fitted to the same landmarks
    pictures: Pictures | None
    expected: Tensor | None  # (T, E) expression, NaN in frames of which nothing is known
    trust: Tensor  # (T,) of a frame's maps, before any is set aside
    static_mask: Tensor  # (n_d, 1) m_s
    dynamic_mask: Tensor  # (n_f, 1) m_d where it is above 0
    dynamic_vertices: Tensor  # (n_f,) rows of the dense mesh
    static_energy: OffsetEnergy
    dynamic_energy: OffsetEnergy
    static_pace: Tensor  # (n_d, 1) of D_s's rate under Adam: hair has centimetres to go, a lip half a millimetre
    # (n_d,) trust in what the maps say of a vertex, with D_s and without: hair and clothes are not the bare head's
    reliable: Tensor
    reliable_bare: Tensor
    of_head: Tensor  # (n_d,) the part of either in frames set aside, whose torso nothing has found again
    edges: Tensor  # (E, 2) of the coarse mesh, whose vertices the dense one begins with
    dense_edges: Tensor
    hem: Tensor  # (h,) coarse vertices, see ``hem``

    @property
    def frames(self) -> int:
        return len(self.detected)

    @property
    def device(self) -> torch.device:
        return self.detected.device

    @classmethod
    def of(
        cls,
        head: Head,
        targets: TargetSource,
        points: Tensor,
        confidence: Tensor,
        settings: Proxy,
        backend: str = "auto",
        pictures: Pictures | None = None,
        units: Tensor | None = None,
    ) -> "Problem":
        """Read the clip once. ``targets``: the estimates, in memory or in a store; ``points`` (T, 478, 3) px at their
        size; ``confidence`` (T,) or (T, 478); ``pictures``: the clip's frames, looked at in far turns, and for their
        shading where the maps' face is another fitted head's; ``units`` (T, U): what a network takes for the
        activations of the head's face units, NaN in frames where it knows nothing.
        Of every frame only the points stay in memory."""
        device = head.coarse.template.device
        points, confidence = points.to(device), confidence.to(device)
        static_mask, facial = offset_masks(head, settings, targets.frames)
        face = torch.nonzero(facial > 1e-3).squeeze(-1)
        ear = ears(head)
        reliable = 1 - (1 - IN_EARS) * ear
        worn = head.regions.new_tensor([WORN.get(name, 1.0) for name in head.REGIONS], dtype=torch.float32)
        edges, dense_edges = (
            torch.from_numpy(edges_of(mesh.cpu().numpy())[0]).to(device) for mesh in (head.faces, head.dense_faces)
        )
        static_energy, dynamic_energy = offset_energies(head, ear, face)
        return cls(
            head,
            settings,
            backend,
            size=targets.size,
            detected=points,
            confidence=confidence,
            targets=target_files(targets, sizes(settings, targets.size), device),
            fitted_face=targets.fitted_face,
            pictures=pictures,
            expected=None if units is None else units.to(device) @ head.unit_matrix,
            trust=frame_confidence(confidence).float().clamp(UNSEEN, 1),
            static_mask=static_mask.unsqueeze(-1),
            dynamic_mask=facial[face].unsqueeze(-1),
            dynamic_vertices=face,
            static_energy=static_energy,
            dynamic_energy=dynamic_energy,
            static_pace=((1 - (1 - FACE_PACE) * head.facial) * (1 - (1 - EAR_PACE) * ear)).unsqueeze(-1),
            reliable=reliable,
            reliable_bare=worn[head.regions.long()] * reliable,
            of_head=torch.where(head.regions == head.REGIONS.index("body"), UNSEEN, 1.0),
            edges=edges,
            dense_edges=dense_edges,
            hem=hem(head),
        )


def sizes(s: Proxy, whole: int) -> set[int]:
    """The image sizes, px, at which a clip whose maps have ``whole`` px is looked at."""
    found = {s.coarse_size, s.fine_size}
    return found | {detail_size(s, whole)} if s.offsets != "none" and s.dynamic_passes else found


def detail_size(s: Proxy, whole: int) -> int:
    """The image size at which D_t is looked for, px."""
    return min(s.dynamic_size, whole)


def offset_masks(head: Head, s: Proxy, frames: int) -> tuple[Tensor, Tensor]:
    """(n_d,) m_s and m_d of the dense mesh."""
    if not s.disentangle or s.offsets == "dynamic":  # ablations: D_t has to do hair and clothes too
        return head.free, head.free
    return head.static_mask(s.static_on_face if frames > 1 else s.static_on_face_single), head.dynamic_mask


def offset_energies(head: Head, ear: Tensor, face: Tensor) -> tuple[OffsetEnergy, OffsetEnergy]:
    """The terms of D_s, and of D_t on the vertices ``face`` (n_f,); ``ear`` (n_d,) 0..1: where ears are."""
    n, faces, rows = len(head.dense.template), head.dense_faces.cpu().numpy(), face.cpu().numpy()
    smooth = laplacian(faces, n)
    strain = strain_matrix(faces, head.dense.template.cpu().numpy(), 1 + STIFF_EARS * ear.cpu().numpy())
    on_face, device = smooth[rows][:, rows], face.device
    of_static = {
        "static_magnitude": Magnitude(1 + HELD_EARS * ear),
        "strain": Strain(strain, device),
        "static_laplacian": Laplacian(smooth, device),
        "static_tangent": Tangent(),
    }
    of_dynamic = {
        "dynamic_magnitude": Magnitude(torch.ones(len(rows), device=device)),
        "dynamic_strain": Strain(strain[rows][:, rows], device),
        "dynamic_laplacian": Laplacian(on_face, device),
        "dynamic_tangent": Tangent(),
    }
    return OffsetEnergy(of_static, smooth, device), OffsetEnergy(of_dynamic, on_face, device)


def hem(head: Head) -> Tensor:
    """(h,) coarse vertices of the loop where the bust is cut from the body: the skin's boundary below the neck."""
    edges, of_face = edges_of(head.faces.cpu().numpy())
    alone = edges[np.bincount(of_face.ravel()) == 1]
    boundary = torch.from_numpy(np.unique(alone)).to(head.faces.device)
    neck = head.joint_template[0, 1]
    return boundary[head.coarse.template[boundary, 1] < neck]


@dataclass(frozen=True)
class Judgement:
    """What is believed of a clip: of landmarks from the start, of far turns, hair and masks once there is a head."""

    points: Tensor  # (T, 478, 3) px: the detector's, in frames set aside the head's own
    unit: Tensor  # (T, 1, 1) px of an inter-ocular distance
    weights: Tensor  # (T, 478) of the points
    aside: Tensor  # (T,) bool, on the CPU: frames whose landmarks are not believed
    trust: Tensor  # (T,) of a frame's maps
    pose_trust: Tensor  # (T,) the same for a frame's own unknowns, in steps of the coarse head
    held: Tensor  # (T,) by how many times more the head's own points count there
    static_start: Tensor  # (n_d, 3) m: where D_s starts, and its own terms but L_lap are zero
    along: Tensor  # (n_d, 3, 3) onto the bare head's surface, of which D_s has a thickness
    explained: dict[int, FrameFile]  # size -> (h, w) 0..255 of the masks; nothing is set aside where it is empty
    shaded: dict[int, TargetFile]  # size -> the maps that D_t is held against, where they are not the problem's

    @property
    def usual(self) -> Tensor:
        """() of a frame's landmarks: their weights together, as a mean over the frames."""
        return self.weights.sum(1).mean().clamp_min(1)

    @classmethod
    def first(cls, problem: Problem) -> "Judgement":
        """Believe everything."""
        n, points, new = len(problem.head.dense.template), problem.detected, {"device": problem.device}
        return cls(
            points,
            unit=interocular(points).clamp_min(1)[:, None, None],
            weights=point_weights(problem.head, points, problem.confidence, problem.settings),
            aside=torch.zeros(len(points), dtype=torch.bool),
            trust=problem.trust,
            pose_trust=problem.trust,
            held=torch.zeros_like(problem.trust),
            static_start=torch.zeros(n, 3, **new),
            along=torch.zeros(n, 3, 3, **new),
            explained={},
            shaded={},
        )
