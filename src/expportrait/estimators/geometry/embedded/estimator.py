"""Geometry without weights: a fitted head with the relief of its shading in the face, hair grown to the outline, the
silhouette's own normals elsewhere, a weak prior on the torso.

Good where the fitted head is good (the face) and round where little but the outline is known (hair, clothes). Glasses,
hat brims, hair in front of the shoulder, strands and folds are not there: those need a learned estimator.
"""

from collections.abc import Iterator
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.estimators.geometry.base import Geometry, GeometryEstimator
from expportrait.estimators.geometry.embedded.fusion import HeadMaps, frame_geometry
from expportrait.estimators.geometry.embedded.matte import one_person, refine, steady
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.mediapipe_models import SelfieSegmenter, shipped
from expportrait.face_areas import polygon
from expportrait.fit.evidence.growth import grow
from expportrait.fit.evidence.points import landmark_error
from expportrait.fit.evidence.turned import settle_turns
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.fit.parameters import HeadParameters
from expportrait.head import Head
from expportrait.points478 import face_height
from expportrait.render import render
from expportrait.settings.config import GeometrySettings, HeadSettings, Proxy
from expportrait.video.margins import NONE, Margins

IN_FACE = 0.9  # confidence of a well fitted face
GOOD_FIT = 0.06  # landmark error in inter-ocular distances that halves it
FACE_SHARE = 0.4  # of the picture's height, where no face is known at all
UNSEEN = 0.5  # what is left of the confidence where the face was not detected
STATEMENT = (
    "Coarse: the face is a fitted parametric head with relief from shading, without glasses; hair and clothes are "
    "guessed from their outline. Depth is in metres of that head, counted from its face. The confidence is hand-made, "
    "not calibrated. Mean angle to the true normals on rendered films, degrees: face 13, hair 15, clothes 11, neck and "
    "ears 17 (benchmarks/geometry_truth.py); real hair and clothes are rougher."
)
HIDDEN = ("teeth", "tongue", "mouth")  # parts not rendered: their normals in an open mouth are noise


class Outlines:
    """The clip's masks (T,H,W) u8 at the size at which hair is grown to them."""

    def __init__(self, masks: np.ndarray, size: int = 256, margins: Margins = NONE):
        self.frames, self.size, self.all, self.margins = len(masks), min(size, masks.shape[1]), masks, margins

    def masks(self, frames: slice) -> Tensor:
        """(B,h,w) 0..1."""
        small = [cv2.resize(mask, (self.size,) * 2, interpolation=cv2.INTER_AREA) for mask in self.all[frames]]
        return torch.from_numpy(np.stack(small)).float() / 255


class EmbeddedEstimator(GeometryEstimator):
    """Silhouette, fitted head, grown hair, shading and a coarse bust; see the module."""

    name = "embedded"
    depth_space = "depth"
    statement = STATEMENT
    fitted_face = True

    def __init__(
        self,
        head: Head,
        grid: int = 96,
        settings: Proxy | None = None,
        batch: int = 4,
        volume: bool = True,
        shading: bool = True,
    ):
        """``grid``: cells a side on which normals and depth are solved; ``settings``: of the landmark fit; ``batch``:
        frames rendered and handed on together; ``volume``: grow hair; ``shading``: relief of the face's skin."""
        self.head, self.grid, self.settings, self.batch = head, grid, settings or Proxy(), batch
        self.volume, self.shading = volume, shading
        self.oval = list(head.landmark_oval)
        self.faces = head.faces[~self._part(*HIDDEN)[head.faces].any(1)]
        self.torso, self.neck = self._part("neck", "body").float(), self._part("neck").float()
        self.distance = torch.cdist(head.coarse.template, head.landmarks.template)
        self.segmenter = SelfieSegmenter()
        self.files, self.runs_on = shipped(*SelfieSegmenter.FILES), str(head.faces.device)

    @classmethod
    def load(cls, head: HeadSettings, settings: GeometrySettings, device: str) -> Self:
        """With the head model that the section ``head`` names, at the grid of the section ``geometry``."""
        loaded = load_head(head)
        return cls(loaded.to(device), settings.grid)

    def _part(self, *names: str) -> Tensor:
        """(n_c,) bool: coarse vertices of these regions. A dense mesh's first vertices are the coarse ones."""
        regions = self.head.regions[: len(self.head.coarse.template)]
        return torch.isin(regions, regions.new_tensor([self.head.REGIONS.index(name) for name in names]))

    def batches(
        self, frames: np.ndarray, points: np.ndarray, interpolated: np.ndarray, certainty: np.ndarray | None = None,
        margins: Margins = NONE,
    ) -> Iterator[Geometry]:  # fmt: skip
        seen = np.isfinite(points).all((1, 2))
        certainty = np.ones(points.shape[:2], np.float32) if certainty is None else certainty
        certainty = np.where((seen & ~interpolated)[:, None], certainty, 0).astype(np.float32)
        size = frames.shape[1]
        masks = self.masks(frames, points, seen, margins)
        fitted = None
        if seen.any():
            fitted = self.fit(points, certainty, seen, size)
            fitted, points, likeness = self.turned(fitted, frames, points, certainty, masks, margins)
            certainty = np.maximum(certainty, likeness[:, None])
            interpolated = interpolated & (likeness == 0)
        grown = self.grown(fitted, masks, margins) if fitted is not None and self.volume else None
        heights = face_height(np.nan_to_num(points))
        heights = np.where(seen, heights, np.median(heights[seen]) if seen.any() else FACE_SHARE * size)
        for first in range(0, len(frames), self.batch):
            part = np.arange(first, min(first + self.batch, len(frames)))
            heads = [None] * len(part) if fitted is None else self.head_maps(fitted, points, certainty, part, grown)
            maps = [
                frame_geometry(
                    masks[t] / np.float32(255),
                    head if seen[t] else None,
                    points[t],
                    self.oval,
                    heights[t],
                    self.grid,
                    frames[t] if self.shading else None,
                    margins,
                )
                for t, head in zip(part, heads, strict=True)
            ]
            normals, depth, confidence = (np.stack(x) for x in zip(*maps, strict=True))
            confidence[interpolated[part] | ~seen[part]] *= UNSEEN
            yield Geometry(normals, depth, masks[part] / np.float32(255), confidence, self.depth_space)

    def masks(self, frames: np.ndarray, points: np.ndarray, seen: np.ndarray, margins: Margins = NONE) -> np.ndarray:
        """(T,H,W) u8, the whole clip's. Beyond the picture they go on as at its edge: an outline of stripes is none."""
        out = np.empty(frames.shape[:3], np.uint8)
        for t, frame in enumerate(frames):
            face = polygon(points[t, self.oval], len(frame)) if seen[t] else None
            alpha = refine(self.segmenter.segment(frame), frame)
            if margins:
                margins.repeat(alpha[None])
            out[t] = np.rint(255 * one_person(alpha, face))
        return steady(out)

    def fit(self, points: np.ndarray, certainty: np.ndarray, seen: np.ndarray, size: int) -> HeadParameters:
        """One head for all frames; frames of no certainty follow their neighbours."""
        known = np.flatnonzero(seen)
        nearest = known[np.abs(known[None] - np.arange(len(points))[:, None]).argmin(1)]
        device = self.head.faces.device
        target = torch.from_numpy(points[nearest].astype(np.float32)).to(device)
        return fit_landmarks(self.head, target, torch.from_numpy(certainty).to(device), size, self.settings)

    def turned(
        self,
        fitted: HeadParameters,
        frames: np.ndarray,
        points: np.ndarray,
        certainty: np.ndarray,
        masks: np.ndarray,
        margins: Margins,
    ) -> tuple[HeadParameters, np.ndarray, np.ndarray]:
        """The fit with its far turns settled, by the masks (T,H,W) and the skin in the ``frames`` (T,H,W,3); the
        points, which are its own in these, and in others moved with the pitch; and the likeness (T,) of the skin where
        that told the turn, 0 elsewhere."""
        small = Outlines(masks, 128, margins)
        given = [
            torch.from_numpy(np.nan_to_num(x).astype(np.float32)).to(self.head.faces.device)
            for x in (points, certainty)
        ]
        found = settle_turns(
            self.head,
            fitted,
            *given,
            lambda t: (small.masks(slice(t, t + 1))[0], None, None),
            small.size,
            self.settings.max_growth,
            margins,
            pictures=frames,
        )
        seen = np.isfinite(points).all((1, 2))[:, None, None]
        return found.parameters, np.where(seen, found.points.cpu().numpy(), points), found.likeness.numpy()

    def grown(self, fitted: HeadParameters, masks: np.ndarray, margins: Margins = NONE) -> Tensor:
        """(n_c,3) m: hair of one shape for the whole clip, out to the masks' outlines."""
        outlines = Outlines(masks, margins=margins)
        return grow(self.head, fitted, outlines, self.settings.max_growth)[: len(self.head.coarse.template)]

    @torch.no_grad()
    def head_maps(
        self,
        fitted: HeadParameters,
        points: np.ndarray,
        certainty: np.ndarray,
        part: np.ndarray,
        grown: Tensor | None = None,
    ) -> list[HeadMaps]:
        """The fitted head as the camera sees it in the frames ``part``, with its hair where it was ``grown``."""
        device = self.head.faces.device
        at = torch.from_numpy(part).to(device)
        pose = (fitted.shape, fitted.expression[at], fitted.matrices(at), fitted.translation(at))
        camera = fitted.camera()
        target = torch.from_numpy(np.nan_to_num(points[part]).astype(np.float32)).to(device)
        error = landmark_error(self.head, camera.project(self.head.pose(self.head.landmarks, *pose)), target)
        given = torch.from_numpy(certainty.any(0) | ~certainty.any()).to(device)  # a detector may lack some points
        nearest = torch.where(given, self.distance, torch.inf).argmin(1)
        sure = torch.from_numpy(certainty[part]).to(device)[:, nearest]
        trust = IN_FACE * sure / (1 + (error / GOOD_FIT) ** 2)[:, None]
        attribute = torch.stack([self.torso.expand_as(trust), trust, self.neck.expand_as(trust)], -1)
        maps = render(
            self.head.pose(self.head.coarse, *pose, grown), self.faces, camera, {"attribute": attribute}, cull=True
        )
        normals, depth, attribute = (x.cpu().numpy() for x in (maps.normals, maps.depth, maps.attributes["attribute"]))
        torso, trust, neck = np.moveaxis(attribute, -1, 0)
        return [
            HeadMaps(normals[k], depth[k], torso[k], trust[k], float(camera.focal), neck[k], grown is not None)
            for k in range(len(part))
        ]
