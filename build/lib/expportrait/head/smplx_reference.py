"""The ``smplx`` package as the reference for our own forward pass. The only module that imports it: its licence allows
non-commercial research alone."""

from pathlib import Path

import torch
from torch import Tensor

from expportrait.head.model import JOINTS, Head
from expportrait.head.smplx import to_smplx

BODY_POSE = {"neck": 11, "head": 14, "left_collar": 12, "right_collar": 13, "left_shoulder": 15, "right_shoulder": 16}


def load(file: Path) -> torch.nn.Module:
    """The body model of smplx; the file's name must begin with ``SMPLX_``."""
    import smplx

    sizes = {"num_betas": 300, "num_expression_coeffs": 100}
    return smplx.create(str(file), "smplx", use_pca=False, flat_hand_mean=True, **sizes)


def vertices(
    model: torch.nn.Module, head: Head, shape: Tensor, expression: Tensor, pose: Tensor, translation: Tensor
) -> Tensor:
    """Whole-body vertices (T,N,3) as smplx poses them: shape (S,), expression (T,E), pose (T,10,3) axis-angle in the
    order of JOINTS, our translation (T,3)."""
    t = len(pose)
    of = dict(zip(JOINTS, pose.unbind(1), strict=True))
    body = torch.zeros(t, 21, 3)
    for name, index in BODY_POSE.items():
        body[:, index] = of[name]
    pad = torch.nn.functional.pad
    out = model(
        betas=pad(shape, (0, 300 - len(shape))).expand(t, -1),
        expression=pad(expression, (0, 100 - expression.shape[1])),
        global_orient=of["global"], body_pose=body.flatten(1), jaw_pose=of["jaw"], leye_pose=of["left_eye"],
        reye_pose=of["right_eye"], left_hand_pose=torch.zeros(t, 45), right_hand_pose=torch.zeros(t, 45),
        transl=to_smplx(head, shape, expression, of["global"], translation),
    )  # fmt: skip
    return out.vertices
