"""The dynamic offsets D_t of a clip: on disk, a mini-batch of frames in memory."""

import torch
from torch import Tensor

from expportrait.fit.solvers.adam import adam_step
from expportrait.fit.spool import FrameFile


class DynamicField:
    """(T, n, 3) m, zero at first, with their Adam moments. ``field[frames]`` reads rows.

    ``load`` gives a batch as a leaf to differentiate by, ``step`` moves it and writes it back. What all frames have in
    common is held apart in ``shift``, so that ``recentre`` costs nothing however long the clip.
    """

    def __init__(self, frames: int, vertices: int, device: torch.device | str = "cpu"):
        self.device = device
        self._rows = FrameFile(frames, (vertices, 3))
        self._first = FrameFile(frames, (vertices, 3))
        self._second, self._steps = (torch.zeros(frames, device=device) for _ in range(2))
        self._sum = torch.zeros(vertices, 3, dtype=torch.float64, device=device)
        self.shift = torch.zeros(vertices, 3, device=device)
        self.moved = False

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, frames: Tensor | slice) -> Tensor:
        return self._rows[frames].to(self.device) + self.shift

    def load(self, frames: Tensor) -> Tensor:
        """(B, n, 3) leaf that ``step`` will move."""
        self._batch = frames, self[frames].requires_grad_(True)
        return self._batch[1]

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: float) -> None:
        """One Adam step of the loaded rows, one second moment a frame."""
        frames, _ = self._batch
        self._steps[frames] += 1
        change, first, self._second[frames] = adam_step(
            gradient, self._first[frames].to(self.device), self._second[frames], self._steps[frames]
        )
        self._first[frames] = first
        self.move(frames, rate * change)

    def move(self, frames: Tensor, change: Tensor) -> None:
        """Add ``change`` (B, n, 3) m to the rows of ``frames``."""
        self._rows[frames] = self._rows[frames].to(self.device) + change
        self._sum += change.sum(0)
        self.moved = True

    def mean(self) -> Tensor:
        """(n, 3) over the clip."""
        return (self._sum / len(self)).float() + self.shift

    def copy(self) -> "DynamicField":
        """A field of its own with the same rows and moments."""
        other = DynamicField(len(self), len(self.shift), self.device)
        if self.moved:
            for one in torch.arange(len(self)).split(1):
                other._rows[one], other._first[one] = self._rows[one], self._first[one]
        other._second, other._steps, other._sum = self._second.clone(), self._steps.clone(), self._sum.clone()
        other.shift, other.moved = self.shift.clone(), self.moved
        return other
