"""The bust of an SMPL-X-layout body as a differentiable function of shape, expression and pose (paper, section 3.1)."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from expportrait.errors import UserError
from expportrait.head import regions as regions_of
from expportrait.head import topology
from expportrait.head.embedding import Embedding, read_cache
from expportrait.head.layout import NECK, PARENTS, PARTS, BodyModel, read_model
from expportrait.points478 import FACE_OVAL

JOINTS = (
    "global",
    "neck",
    "head",
    "jaw",
    "left_eye",
    "right_eye",
    "left_collar",
    "right_collar",
    "left_shoulder",
    "right_shoulder",
)
SMPLX_IDS = (0, NECK, 15, 22, 23, 24, 13, 14, 16, 17)  # of JOINTS; the global one turns about the neck, not the pelvis
PARENT = (-1, 0, 1, 2, 2, 2, 0, 0, 6, 7)
COLUMNS = 32  # of a basis that are made at a time
LID_UNITS = ("eyeBlink", "eyeSquint", "eyeWide")
ALIASES = {
    "smile": "mouthSmile",
    "blink": "eyeBlink",
    "frown": "mouthFrown",
    "pucker": "mouthPucker",
    "squint": "eyeSquint",
}


@dataclass
class Surface:
    """A set of n points of the head with all that moves them: a mesh's vertices, or landmarks.

    template (n,3) m; shape_basis (n,3,S), expression_basis (n,3,E) m a coefficient; pose_basis (n,3,81) over the rows
    of R - I of JOINTS[1:], None where it is zero; weights (n,10).
    """

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    pose_basis: Tensor | None
    weights: Tensor

    def canonical(self, shape: Tensor, expression: Tensor, pose: Tensor | None = None) -> Tensor:
        """Template + B_S + B_E + B_P, eq. (3) without offsets.

        shape (S,) or (T,S), expression (T,E), pose (T,10,3,3) (None: rest) -> (T,n,3).
        """
        points = self.template + blend(self.shape_basis, shape) + blend(self.expression_basis, expression)
        return points if self.pose_basis is None or pose is None else points + self.corrected(pose)

    def corrected(self, pose: Tensor) -> Tensor:
        """B_P (T,n,3) of eq. (3), of pose (T,10,3,3), where there is a ``pose_basis``."""
        turned = pose[:, 1:] - torch.eye(3, dtype=pose.dtype, device=pose.device)
        return blend(self.pose_basis, turned.flatten(1))

    def skin(self, canonical: Tensor, transforms: Tensor) -> Tensor:
        """Linear blend skinning, eq. (4): canonical (T,n,3), transforms (T,10,3,4) -> (T,n,3)."""
        t = len(transforms)
        blended = (transforms.reshape(t, len(JOINTS), 12).transpose(1, 2) @ self.weights.T).reshape(t, 3, 4, -1)
        x, y, z = canonical.transpose(1, 2).unsqueeze(1).contiguous().unbind(2)
        # Unbind and addcmul with the vertices last: 2x faster, forward and backward, than a batch of 3x3 products.
        of_x, of_y, of_z, moved = blended.unbind(2)
        for axis, value in ((of_x, x), (of_y, y), (of_z, z)):
            moved = torch.addcmul(moved, axis, value)
        return moved.transpose(1, 2)

    def rows(self, points: Tensor) -> "Surface":
        """Some of the points."""
        return replace(
            self, **{f.name: None if (x := getattr(self, f.name)) is None else x[points] for f in fields(self)}
        )

    def to(self, device: torch.device | str) -> "Surface":
        return replace(
            self, **{f.name: None if (x := getattr(self, f.name)) is None else x.to(device) for f in fields(self)}
        )


def blend(basis: Tensor, coefficients: Tensor) -> Tensor:
    """basis (n,3,C), coefficients (...,C) -> (...,n,3)."""
    flat = coefficients @ basis.flatten(0, 1).T
    return flat.reshape(*coefficients.shape[:-1], *basis.shape[:2])


def make_surface(model: BodyModel, rows: sparse.csr_matrix) -> Surface:
    """Points that are fixed combinations ``rows`` (n,N) of a body's vertices."""

    def of(array: np.ndarray) -> Tensor:
        columns = np.asarray(array, np.float32).reshape(len(array), -1)
        out = np.empty((rows.shape[0], columns.shape[1]), np.float32)
        for first in range(0, columns.shape[1], COLUMNS):  # products are float64: of a whole basis 100 MB
            some = slice(first, first + COLUMNS)
            out[:, some] = rows @ columns[:, some]
        return torch.from_numpy(out).reshape(rows.shape[0], *array.shape[1:])

    pose = None
    if model.pose_basis is not None:
        columns = np.concatenate([np.arange(9 * (j - 1), 9 * j) for j in SMPLX_IDS[1:]])
        pose = of(model.pose_basis[:, :, columns])
    return Surface(
        of(model.template), of(model.shape_basis), of(model.expression_basis), pose, of(collapse(model.weights))
    )


def collapse(weights: np.ndarray) -> np.ndarray:
    """(N,55) -> (N,10): a joint that stays at rest moves with its nearest kept ancestor (hands with shoulders, spine
    and legs with the global joint)."""
    kept = np.zeros((len(weights), len(JOINTS)), np.float32)
    for joint in range(weights.shape[1]):
        at = joint
        while at not in SMPLX_IDS:
            at = PARENTS[at]
        kept[:, SMPLX_IDS.index(at)] += weights[:, joint]
    return kept


@dataclass
class Head:
    """Bust of one body model; see docs/head.md. Load with :meth:`load`."""

    sha256: str
    coarse: Surface
    dense: Surface
    faces: Tensor  # (F_c,3) int64
    dense_faces: Tensor  # (F_d,3) int64
    upsample: Tensor  # sparse (n_d, n_c)
    joint_template: Tensor  # (14,3): rest joints, see joints()
    joint_shape: Tensor  # (14,3,S)
    joint_expression: Tensor  # (14,3,E)
    body_vertex: Tensor  # (n_c,) int64: the body model's vertex, -1 on the cut
    body_size: int  # vertices of the body model
    unit_names: tuple[str, ...] = ()
    unit_matrix: Tensor | None = None
    # What follows needs the landmarks. The open head has them; for a user's file they are found once, and cached, by
    # estimators.head_landmarks.load_head. Until then None.
    landmarks: Surface | None = None  # MediaPipe's 478 points
    landmark_faces: Tensor | None = None  # (478,) int64, of the coarse mesh
    landmark_barycentric: Tensor | None = None  # (478,3)
    regions: Tensor | None = None  # (n_d,) uint8, index into REGIONS
    facial: Tensor | None = None  # (n_d,) 0..1, smooth: the facial region
    free: Tensor | None = None  # (n_d,) 0..1: 0 where no offset may act: eyes, lids' edges, teeth, tongue, mouth inside

    JOINTS = JOINTS
    REGIONS = regions_of.REGIONS
    landmark_oval = FACE_OVAL

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        subdivisions: int = 1,
        shape_components: int = 100,
        expression_components: int = 100,
    ) -> "Head":
        """The open head (``file`` None) or a user's SMPL-X file; ``subdivisions`` from the coarse to the dense mesh.
        Fewer components if the file has fewer. Raises UserError for a file of another kind."""
        model = read_model(file, shape_components, expression_components)
        faces, rows = topology.bust(model)
        dense_faces, upsample = topology.subdivide(faces, rows.shape[0], subdivisions)
        regressor = model.joint_regressor[[NECK, *SMPLX_IDS[1:], 0, 3, 6, 9]]

        def at_joints(array: np.ndarray) -> Tensor:
            flat = regressor @ array.reshape(len(array), -1).astype(np.float64)
            return torch.from_numpy(flat.astype(np.float32)).reshape(-1, *array.shape[1:])

        identity, units = np.diff(rows.indptr) == 1, model.unit_matrix
        head = cls(
            sha256=model.sha256,
            coarse=make_surface(model, rows),
            dense=make_surface(model, (upsample @ rows).tocsr()),
            faces=torch.from_numpy(faces.astype(np.int64)),
            dense_faces=torch.from_numpy(dense_faces.astype(np.int64)),
            upsample=torch_sparse(upsample),
            joint_template=at_joints(model.template),
            joint_shape=at_joints(model.shape_basis),
            joint_expression=at_joints(model.expression_basis),
            body_vertex=torch.from_numpy(np.where(identity, rows.indices[rows.indptr[:-1]], -1).astype(np.int64)),
            body_size=len(model.template),
            unit_names=model.unit_names,
            unit_matrix=None if units is None else torch.from_numpy(units[:, :expression_components]),
        )
        found = Embedding(**model.landmarks) if model.landmarks else read_cache(model.sha256)
        return head.with_landmarks(model, upsample, found) if found else head

    def with_landmarks(self, model: BodyModel, upsample: sparse.csr_matrix, found: Embedding) -> "Head":
        """The same head with landmarks, regions and masks."""
        vertices, barycentric, visible = found.vertices, found.barycentric, found.visible
        of_body = self.body_vertex.numpy()
        kept = of_body >= 0
        coarse_id = np.full(len(model.template), -1)
        coarse_id[of_body[kept]] = np.flatnonzero(kept)
        of_landmark = sparse.coo_matrix(
            (barycentric.ravel(), (np.repeat(np.arange(len(vertices)), 3), vertices.ravel())),
            (len(vertices), len(model.template)),
        ).tocsr()
        landmarks = make_surface(model, of_landmark)
        seen = ~kept
        seen[kept] = visible[of_body[kept]]
        part = None
        if model.part is not None:
            part = np.where(kept, model.part[of_body], PARTS.index("skin"))
        faces = self.faces.numpy()
        region, facial, free = regions_of.find(
            self.coarse.template.numpy(), faces, self.coarse.weights.numpy(), landmarks.template.numpy(), seen, part
        )
        votes = upsample @ np.eye(len(self.REGIONS))[region]
        return replace(
            self,
            landmarks=landmarks,
            landmark_faces=torch.from_numpy(topology.faces_with(faces, coarse_id[vertices])),
            landmark_barycentric=torch.from_numpy(barycentric.astype(np.float32)),
            regions=torch.from_numpy(votes.argmax(1).astype(np.uint8)),
            facial=torch.from_numpy((upsample @ facial).astype(np.float32)),
            free=torch.from_numpy((upsample @ free).astype(np.float32)),
        )

    @property
    def dynamic_mask(self) -> Tensor:
        """m_d (n_d,): where the dynamic offsets act, the facial region."""
        return self.facial * self.free

    def static_mask(self, static_on_face: float) -> Tensor:
        """m_s (n_d,): where the static offsets act, 1 on scalp, neck and body and ``static_on_face`` on the face."""
        return (1 - self.facial + static_on_face * self.facial) * self.free

    @property
    def n_shape(self) -> int:
        return self.joint_shape.shape[2]

    @property
    def n_expression(self) -> int:
        return self.joint_expression.shape[2]

    def joints(self, shape: Tensor, expression: Tensor) -> Tensor:
        """Rest joints of a person, m: (T,14,3), in the order of JOINTS (the global one is the neck), then SMPL-X's
        pelvis and spine1 to spine3, which only conversions need."""
        return self.joint_template + blend(self.joint_shape, shape) + blend(self.joint_expression, expression)

    def transforms(self, shape: Tensor, expression: Tensor, pose: Tensor, translation: Tensor) -> Tensor:
        """Joint transforms for :meth:`Surface.skin`: shape (S,) or (T,S), expression (T,E), pose (T,10,3,3) in the
        order of JOINTS, translation (T,3) m -> (T,10,3,4).

        The global rotation turns about the neck joint: x = R (v - j_neck) + j_neck + translation. Joints follow shape
        and expression, as in SMPL-X; offsets do not move them.
        """
        rest = self.joints(shape, expression)[:, : len(JOINTS)]
        own = torch.cat([pose, rest[..., None] - pose @ rest[..., None]], -1)  # (T,10,3,4): about its own place

        def after(up: Tensor, joints: Tensor) -> Tensor:
            return up[..., :3] @ joints + F.pad(up[..., 3:], (3, 0))

        # A generation of PARENT at a time, each in the order of its parents: few products instead of many small ones.
        root = own[:, :1] + F.pad(translation[:, None, :, None], (3, 0))
        second = after(root, torch.cat([own[:, 1:2], own[:, 6:8]], 1))
        third = after(second, torch.cat([own[:, 2:3], own[:, 8:]], 1))
        fourth = after(third[:, :1], own[:, 3:6])
        return torch.cat([root, second[:, :1], third[:, :1], fourth, second[:, 1:], third[:, 1:]], 1)

    def pose(
        self,
        surface: Surface,
        shape: Tensor,
        expression: Tensor,
        pose: Tensor,
        translation: Tensor,
        offset: Tensor | None = None,
    ) -> Tensor:
        """Points of ``surface`` in camera space (T,n,3): blendshapes, plus ``offset`` ((n,3) or (T,n,3), canonical, m),
        then skinning: eqs. (3) and (4)."""
        points = surface.canonical(shape, expression, pose)
        points = points if offset is None else points + offset
        return surface.skin(points, self.transforms(shape, expression, pose, translation))

    @property
    def activation_matrix(self) -> Tensor | None:
        """(E, units): coefficients @ it = the activations of the face units. None where they have no names, or where
        there are fewer components than units, or others beside them, which then do not tell them."""
        matrix = self.unit_matrix
        if matrix is None or not len(matrix) == matrix.shape[1] == self.n_expression:
            return None
        return torch.linalg.inv(matrix)

    @property
    def bounded_units(self) -> Tensor | None:
        """(E, U): the columns of ``activation_matrix`` of all units but the lids'. No offset acts on the lids' edges,
        so these units must show how wide a person's eyes are at rest, below 0 too."""
        matrix = self.activation_matrix
        if matrix is None:
            return None
        return matrix[:, [k for k, name in enumerate(self.unit_names) if not name.startswith(LID_UNITS)]]

    def expression_of(self, units: dict[str, float]) -> Tensor:
        """Coefficients (E,) of named ARKit face units, activations 0..1, e.g. ``{"mouthSmileLeft": 0.5}``. A name
        without its side (``eyeBlink``, ``cheekSquint``) means both; ALIASES give ``smile``, ``blink`` and a few more.

        Open head only: an SMPL-X file's components have no names (UserError).
        """
        if self.unit_matrix is None:
            raise UserError("Face units by name: open head only; the expressions of an SMPL-X file have no names.")
        activation = torch.zeros(len(self.unit_names), device=self.unit_matrix.device)
        for name, value in units.items():
            stem = ALIASES.get(name, name)
            found = [i for i, unit in enumerate(self.unit_names) if unit in (stem, f"{stem}Left", f"{stem}Right")]
            if not found:
                raise UserError(f"The open head has no face unit {name!r}; it has {', '.join(self.unit_names)}.")
            activation[found] += value
        return activation @ self.unit_matrix

    def to(self, device: torch.device | str) -> "Head":
        """The same head on another device."""
        moved = {f.name: x.to(device) for f in fields(self) if isinstance(x := getattr(self, f.name), Tensor | Surface)}
        return replace(self, **moved)


def torch_sparse(matrix: sparse.csr_matrix) -> Tensor:
    matrix = matrix.tocoo()
    ids = torch.from_numpy(np.stack([matrix.row, matrix.col]).astype(np.int64))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    return torch.sparse_coo_tensor(ids, values, matrix.shape, check_invariants=True).coalesce()
