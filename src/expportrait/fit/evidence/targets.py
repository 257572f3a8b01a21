"""What the estimators say of a clip: a few frames at a time, at the resolution that a fit stage works at."""

from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.spool import FrameFile
from expportrait.store import Store, decode_normals
from expportrait.video.margins import NONE, Margins

HIDDEN = 0.02  # confidence below which a pixel of the mask is no evidence at all: geometry stores 0 there, else 0.04
OUTSIDE = 0.04  # mask below which a pixel lies outside: packed, zeros come back as up to 9 of 255
BORDER = 4  # px beside the picture's edge, where an outline is the picture's and not the person's
BLOCK = 4  # frames at full size in memory


@dataclass
class Targets:
    """Per-pixel supervision of T frames, square images of ``size`` px.

    normals (T, h, w, 3) unit, 0 outside; depth (T, h, w) relative; mask and confidence (T, h, w) in 0..1;
    ``disparity`` says that ``depth`` grows towards the camera (eq. 6 then compares 1/Z); ``anchored`` (T,), on the CPU,
    that its shift is known and taken off: what is left open is its scale; ``margins``: where the frames show no
    picture; ``fitted_face``: on the face they are maps of a head that was fitted to the landmarks.
    """

    normals: Tensor
    depth: Tensor
    mask: Tensor
    confidence: Tensor
    disparity: bool = False
    anchored: Tensor | None = None
    margins: Margins = NONE
    fitted_face: bool = False

    @property
    def frames(self) -> int:
        return len(self.mask)

    @property
    def size(self) -> int:
        return self.mask.shape[-1]

    def block(self, frames: slice) -> "Targets":
        """Some of the frames."""
        anchored = None if self.anchored is None else self.anchored[frames]
        normals, depth, mask, confidence = (x[frames] for x in self.maps())
        return replace(self, normals=normals, depth=depth, mask=mask, confidence=confidence, anchored=anchored)

    def maps(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normals, depth, mask and confidence."""
        return self.normals, self.depth, self.mask, self.confidence

    def resized(self, size: int) -> "Targets":
        """Area-averaged to ``size``; what straddles the mask's edge counts by the part inside."""
        if size == self.size:
            return self

        def shrink(x: Tensor) -> Tensor:
            return F.interpolate(x, (size, size), mode="area")

        weight = self.mask.clamp_min(1e-6).unsqueeze(1)
        area = shrink(weight)
        normals = F.normalize(shrink(self.normals.permute(0, 3, 1, 2)), dim=1).permute(0, 2, 3, 1).contiguous()
        depth = (shrink(self.depth.unsqueeze(1) * weight) / area).squeeze(1)
        confidence = (shrink(self.confidence.unsqueeze(1) * weight) / area).squeeze(1)
        mask = shrink(self.mask.unsqueeze(1)).squeeze(1)
        return replace(self, normals=normals, depth=depth, mask=mask, confidence=confidence)

    def to(self, device: torch.device | str) -> "Targets":
        """The same on another device."""
        tensors = {name: x.to(device) for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **tensors)


class TargetSource(Protocol):
    """A clip's estimates: ``Targets`` in memory, or ``StoredTargets``."""

    disparity: bool
    margins: Margins
    fitted_face: bool

    @property
    def frames(self) -> int: ...

    @property
    def size(self) -> int: ...

    def block(self, frames: slice) -> Targets: ...


class StoredTargets:
    """The estimates in a geometry store, read when asked for."""

    def __init__(self, geometry: Store):
        self._maps = [geometry.lazy(name) for name in ("normals", "depth", "mask", "confidence")]
        self.disparity = geometry.attrs["depth_space"] == "disparity"
        self.frames, self.size = self._maps[2].shape[:2]
        self.margins = Margins.of(geometry.attrs, self.size)
        self.fitted_face = bool(geometry.attrs.get("fitted_face", False))

    def block(self, frames: slice) -> Targets:
        """What was stored as 0 has no weight: packing leaves a few of 255 there, which are taken off.

        Beyond the picture the maps go on as at its edge, without confidence: the mask must not seem to end there.
        """
        first, last, _ = frames.indices(self.frames)
        normals, depth, mask, confidence = (np.empty((last - first, *x.shape[1:]), x.dtype) for x in self._maps)
        for array, out in zip(self._maps, (normals, depth, mask, confidence), strict=True):
            array.into(out, first)  # read once, so that no unpacked frames are kept
        mask = np.where(mask < 255 * OUTSIDE, 0, mask)
        confidence = np.where(confidence < 255 * HIDDEN, 0, confidence)
        if self.margins:
            for maps in (normals, depth, mask):
                self.margins.repeat(maps)
            confidence *= self.margins.inside(self.size)
        return Targets(
            torch.from_numpy(decode_normals(normals)),
            torch.from_numpy(depth.astype(np.float32)),
            torch.from_numpy(mask.astype(np.float32) / 255),
            torch.from_numpy(confidence.astype(np.float32) / 255),
            self.disparity,
            margins=self.margins,
            fitted_face=self.fitted_face,
        )


class TargetFile:
    """A clip's estimates at one size, on disk. ``file[frames]`` gives those of a mini-batch."""

    TYPES = (torch.float16, torch.float32, torch.uint8, torch.uint8)

    def __init__(
        self, frames: int, size: int, disparity: bool, device: torch.device | str = "cpu", margins: Margins = NONE
    ):
        self.frames, self.size, self.disparity, self.device, self.margins = frames, size, disparity, device, margins
        self.inside = torch.from_numpy(margins.inside(size)).to(device)  # (size, size) bool: the picture
        self.shift = torch.full((frames,), torch.nan)  # to be added to a frame's depth, if known; on the CPU
        shapes = ((size, size, 3), (size, size), (size, size), (size, size))
        self._maps = [FrameFile(frames, shape, kind) for shape, kind in zip(shapes, self.TYPES, strict=True)]

    def __setitem__(self, frames: slice, targets: Targets) -> None:
        for file, values in zip(self._maps, targets.maps(), strict=True):
            file[frames] = (values * 255).round() if file.dtype == torch.uint8 else values

    def __getitem__(self, frames: Tensor | slice) -> Targets:
        maps = (x / 255 if x.dtype == torch.uint8 else x.float() for x in self._read(frames))
        targets = Targets(*maps, self.disparity, margins=self.margins)
        shift = self.shift[frames if isinstance(frames, slice) else frames.cpu()]
        targets.anchored = ~shift.isnan()
        if targets.anchored.any():
            shift = shift.nan_to_num()
            targets.depth += float(shift) if len(shift) == 1 else shift.to(self.device)[:, None, None]
        return targets

    def other_surface(self) -> "TargetFile":
        """The same masks and confidence; normals and depth are to be told."""
        other = copy(self)
        fresh = [FrameFile(self.frames, file.shape, file.dtype) for file in self._maps[:2]]
        other._maps = fresh + self._maps[2:]
        return other

    def tell_surface(self, frames: slice, targets: Targets) -> None:
        """Take normals and depth of some frames from ``targets``, whose depth has its shift."""
        shift = self.shift[frames].nan_to_num().to(targets.depth.device)
        self._maps[0][frames], self._maps[1][frames] = targets.normals, targets.depth - shift[:, None, None]

    def _read(self, frames: Tensor | slice) -> list[Tensor]:
        """All maps as stored, brought to the device at once: each transfer would be waited for."""
        maps = [file[frames] for file in self._maps]
        if torch.device(self.device).type == "cpu":
            return maps
        there = torch.cat([x.flatten().view(torch.uint8) for x in maps]).to(self.device)
        parts = there.split([x.numel() * x.element_size() for x in maps])
        return [part.view(x.dtype).view(x.shape) for part, x in zip(parts, maps, strict=True)]

    def hidden(self, targets: Targets) -> Tensor:
        """(B, size, size) 1 where no outline can be told of some frames' ``targets``: inside the mask where something
        is in front, and beyond the picture."""
        return ((targets.mask > 0.5) & (targets.confidence < HIDDEN) | ~self.inside).float()

    def hide(self, frames: Tensor | slice, share: Tensor) -> None:
        """Take confidence away where something hides the head: all where ``share`` (B, size, size) is above a half."""
        kept = (1 - 2 * share).clamp_min(0)
        self._maps[3][frames] = (self._maps[3][frames].to(self.device) * kept).round()

    def masks(self, frames: Tensor | slice) -> Tensor:
        """(B, size, size) 0..1."""
        return self._maps[2][frames].to(self.device) / 255


def target_files(source: TargetSource, sizes: set[int], device: torch.device | str) -> dict[int, TargetFile]:
    """A clip's estimates at every size that a fit needs; full-size frames are read once, a few at a time."""
    files = {size: TargetFile(source.frames, size, source.disparity, device, source.margins) for size in sizes}
    for first in range(0, source.frames, BLOCK):
        frames = slice(first, min(first + BLOCK, source.frames))
        block = source.block(frames)
        for size, file in files.items():
            file[frames] = block.resized(size)
    return files


def distance(inside: np.ndarray) -> np.ndarray:
    """(h, w) bool -> px to the nearest pixel that is outside, float32; h + w where none is."""
    found = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.minimum(found, sum(inside.shape))


def outline_distance(mask: np.ndarray) -> np.ndarray:
    """(h, w) 0..1 -> signed px distance to the mask's outline, positive inside, float32."""
    inside = mask > 0.5
    signed = distance(inside) - distance(~inside)
    return signed - 0.5 * np.sign(signed)  # the outline runs between pixels
