"""Training samples of the expression transfer: stretches of fitted clips, at some frames and vertices.

Every random choice is a function of (seed, its own tag, step), so that a run that goes on after a kill sees what an
unbroken one would see.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from expportrait.errors import ClipError, UserError
from expportrait.fit.store import load_proxy
from expportrait.head import Head
from expportrait.rng import random_generator
from expportrait.settings.config import Transfer as Settings
from expportrait.store import Store
from expportrait.transfer.model import JAW, face_rows, motion_of, person_features, shared_features

CACHE_BYTES = 4 << 30  # of offsets kept in memory


@dataclass
class FittedClip:
    """What a clip's proxy says of expression. motion (T, C); person (V, 9), see ``person_features``."""

    path: Path
    motion: Tensor
    person: Tensor

    @property
    def frames(self) -> int:
        return len(self.motion)

    def offsets(self) -> np.ndarray:
        """(T, V, 3) float16 m: m_d D_t."""
        return Store(self.path)["dynamic_offset"]


@dataclass
class Batch:
    """B clips: motion (B, W, C), the frames looked at (B, F) as indices into W, in pairs of neighbours, features
    (B, V, F'), targets (B, F, V, 3) m, and m_d (V, 1)."""

    motion: Tensor
    frames: Tensor
    features: Tensor
    target: Tensor
    mask: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(*(value.to(device) for value in vars(self).values()))


class FittedClips:
    """Fitted clips by name, in the order of their names. Raises UserError where one was fitted with another head."""

    def __init__(self, proxies: Mapping[str, Path], head: Head, progress: Iterable[str] | None = None):
        self.head, self.rows = head, face_rows(head)
        self.shared = shared_features(head, self.rows)
        self.mask = head.dynamic_mask[self.rows].unsqueeze(-1)
        self.clips: dict[str, FittedClip] = {}
        for name in progress if progress is not None else sorted(proxies):
            try:
                fitted = load_proxy(Store(proxies[name]).check(), head)
            except ClipError as error:
                raise UserError(str(error)) from None
            person = person_features(head, fitted.neutral(), self.rows)
            self.clips[name] = FittedClip(proxies[name], motion_of(fitted.expression, fitted.pose[:, JAW]), person)
        self.names = [name for name, clip in self.clips.items() if clip.frames > 1]
        longest = max((clip.frames for clip in self.clips.values()), default=1)
        self._read = lru_cache(max(1, CACHE_BYTES // (longest * len(self.rows) * 6)))(lambda n: self.clips[n].offsets())

    def features(self, name: str) -> Tensor:
        """(V, F) of a clip's person."""
        return torch.cat([self.clips[name].person, self.shared], -1)

    def offsets(self, name: str) -> Tensor:
        """(T, V, 3) m: m_d D_t of a clip."""
        return torch.from_numpy(self._read(name)).float()

    def scale(self, most: int = 32) -> float:
        """m, root mean square of the mean-free offsets of up to ``most`` clips."""
        chosen = self.names[:: -(-len(self.names) // most)]
        squares = [(offsets - offsets.mean(0)).square().mean() for offsets in map(self.offsets, chosen)]
        return max(float(torch.stack(squares).mean().sqrt()), 1e-6)

    def batch(self, step: int, s: Settings) -> Batch:
        """The samples of a step; all clips come by once in an epoch, in another order each time."""
        count = min(s.clips, len(self.names))
        names = [self._name(step * count + i, s.seed) for i in range(count)]
        rng = random_generator(s.seed, "transfer", "vertices", step)
        vertices = torch.randperm(len(self.rows), generator=rng)[: s.vertices]
        parts = [self._sample(name, step, i, vertices, s) for i, name in enumerate(names)]
        motion, frames, features, target = (torch.stack(column) for column in zip(*parts, strict=True))
        return Batch(motion, frames, features, target, self.mask[vertices])

    def _sample(self, name: str, step: int, i: int, vertices: Tensor, s: Settings) -> tuple[Tensor, ...]:
        clip, rng = self.clips[name], random_generator(s.seed, "transfer", "frames", step, i)
        length = min(s.window, clip.frames)
        start = int(torch.randint(clip.frames - length + 1, (), generator=rng))
        pairs = torch.randint(length - 1, (s.frames // 2,), generator=rng)
        frames = torch.stack([pairs, pairs + 1], 1).flatten()
        window = (start + torch.arange(s.window)).clamp_max(clip.frames - 1)  # a short clip's end is held
        target = self._read(name)[(start + frames).numpy()][:, vertices.numpy()]
        features = torch.cat([clip.person[vertices], self.shared[vertices]], -1)
        return clip.motion[window], frames, features, torch.from_numpy(target).float()

    def _name(self, count: int, seed: int) -> str:
        epoch, place = divmod(count, len(self.names))
        rng = random_generator(seed, "transfer", "order", epoch)
        return self.names[int(torch.randperm(len(self.names), generator=rng)[place])]
