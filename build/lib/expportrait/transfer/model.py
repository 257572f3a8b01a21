"""Encoder E and decoder G of the expression transfer: eq. (8) and (9).

    z_1..z_T = E(psi_1..psi_T, jaw_1..jaw_T)              temporal convolutions without any bias
    D_t(v)   = G(v's features, z_t) = A(v's features) z_t   A, a 3 x K matrix a vertex, from an MLP

Neutral input is zero, and E has no bias, so z at psi = 0 is exactly 0, and so is G there: the difference
G(., z) - G(., z at psi = 0), which fixes the gauge of the zero-mean D_t, is G itself. A depends on the vertex and the
person alone: it is computed once a head, not once a frame.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from expportrait.errors import UserError
from expportrait.head import JOINTS, Head
from expportrait.head.rotation import axis_angle_to_matrix, matrix_to_sixd
from expportrait.render import vertex_normals

JAW = JOINTS.index("jaw")
DILATIONS = (1, 2, 4)
KERNEL = 5
UNIT = 0.1  # m, about half a face
OCTAVES = 5  # the shortest wave of the positional features is 12 mm long


@dataclass(frozen=True)
class TransferConfig:
    """``scale``: m, size of the offsets learnt from, so that the network's outputs are about 1.
    ``head_sha256``: the head file whose expression coefficients and vertices the weights know."""

    expression: int
    features: int
    encoder_width: int = 256
    code: int = 128
    vertex_width: int = 128
    scale: float = 1e-3
    head_sha256: str = ""


class Transfer(nn.Module):
    """E and G; offsets of T frames and V vertices from motion (B, T, C) and features (B, V, F)."""

    def __init__(self, config: TransferConfig):
        super().__init__()
        self.config = config
        wide, code, hidden = config.encoder_width, config.code, config.vertex_width
        self.enter = nn.Linear(config.expression + 6, wide, bias=False)
        self.steps = nn.ModuleList(nn.Conv1d(wide, wide, KERNEL, dilation=d, bias=False) for d in DILATIONS)
        self.leave = nn.Linear(wide, code, bias=False)
        self.vertex = nn.Sequential(
            nn.Linear(config.features, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 3 * code),
        )  # fmt: skip
        nn.init.zeros_(self.vertex[-1].weight)
        nn.init.zeros_(self.vertex[-1].bias)

    def encode(self, motion: Tensor) -> Tensor:
        """Eq. (8): (B, T, C) of ``motion_of`` -> codes z (B, T, K); the clip's ends are held."""
        x = self.enter(motion).transpose(1, 2)
        for step, dilation in zip(self.steps, DILATIONS, strict=True):
            reach = dilation * (KERNEL - 1) // 2
            x = x + F.gelu(step(F.pad(x, (reach, reach), mode="replicate")))
        return self.leave(x.transpose(1, 2))

    def matrices(self, features: Tensor) -> Tensor:
        """A of each vertex: (..., V, F) -> (..., V, 3, K)."""
        return self.vertex(features).unflatten(-1, (3, self.config.code))

    def forward(self, motion: Tensor, features: Tensor) -> Tensor:
        """Eq. (9): offsets (B, T, V, 3) m, to be multiplied by m_d; zero where the motion around t is neutral."""
        return self.decode(self.encode(motion), self.matrices(features))

    def decode(self, codes: Tensor, matrices: Tensor) -> Tensor:
        """Codes (B, T, K) and matrices (B, V, 3, K) -> offsets (B, T, V, 3) m."""
        flat = codes @ matrices.flatten(-3, -2).transpose(-1, -2)
        return self.config.scale * flat.unflatten(-1, (-1, 3))

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {"_class_name": type(self).__name__} | asdict(self.config)
        (folder / "config.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Read what ``save_pretrained`` wrote. Raises UserError where the folder does not hold a whole model."""
        try:
            about = json.loads((folder / "config.json").read_text("utf-8"))
            if about.pop("_class_name", None) != cls.__name__:
                raise ValueError("config.json is of another class")
            model = cls(TransferConfig(**about))
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{folder} does not hold a transfer module ({error}); run the stage again") from None
        return model.eval()


def motion_of(expression: Tensor, jaw: Tensor) -> Tensor:
    """psi (T, E) and the jaw (T, 3) axis-angle -> the encoder's input (T, E + 6), zero for the neutral face."""
    turned = axis_angle_to_matrix(jaw)
    rest = torch.eye(3, dtype=turned.dtype, device=turned.device)
    return torch.cat([expression, matrix_to_sixd(turned - rest)], -1)


def person_features(head: Head, neutral: Tensor, rows: Tensor) -> Tensor:
    """A person's part of the features, (V, 9): neutral position about the face's centre, its difference to the
    template's, and the normal. ``neutral`` (n_d, 3) = V^ + m_s D_s, m; ``rows`` (V,) of the dense mesh."""
    normals = vertex_normals(neutral[None], head.dense_faces)[0]
    own, template = (_about_face(head, points)[rows] for points in (neutral, head.dense.template))
    return torch.cat([own, 10 * (own - template), normals[rows]], -1)


def shared_features(head: Head, rows: Tensor) -> Tensor:
    """Everyone's part, (V, 31): the template's position in waves, and how much the jaw carries the vertex."""
    position = _about_face(head, head.dense.template)[rows]
    waves = position.unsqueeze(-1) * math.pi * 2.0 ** torch.arange(OCTAVES, device=position.device)
    return torch.cat([waves.sin().flatten(1), waves.cos().flatten(1), head.dense.weights[rows, JAW : JAW + 1]], -1)


def vertex_features(head: Head, neutral: Tensor, rows: Tensor) -> Tensor:
    """Both parts, (V, F)."""
    return torch.cat([person_features(head, neutral, rows), shared_features(head, rows)], -1)


def _about_face(head: Head, points: Tensor) -> Tensor:
    """Body height moves the whole head: places count from the mean of the face."""
    weight = head.dynamic_mask.unsqueeze(-1)
    return (points - (weight * points).sum(0) / weight.sum()) / UNIT


def face_rows(head: Head) -> Tensor:
    """(V,) vertices of the dense mesh where m_d acts, in the order of a proxy's ``dynamic_vertices``."""
    return torch.nonzero(head.dynamic_mask > 1e-3).squeeze(-1)
