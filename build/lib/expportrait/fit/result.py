"""What a fit hands back, before it is stored."""

from dataclasses import dataclass, field

from torch import Tensor

from expportrait.fit.displacement import Offsets, displaced, displacement
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head


@dataclass
class ProxyFit:
    """The fit's unknowns and its records. Offsets are already masked: m_s D_s (n_d, 3) and m_d D_t (T, n_f, 3), m."""

    parameters: HeadParameters
    static: Tensor
    dynamic: Tensor | Offsets
    dynamic_vertices: Tensor  # (n_f,) rows of the dense mesh where m_d > 0
    losses: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    errors: dict[str, Tensor] = field(default_factory=dict)
    frame_weight: Tensor | None = None  # (T,) 0..1, how much a frame's own estimates counted
    set_aside: Tensor | None = None  # (T,) share of a frame's mask that counted for nothing
    landmarks_aside: Tensor | None = None  # (T,) bool, frames whose landmarks were not believed
    evidence: Tensor | None = None  # (n_d,) 0..1, mean trust in what the estimates say of a vertex
    normal_bias: float | None = None  # degrees, root mean square of what the estimated normals were taken to lean

    def offset(self, frames: Tensor | slice) -> Tensor:
        """(B, n_d, 3) m: the two fields together."""
        return displacement(self.static, self.dynamic[frames], self.dynamic_vertices)

    def vertices(self, head: Head, frames: Tensor | slice = slice(None)) -> Tensor:
        """(B, n_d, 3) m, camera space: eq. (4)."""
        p = self.parameters
        return displaced(
            head, p.shape, p.expression[frames], p.matrices(frames), p.translation(frames), self.offset(frames)
        )
