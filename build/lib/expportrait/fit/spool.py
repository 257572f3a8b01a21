"""Per-frame values of a long clip, kept in a temporary file and read a few frames at a time."""

import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from expportrait.files import in_temporary_folder, temporary_file


class FrameFile:
    """(T, ...) values on disk, zero at first; ``file[frames]`` copies rows out and ``file[frames] = x`` copies them in.

    The file has no name and goes with the object. It is read and written, not mapped, so that frames count for
    nothing in the process's memory. It lies in $TMPDIR, which should be a disk. Raises MachineFault where that is full.
    """

    def __init__(self, frames: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32):
        self.frames, self.shape, self.dtype = frames, shape, dtype
        self._bytes = int(np.prod(shape)) * dtype.itemsize
        self._file = temporary_file()
        with in_temporary_folder():
            self._file.truncate(frames * self._bytes)  # a hole: takes no room before it is written

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frames: Tensor | slice) -> Tensor:
        """(B, ...) on the CPU."""
        rows = self._rows(frames)
        out = torch.empty((len(rows), *self.shape), dtype=self.dtype)
        flat = out.flatten().view(torch.uint8).numpy() if out.numel() else np.empty(0, np.uint8)
        for k, row in enumerate(rows):
            part = memoryview(flat[k * self._bytes : (k + 1) * self._bytes])
            while len(part):
                got = os.preadv(self._file.fileno(), [part], (row + 1) * self._bytes - len(part))
                if not got:
                    raise OSError(f"frame {row} is missing from a temporary file in {tempfile.gettempdir()}")
                part = part[got:]
        return out

    def __setitem__(self, frames: Tensor | slice, values: Tensor) -> None:
        rows = self._rows(frames)
        values = values.detach().to("cpu", self.dtype).expand(len(rows), *self.shape).contiguous()
        flat = values.flatten().view(torch.uint8).numpy()
        for k, row in enumerate(rows):
            part = memoryview(flat[k * self._bytes : (k + 1) * self._bytes])
            while len(part):
                with in_temporary_folder():
                    part = part[os.pwrite(self._file.fileno(), part, (row + 1) * self._bytes - len(part)) :]

    def _rows(self, frames: Tensor | slice) -> list[int]:
        if isinstance(frames, slice):
            return list(range(*frames.indices(self.frames)))
        return frames.tolist()
