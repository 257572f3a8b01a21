"""How well the face of a clip can be seen."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from expportrait.video.framing import Box
from expportrait.video.tracks import Track

SIZE = 128  # px; faces are measured at this size, so that the figures do not depend on the source's


def seen_at(frame: np.ndarray, box: np.ndarray) -> tuple[float, float] | None:
    """Sharpness (variance of the Laplacian) and brightness (mean grey value of 255) of the face at a box (4,) px of a
    frame (H,W,3) u8; None where the box lies outside."""
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    face = frame[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    if not face.size:
        return None
    enlarged = max(face.shape[:2]) < SIZE
    face = cv2.resize(face, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()), float(grey.mean())


@dataclass
class Looks:
    """Collects figures of the frames of a track that were looked at; ``add`` each frame (H,W,3) u8 by its number."""

    track: Track
    sharpness: list[float] = field(default_factory=list)
    brightness: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._boxes = dict(zip(self.track.frames, self.track.boxes, strict=True))

    def add(self, number: int, frame: np.ndarray) -> None:
        box = self._boxes.get(number)
        if box is not None and (seen := seen_at(frame, box)):
            self.sharpness.append(seen[0])
            self.brightness.append(seen[1])

    def figures(self) -> dict[str, float]:
        """Medians over the frames: variance of the Laplacian, mean grey value of 255."""
        values = {"sharpness": self.sharpness, "brightness": self.brightness}
        return {name: float(np.median(found)) for name, found in values.items() if found}


def company(track: Track, faces: dict[int, np.ndarray], box: Box) -> dict[str, float]:
    """Mean number of faces in the picture, and the share of the frames with another face's centre in the box.

    ``faces``: frame -> all faces (n,4+) x0 y0 x1 y1 px.
    """
    numbers, others = [], []
    for t, own in zip(track.frames, track.boxes, strict=True):
        rest = faces[t][~np.isclose(faces[t][:, :4], own).all(1)]
        centre = (rest[:, :2] + rest[:, 2:4]) / 2
        numbers.append(len(faces[t]))
        others.append(((centre >= box[:2]) & (centre <= box[2:])).all(1).any())
    return {"faces": float(np.mean(numbers)), "others": float(np.mean(others))}
