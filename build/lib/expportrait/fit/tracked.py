"""Pre-tracked SMPL-X parameters as the coarse start (``proxy.init: file``), as in the paper."""

from pathlib import Path

import numpy as np
import torch

from expportrait.errors import ClipError
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from expportrait.head.smplx import fold_spine, from_smplx

REQUIRED = {
    "betas": (1, None),
    "expression": (2, None),
    "global_orient": (2, 3),
    "transl": (2, 3),
    "focal_length": (0, None),
}
OPTIONAL = {"neck_pose": 3, "head_pose": 3, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "body_pose": 63}
SPINE = (2, 5, 8)  # rows of body_pose, which leaves out the pelvis
BODY = {"neck": 11, "head": 14, "left_collar": 12, "right_collar": 13, "left_shoulder": 15, "right_shoulder": 16}


def checked(path: Path, frames: int) -> dict[str, np.ndarray]:
    """The arrays of a file, once all that is required of a clip of so many frames is there. Raises ClipError."""
    if not path.exists():
        raise ClipError(
            f"{path} is missing: proxy.init is 'file', which reads one .npz a clip from proxy.init_dir", retry=True
        )
    try:
        with np.load(path) as data:
            values = {key: np.asarray(data[key]) for key in data.files}
    except (OSError, ValueError) as error:
        raise ClipError(f"{path} is not a readable .npz file ({error})") from None
    for key, (dims, last) in REQUIRED.items():
        if key not in values:
            raise ClipError(f"{path} has no '{key}'; it needs {', '.join(REQUIRED)}")
        shape = values[key].squeeze().shape if dims < 2 else values[key].shape
        if len(shape) != dims or (last and shape[-1] != last) or (dims == 2 and shape[0] != frames):
            raise ClipError(f"{path}: '{key}' has shape {values[key].shape}, the clip has {frames} frames")
    return values


def read_tracked(path: Path, head: Head, frames: int, size: int) -> HeadParameters:
    """Read ``<clip>.npz``: SMPL-X parameters tracked on the cropped frames.

    Keys, SMPL-X's names: betas (S,), expression (T, E), global_orient (T, 3), transl (T, 3), focal_length () px of
    the cropped frames; optional body_pose (T, 63) or neck_pose and head_pose (T, 3), jaw_pose, leye_pose, reye_pose
    (T, 3), and convention, "opengl" (y up, the default) or "opencv" (y down). Raises ClipError on a file that is
    missing, has other keys or another number of frames.
    """
    values = checked(path, frames)
    device = head.coarse.template.device
    tensors = {k: torch.from_numpy(v.astype(np.float32)).to(device) for k, v in values.items() if v.dtype.kind in "fiu"}

    parameters = HeadParameters.neutral(head, frames, size, float(tensors["focal_length"].squeeze()))
    for name, target in (("betas", parameters.shape), ("expression", parameters.expression)):
        source = tensors[name].squeeze(0) if name == "betas" and tensors[name].dim() == 2 else tensors[name]
        n = min(source.shape[-1], target.shape[-1])
        target[..., :n] = source[..., :n]

    pose = torch.zeros(frames, 10, 3, device=device)
    pose[:, 0] = tensors["global_orient"]
    for key in (k for k in OPTIONAL if k in tensors):
        if tensors[key].shape != (frames, OPTIONAL[key]):
            raise ClipError(
                f"{path}: '{key}' has shape {tuple(tensors[key].shape)}, expected {(frames, OPTIONAL[key])}"
            )
    if "body_pose" in tensors:
        body = tensors["body_pose"].view(frames, 21, 3)
        for name, index in BODY.items():
            pose[:, head.JOINTS.index(name)] = body[:, index]
    for key, name in (
        ("neck_pose", "neck"),
        ("head_pose", "head"),
        ("jaw_pose", "jaw"),
        ("leye_pose", "left_eye"),
        ("reye_pose", "right_eye"),
    ):
        if key in tensors:
            pose[:, head.JOINTS.index(name)] = tensors[key]

    transl = tensors["transl"]
    if "body_pose" in tensors:
        turn, transl = fold_spine(
            head, parameters.shape, parameters.expression, pose[:, 0], transl, body[:, list(SPINE)]
        )
        pose[:, 0] = matrix_to_axis_angle(turn)
    translation = from_smplx(head, parameters.shape, parameters.expression, pose[:, 0], transl)
    if str(values.get("convention", "opengl")) == "opencv":
        flip = torch.diag(pose.new_tensor([1.0, -1.0, -1.0]))
        pose[:, 0] = matrix_to_axis_angle(flip @ axis_angle_to_matrix(pose[:, 0]))
        translation = translation @ flip
    if (translation[:, 2] >= 0).any():
        raise ClipError(f"{path}: the head stands behind the camera; with y-down parameters set convention='opencv'")
    parameters.set_pose(pose, translation)
    return parameters
