"""What an estimator of normals, depth, mask and confidence gives, and how one is chosen by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from expportrait.settings.config import GeometrySettings, HeadSettings
from expportrait.settings.weights import geometry_files
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
    """One estimator, loaded once a shard. A subclass gives ``batches`` and the facts that go into the store."""

    name: str
    version: int
    depth_space: str
    statement: str  # what the maps are worth, one or two sentences, for whoever opens the store
    files: dict[str, str]  # sha256 of the models' files: by the setting that names one, else by its name
    runs_on: str  # device, or onnxruntime's provider

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


def load_estimator(name: str, head: HeadSettings, settings: GeometrySettings, device: str) -> GeometryEstimator:
    """The estimator of that name.

    A new one takes a subclass in its own module, a branch here, its name among ``GeometrySettings.estimator``, and in
    weights.py its files: by setting in ``geometry_files``, which refuses other names, and in ``KNOWN``.
    """
    if name == "embedded":
        from expportrait.estimators.embedded import EmbeddedEstimator
        from expportrait.estimators.head_landmarks import load_head

        return EmbeddedEstimator(load_head(head).to(device), settings.grid)
    files = geometry_files(name, settings)
    if name == "david":
        from expportrait.estimators.david import DavidEstimator

        return DavidEstimator(files, device)
    if name == "sapiens":
        from expportrait.estimators.sapiens import SapiensEstimator

        return SapiensEstimator(files, device)
    raise ValueError(f"no branch for the estimator {name!r}")
