"""The offsets of eq. (4), m_s D_s + m_d D_t: their sum on the dense mesh, and D_t of a long clip read on demand."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from expportrait.head import Head


class Offsets:
    """D_t (T, n, 3), m, read or made where frames are asked for, as a long clip's do not fit into memory; ``[:]`` is
    all of them."""

    def __init__(self, frames: int, some: Callable[[slice | Tensor], Tensor]):
        """``some``: the offsets of these frames."""
        self._frames, self._some = frames, some

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, frames: slice | Tensor) -> Tensor:
        return self._some(frames)

    def numpy(self) -> np.ndarray:
        """The whole clip in memory."""
        return self[:].cpu().numpy()


def displacement(static: Tensor, dynamic: Tensor | None, vertices: Tensor) -> Tensor:
    """(B, n_d, 3) m: the masked fields ``static`` (n_d, 3) and ``dynamic`` (B, n_f, 3) together, the latter of these
    ``vertices`` (n_f,); B is 1 without D_t."""
    if dynamic is None:
        return static.unsqueeze(0)
    return static.expand(len(dynamic), -1, -1).index_add(1, vertices, dynamic)


def displaced(
    head: Head, shape: Tensor, expression: Tensor, matrices: Tensor, translation: Tensor, offset: Tensor
) -> Tensor:
    """(B, n_d, 3) m, camera space: eq. (4) with ``offset`` (1 or B, n_d, 3) m, see ``displacement``.

    shape (S,), expression (B, E), joints' matrices (B, 10, 3, 3), translation (B, 3) m.
    """
    return head.pose(head.dense, shape, expression, matrices, translation, offset)
