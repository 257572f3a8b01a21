"""The SMPL-X file layout: the joints, reading a file of a user's, packing and unpacking the open head.

Key table of the format: ``docs/head.md``.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from expportrait.errors import UserError
from expportrait.files import sha256

OPEN_HEAD = Path(__file__).with_name("open_head.npz")
SMPLX_JOINTS = 55
NECK, HEAD, JAW, LEFT_EYE, RIGHT_EYE = 12, 15, 22, 23, 24
PARENTS = np.array(
    [
        -1,
        0,
        0,
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        9,
        9,
        12,
        13,
        14,
        16,
        17,
        18,
        19,
        15,
        15,
        15,
        20,
        25,
        26,
        20,
        28,
        29,
        20,
        31,
        32,
        20,
        34,
        35,
        20,
        37,
        38,
        21,
        40,
        41,
        21,
        43,
        44,
        21,
        46,
        47,
        21,
        49,
        50,
        21,
        52,
        53,
    ]
)
PARTS = ("skin", "eye", "teeth", "tongue")
SHAPE_SLOTS = 300  # of the 400 columns of shapedirs; the other 100 are expression


@dataclass
class BodyModel:
    """A whole body in SMPL-X's layout. Metres; N vertices."""

    template: np.ndarray  # (N,3)
    faces: np.ndarray  # (F,3) int64
    shape_basis: np.ndarray  # (N,3,S)
    expression_basis: np.ndarray  # (N,3,E)
    pose_basis: np.ndarray | None  # (N,3,486), rows of R - I of joints 1..54; None where it is zero
    joint_regressor: sparse.csr_matrix  # (55,N)
    weights: np.ndarray  # (N,55)
    sha256: str
    part: np.ndarray | None = None  # (N,) index into PARTS; None where the file does not say
    unit_names: tuple[str, ...] = ()
    unit_matrix: np.ndarray | None = None  # (units, E): activations (0..1) @ matrix = expression coefficients
    landmarks: dict[str, np.ndarray] = field(default_factory=dict)  # the arrays of embedding.Embedding


def read_model(file: Path | None, shape_components: int, expression_components: int) -> BodyModel:
    """A user's SMPL-X file, or the open head where ``file`` is None; at most that many components, fewer if it has
    fewer. Raises UserError for a file that is not SMPL-X."""
    if file is None:
        return unpack_open_head(OPEN_HEAD, shape_components, expression_components)
    return read_smplx(Path(file), shape_components, expression_components)


# --- a user's file ----------------------------------------------------------------------------------------------------


def read_smplx(file: Path, shape_components: int, expression_components: int) -> BodyModel:
    """Read ``SMPLX_*.npz``; see :func:`read_model`."""
    hint = "Point head.file at the SMPL-X model, e.g. SMPLX_NEUTRAL.npz."
    if not file.is_file():
        raise UserError(f"There is no head model at {file}. {hint}")
    if file.suffix == ".pkl":
        raise UserError(f"{file} is a .pkl file (SMPL or FLAME, or SMPL-X's older form). {hint}")
    try:
        archive = np.load(file, allow_pickle=True)
        keys = set(archive.files)
    except Exception:
        raise UserError(f"{file} is not a readable .npz file. {hint}") from None
    if "weight_joints" in keys:
        return unpack_open_head(file, shape_components, expression_components)
    needed = {
        "v_template": 2,
        "f": 2,
        "shapedirs": 3,
        "posedirs": 3,
        "J_regressor": 2,
        "weights": 2,
        "kintree_table": 2,
    }
    if missing := sorted(set(needed) - keys):
        raise UserError(f"{file} is not an SMPL-X model: it lacks {', '.join(missing)}. {hint}")

    arrays = {name: archive[name] for name in needed}
    regressor = arrays["J_regressor"]
    regressor = regressor.item() if regressor.dtype == object and regressor.ndim == 0 else regressor
    joints, n = regressor.shape
    if joints != SMPLX_JOINTS or arrays["weights"].shape[1:] != (SMPLX_JOINTS,):
        kind = {24: "SMPL", 52: "SMPL-H", 5: "FLAME"}.get(joints, "another model")
        raise UserError(f"{file} has {joints} joints, as {kind} does; SMPL-X has {SMPLX_JOINTS}. {hint}")
    for name, dims in needed.items():
        if name != "J_regressor" and arrays[name].ndim != dims:
            raise UserError(f"{file}: {name} has {arrays[name].ndim} dimensions where SMPL-X has {dims}. {hint}")
    sizes = {name: arrays[name].shape[0] for name in ("v_template", "shapedirs", "posedirs", "weights")}
    if set(sizes.values()) != {n} or arrays["f"].max() >= n:
        raise UserError(f"{file}: its arrays disagree on the number of vertices ({sizes}, joints' {n}).")

    directions = arrays["shapedirs"]
    shape, expression = split_directions(directions.shape[2])
    pose = np.asarray(arrays["posedirs"], np.float32).reshape(n, 3, -1)
    return BodyModel(
        template=np.asarray(arrays["v_template"], np.float32),
        faces=np.asarray(arrays["f"], np.int64),
        shape_basis=used(directions[:, :, shape][:, :, :shape_components]),
        expression_basis=used(directions[:, :, expression][:, :, :expression_components]),
        pose_basis=pose if pose.any() else None,
        joint_regressor=sparse.csr_matrix(regressor).astype(np.float64),
        weights=np.asarray(arrays["weights"], np.float32),
        sha256=sha256(file),
        **own_keys(archive),
    )


def own_keys(archive: np.lib.npyio.NpzFile) -> dict:
    """What our own files say beyond SMPL-X's keys."""
    own = {"landmarks": {name[9:]: archive[name] for name in archive.files if name.startswith("landmark_")}}
    if "vertex_part" in archive.files:
        own["part"] = archive["vertex_part"]
    if "unit_matrix" in archive.files:
        own |= {"unit_names": tuple(archive["unit_names"].tolist()), "unit_matrix": archive["unit_matrix"]}
    return own


def used(basis: np.ndarray) -> np.ndarray:
    """Without the zero components at its end, as float32."""
    count = np.flatnonzero(basis.any((0, 1))).max(initial=-1) + 1
    return np.asarray(basis[:, :, :count], np.float32)


def split_directions(columns: int) -> tuple[slice, slice]:
    """Shape and expression columns of ``shapedirs``: 300 + 100, or, in older files of fewer than 400, 10 + 10."""
    if columns >= SHAPE_SLOTS + 100:
        return slice(0, SHAPE_SLOTS), slice(SHAPE_SLOTS, SHAPE_SLOTS + 100)
    return slice(0, 10), slice(10, 20)


# --- the open head ----------------------------------------------------------------------------------------------------


def pack_open_head(out: Path, model: BodyModel) -> None:
    """Write the compact asset: bases as int16 steps of 0.01 mm, weights as the six largest in 1/65535."""
    top = np.argsort(-model.weights, axis=1, kind="stable")[:, :6]
    values = np.take_along_axis(model.weights, top, 1)
    values /= values.sum(1, keepdims=True)
    regressor = model.joint_regressor.tocoo()
    np.savez_compressed(
        out,
        template=model.template.astype(np.float32),
        faces=model.faces.astype(np.uint16),
        vertex_part=model.part.astype(np.uint8),
        weight_joints=top.astype(np.uint8),
        weights=np.round(values * 65535).astype(np.uint16),
        shape_basis=steps(model.shape_basis),
        expression_basis=steps(model.expression_basis),
        regressor_rows=regressor.row.astype(np.uint8),
        regressor_columns=regressor.col.astype(np.uint16),
        regressor_values=regressor.data.astype(np.float32),
        unit_names=np.array(model.unit_names),
        unit_matrix=model.unit_matrix.astype(np.float32),
    )


def add_landmarks(file: Path, landmarks: dict[str, np.ndarray]) -> None:
    """Put the arrays of embedding.Embedding into a packed open head, replacing those it may have."""
    with np.load(file) as packed:
        arrays = {name: packed[name] for name in packed.files if not name.startswith("landmark_")}
    np.savez_compressed(file, **arrays, **{f"landmark_{name}": array for name, array in landmarks.items()})


STEP = 1e-5


def steps(basis: np.ndarray) -> np.ndarray:
    """(N,3,C) metres -> (C,3,N) steps: neighbouring vertices side by side pack best."""
    return np.ascontiguousarray(np.round(basis / STEP).transpose(2, 1, 0)).astype(np.int16)


def unpack_open_head(file: Path, shape_components: int, expression_components: int) -> BodyModel:
    """Read the packed open head."""
    packed = np.load(file)
    n = len(packed["template"])
    weights = np.zeros((n, SMPLX_JOINTS), np.float32)
    np.put_along_axis(weights, packed["weight_joints"].astype(np.int64), packed["weights"].astype(np.float32), 1)
    shape, expression = (
        packed[f"{name}_basis"][:count].transpose(2, 1, 0).astype(np.float32) * np.float32(STEP)
        for name, count in (("shape", shape_components), ("expression", expression_components))
    )
    regressor = sparse.csr_matrix(
        (packed["regressor_values"].astype(np.float64), (packed["regressor_rows"], packed["regressor_columns"])),
        (SMPLX_JOINTS, n),
    )
    return BodyModel(
        template=packed["template"],
        faces=packed["faces"].astype(np.int64),
        shape_basis=shape,
        expression_basis=expression,
        pose_basis=None,
        joint_regressor=regressor,
        weights=weights / weights.sum(1, keepdims=True),
        sha256=sha256(file),
        **own_keys(packed),
    )
