"""The proxy's artifact: writing a fit to a store, and reading it back as posed vertices (docs/artifacts.md)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expportrait.errors import ClipError
from expportrait.fit.displacement import Offsets, displaced, displacement
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.result import ProxyFit
from expportrait.fit.terms.table import TERMS
from expportrait.head import Head
from expportrait.head.model import blend
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.render import Camera
from expportrait.store import Store, StoreWriter
from expportrait.store.frames import Frames

STEPS = 2**17  # a metre: dynamic offsets are rounded to 8 micrometres, which halves what they take
BLOCK = 16  # frames of D_t in memory


def save_proxy(out: StoreWriter, fit: ProxyFit, head: Head) -> None:
    """Write every array and attribute of a proxy store; how to load its head stands in the store's settings."""
    p = fit.parameters.to("cpu")
    out.array("shape", p.shape.numpy())
    out.array("expression", p.expression.numpy())
    out.array("pose", p.pose().numpy(), unit="rad", joints=list(head.JOINTS))
    out.array("translation", p.translation().numpy(), unit="m", pivot="neck joint")
    out.array("static_offset", fit.static.cpu().numpy(), unit="m", masked="m_s applied")
    starts = range(0, len(fit.dynamic), BLOCK)
    blocks = (packable(fit.dynamic[first : first + BLOCK].cpu().numpy()) for first in starts)
    out.array("dynamic_offset", blocks, frames=len(fit.dynamic), unit="m", masked="m_d applied")
    out.array("dynamic_vertices", fit.dynamic_vertices.cpu().numpy().astype(np.int32))
    out.array("landmark_error", fit.errors["landmark"].cpu().numpy(), unit="inter-ocular distances")
    out.array("normal_error", fit.errors["normal_deg"].cpu().numpy(), unit="degrees")
    out.array("overlap", fit.errors["overlap"].cpu().numpy(), unit="intersection over union with the mask")
    if fit.frame_weight is not None:
        out.array("frame_weight", fit.frame_weight.cpu().numpy(), meaning="share that the frame's own estimates had")
    if fit.set_aside is not None:
        out.array("set_aside", fit.set_aside.cpu().numpy(), meaning="share of the mask that counted for nothing")
    if fit.landmarks_aside is not None:
        out.array("landmarks_aside", fit.landmarks_aside.cpu().numpy(), meaning="landmarks not believed: guesses")
    if fit.evidence is not None:
        out.array("evidence", fit.evidence.cpu().numpy(), meaning="mean trust in what the estimates say of a vertex")
    terms = [name for names in TERMS.values() for name in names]
    if unknown := {name for _, step in fit.losses for name in step} - {*terms}:
        raise ValueError(f"TERMS lacks {sorted(unknown)}")
    loss = np.array([[step.get(term, np.nan) for term in terms] for _, step in fit.losses], np.float32)
    out.array("loss", loss, terms=terms, weighted=True)
    stages: list[tuple[str, int]] = []
    for step, (name, _) in enumerate(fit.losses):
        if not stages or stages[-1][0] != name:
            stages.append((name, step))
    out.attrs(
        focal=float(p.log_focal.exp()),
        size=p.size,
        head_sha256=head.sha256,
        loss_stage=stages,
        normal_bias=fit.normal_bias,
        conventions="metres; camera at the origin looking along -z, y up; axis-angle; principal point at the centre",
    )


def packable(offsets: np.ndarray) -> np.ndarray:
    """Offsets, m, rounded to ``STEPS``."""
    return (np.rint(offsets * STEPS) / STEPS).astype(np.float16)


@dataclass
class FittedHead:
    """A proxy store: one person's head in every frame of one clip. D_t stays on the disk.

    ``weight`` (n_d,): how far each vertex follows the expression from ``start`` (E,) on, as gains of a driven head
    have it; None: all the way.
    """

    head: Head
    shape: Tensor
    expression: Tensor
    pose: Tensor
    translation: Tensor
    static: Tensor
    dynamic: Tensor | Offsets
    dynamic_vertices: Tensor
    camera: Camera
    weight: Tensor | None = None
    start: Tensor | None = None

    @property
    def frames(self) -> int:
        return len(self.expression)

    def vertices(self, frames: Tensor | slice = slice(None)) -> Tensor:
        """(B, n_d, 3) camera space, m: eq. (4)."""
        offset = displacement(self.static, self.dynamic[frames], self.dynamic_vertices)
        expression = self.expression[frames]
        if self.weight is not None:
            moved = blend(self.head.dense.expression_basis, expression - self.start)
            offset = offset + (self.weight - 1)[:, None] * moved
        matrices, translation = axis_angle_to_matrix(self.pose[frames]), self.translation[frames]
        return displaced(self.head, self.shape, expression, matrices, translation, offset)

    def neutral(self) -> Tensor:
        """(n_d, 3) the person's neutral head with m_s D_s, unposed, m: eq. (3) at psi = 0 and D_t = 0."""
        return (
            self.head.dense.canonical(self.shape, self.expression.new_zeros(1, self.head.n_expression))[0] + self.static
        )


def load_proxy(store: Store, head: Head) -> FittedHead:
    """Read a proxy store back; ``head`` must be the one it was fitted with (same file and settings)."""
    if store.attrs["head_sha256"] != head.sha256:
        raise ClipError(
            f"{store.path} was fitted with another head file "
            f"({store.attrs['head_sha256'][:12]}, not {head.sha256[:12]}); run proxy again"
        )
    size = store.attrs["size"]

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(store[name])).to(head.coarse.template.device)

    stored = Frames(store, "dynamic_offset", 0)

    def some(frames: slice | Tensor) -> Tensor:
        read = stored[frames if isinstance(frames, slice) else frames.cpu().numpy()]
        return torch.from_numpy(read).to(head.coarse.template.device).float()

    return FittedHead(
        head=head,
        shape=tensor("shape"),
        expression=tensor("expression"),
        pose=tensor("pose"),
        translation=tensor("translation"),
        static=tensor("static_offset"),
        dynamic=Offsets(len(stored), some),
        dynamic_vertices=tensor("dynamic_vertices").long(),
        camera=Camera(store.attrs["focal"], size / 2, size / 2, size, size),
    )


def parameters_of(fitted: FittedHead) -> HeadParameters:
    """The coarse unknowns of a stored proxy, to start another fit from."""
    parameters = HeadParameters.neutral(fitted.head, fitted.frames, fitted.camera.height, float(fitted.camera.focal))
    parameters.shape, parameters.expression = fitted.shape.clone(), fitted.expression.clone()
    parameters.set_pose(fitted.pose, fitted.translation)
    return parameters
