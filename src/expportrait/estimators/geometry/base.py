"""What an estimator of normals, depth, mask and confidence takes and gives."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from expportrait.settings.config import GeometrySettings, HeadSettings
from expportrait.video.margins import NONE, Margins


@dataclass
class Geometry:
    """Maps of T frames. Outside the mask normals are 0 and depth is 0.

    normals (T,H,W,3) float32, camera space (x right, y up, z to the viewer), unit where mask > 0.
    depth (T,H,W) float32, known up to a positive scale and a shift a frame.
    mask (T,H,W) float32 0..1, head and shoulders.
    confidence (T,H,W) float32 0..1, of normals and depth.
    """

    normals: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    confidence: np.ndarray
    depth_space: str  # "depth": larger = farther; "disparity": larger = nearer

    def __len__(self) -> int:
        return len(self.normals)


class GeometryEstimator(ABC):
    """One estimator, loaded once a shard. A subclass gives ``load``, ``batches`` and these facts, which stores keep."""

    name: str
    depth_space: str
    statement: str  # what the maps are worth, one or two sentences, for whoever opens the store
    fitted_face: bool = False  # its face is a head fitted to the landmarks, which tells a fit nothing new of one frame
    files: dict[str, str]  # sha256 of the models' files: by the setting that names one, else by its name
    runs_on: str  # device, or onnxruntime's provider

    @classmethod
    @abstractmethod
    def load(cls, head: HeadSettings, settings: GeometrySettings, device: str) -> Self:
        """The estimator as the sections ``head`` and ``geometry`` ask for it. Raises UserError where a file is missing
        or of another kind."""

    @abstractmethod
    def batches(
        self, frames: np.ndarray, points: np.ndarray, interpolated: np.ndarray, certainty: np.ndarray | None = None,
        margins: Margins = NONE,
    ) -> Iterator[Geometry]:  # fmt: skip
        """Consecutive pieces of the clip, in order, so that a long clip need not be held in floats.

        frames (T,H,W,3) u8 RGB; points (T,478,3) px, NaN where there are none; interpolated (T,) bool, frames whose
        points were not detected; certainty (T,478) 0..1 of the points, 1 where not given; margins: where the
        frames show no picture: what is estimated there counts for nothing, and must not spoil what lies beside it.
        """

    def estimate(
        self, frames: np.ndarray, points: np.ndarray, interpolated: np.ndarray, certainty: np.ndarray | None = None,
        margins: Margins = NONE,
    ) -> Geometry:  # fmt: skip
        """The whole clip at once; arguments as ``batches``."""
        parts = list(self.batches(frames, points, interpolated, certainty, margins))
        maps = ("normals", "depth", "mask", "confidence")
        return Geometry(*(np.concatenate([getattr(part, name) for part in parts]) for name in maps), self.depth_space)
