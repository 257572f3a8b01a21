"""What the estimators say of a clip, held at the resolution that a fit stage works at."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Targets:
    """Per-pixel supervision of T frames, square images of ``size`` px.

    normals (T, h, w, 3) unit, 0 outside; depth (T, h, w) relative; mask and confidence (T, h, w) in 0..1;
    ``disparity`` says that ``depth`` grows towards the camera (eq. 6 then compares 1/Z).
    """

    normals: Tensor
    depth: Tensor
    mask: Tensor
    confidence: Tensor
    disparity: bool = False

    @property
    def frames(self) -> int:
        return len(self.mask)

    @property
    def size(self) -> int:
        return self.mask.shape[-1]

    def resized(self, size: int) -> "Targets":
        """Area-averaged to ``size``; what straddles the mask's edge counts by the part inside."""
        if size == self.size:
            return self

        def shrink(x: Tensor) -> Tensor:  # frame by frame, so that a long clip needs no second full-size copy
            return torch.cat([F.interpolate(frame[None], (size, size), mode="area") for frame in x])

        weight = self.mask.clamp_min(1e-6).unsqueeze(1)
        area = shrink(weight)
        normals = F.normalize(shrink(self.normals.permute(0, 3, 1, 2)), dim=1).permute(0, 2, 3, 1).contiguous()
        depth = (shrink(self.depth.unsqueeze(1) * weight) / area).squeeze(1)
        confidence = (shrink(self.confidence.unsqueeze(1) * weight) / area).squeeze(1)
        return Targets(normals, depth, shrink(self.mask.unsqueeze(1)).squeeze(1), confidence, self.disparity)

    def to(self, device: torch.device | str) -> "Targets":
        moved = (x.to(device) for x in (self.normals, self.depth, self.mask, self.confidence))
        return Targets(*moved, self.disparity)
