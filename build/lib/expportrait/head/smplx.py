"""To and from SMPL-X: parameters (its root turns about the pelvis, ours about the neck) and files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expportrait.head import topology
from expportrait.head.layout import PARENTS, SHAPE_SLOTS, SMPLX_JOINTS, BodyModel, read_model
from expportrait.head.model import Head

SPINE = (3, 6, 9)  # spine1..3: between the pelvis and the neck
NECK_ROW, PELVIS_ROW, SPINE_ROWS = 0, 10, (11, 12, 13)  # of Head.joints

# MediaPipe's landmarks for iBUG's 68 points: 17 of the jaw, then brows, nose, eyes, outer and inner lips.
JAW_68 = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
INNER_68 = (
    71,
    63,
    105,
    66,
    107,
    336,
    296,
    334,
    293,
    301,
    168,
    197,
    5,
    4,
    75,
    97,
    2,
    326,
    305,
    33,
    160,
    158,
    133,
    153,
    144,
    362,
    385,
    387,
    263,
    373,
    380,
    61,
    39,
    37,
    0,
    267,
    269,
    291,
    405,
    314,
    17,
    84,
    181,
    78,
    82,
    13,
    312,
    308,
    317,
    14,
    87,
)


def rotations(axis_angle: Tensor) -> Tensor:
    """(...,3) rad -> (...,3,3)."""
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(skew)


def to_smplx(head: Head, shape: Tensor, expression: Tensor, global_orient: Tensor, translation: Tensor) -> Tensor:
    """SMPL-X's ``transl`` (T,3) for our translation (T,3): global_orient (T,3) axis-angle, shape (S,) or (T,S)."""
    return translation + _pivot_shift(head, shape, expression, rotations(global_orient))


def from_smplx(head: Head, shape: Tensor, expression: Tensor, global_orient: Tensor, transl: Tensor) -> Tensor:
    """Our translation (T,3) for SMPL-X's ``transl``; the inverse of :func:`to_smplx`. The spine is at rest; where it
    is not, call :func:`fold_spine` first."""
    return transl - _pivot_shift(head, shape, expression, rotations(global_orient))


def _pivot_shift(head: Head, shape: Tensor, expression: Tensor, turn: Tensor) -> Tensor:
    """(I - R) (j_neck - j_pelvis): R (v - a) + a = R (v - b) + b + (I - R) (a - b)."""
    joints = head.joints(shape, expression)
    arm = joints[:, NECK_ROW] - joints[:, PELVIS_ROW]
    return arm - (turn @ arm[..., None])[..., 0]


def fold_spine(
    head: Head, shape: Tensor, expression: Tensor, global_orient: Tensor, transl: Tensor, spine: Tensor
) -> tuple[Tensor, Tensor]:
    """A bent spine as part of the global rotation: the same head and neck with the spine at rest.

    global_orient, transl (T,3) and spine (T,3,3), axis-angle of spine1 to spine3, in SMPL-X's sense -> rotation
    matrices (T,3,3) and transl (T,3), still in SMPL-X's sense. The chest follows the spine's joints in part, and is
    only near.
    """
    joints = head.joints(shape, expression)
    turn, at = rotations(global_orient), joints[:, PELVIS_ROW] + transl
    last = joints[:, PELVIS_ROW]
    for k, row in enumerate(SPINE_ROWS):
        at = at + (turn @ (joints[:, row] - last)[..., None])[..., 0]
        turn, last = turn @ rotations(spine[:, k]), joints[:, row]
    neck = at + (turn @ (joints[:, NECK_ROW] - last)[..., None])[..., 0]
    return turn, neck - joints[:, NECK_ROW] + _pivot_shift(head, shape, expression, turn)


def export(out: Path, file: Path | None = None, compress: bool = True) -> Path:
    """Write the head model as a full SMPL-X file (400 directions, 486 pose correctives), which
    ``smplx.create(folder, "smplx", ext="npz")`` reads as it stands.

    smplx looks for ``<folder>/smplx/SMPLX_NEUTRAL.npz`` or a file of a name ``SMPLX_*.npz``.
    """
    model = read_model(file, SHAPE_SLOTS, 100)
    save = np.savez_compressed if compress else np.savez
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    save(out, **smplx_arrays(model))
    return Path(out)


def smplx_arrays(model: BodyModel) -> dict[str, np.ndarray]:
    """The keys of an SMPL-X file, and a few of ours that smplx ignores: vertex_part, the face units, the landmarks."""
    n = len(model.template)
    directions = np.zeros((n, 3, SHAPE_SLOTS + 100), np.float32)
    directions[:, :, : model.shape_basis.shape[2]] = model.shape_basis
    directions[:, :, SHAPE_SLOTS : SHAPE_SLOTS + model.expression_basis.shape[2]] = model.expression_basis
    pose = model.pose_basis
    parents = np.where(PARENTS < 0, 2**32 - 1, PARENTS).astype(np.uint32)
    arrays = {
        "v_template": model.template.astype(np.float64),
        "f": model.faces.astype(np.uint32),
        "shapedirs": directions,
        "posedirs": np.zeros((n, 3, 9 * (SMPLX_JOINTS - 1)), np.float32) if pose is None else pose,
        "J_regressor": model.joint_regressor.toarray(),
        "weights": model.weights.astype(np.float64),
        "kintree_table": np.stack([parents, np.arange(SMPLX_JOINTS, dtype=np.uint32)]),
        "hands_componentsl": np.eye(45), "hands_componentsr": np.eye(45),
        "hands_meanl": np.zeros(45), "hands_meanr": np.zeros(45),
    }  # fmt: skip
    if model.part is not None:
        arrays["vertex_part"] = model.part
    if model.unit_matrix is not None:
        arrays |= {"unit_names": np.array(model.unit_names), "unit_matrix": model.unit_matrix}
    if model.landmarks:
        faces = topology.faces_with(model.faces, model.landmarks["vertices"])
        weights = model.landmarks["barycentric"].astype(np.float64)
        inner, jaw = list(INNER_68), list(JAW_68)
        arrays |= {f"landmark_{name}": array for name, array in model.landmarks.items()}
        arrays |= {"lmk_faces_idx": faces[inner], "lmk_bary_coords": weights[inner],
                   "dynamic_lmk_faces_idx": np.tile(faces[jaw], (79, 1)),  # the same at every yaw
                   "dynamic_lmk_bary_coords": np.tile(weights[jaw], (79, 1, 1))}  # fmt: skip
    return arrays
