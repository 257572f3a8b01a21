"""What the skin looks like in the frames in which a head's pose is known, and how well other frames agree with it.

Near profile landmarks are guesses, and an outline changes little with the turn; where eyes, brows, mouth and ears lie
on the picture of the same skin tells it. The picture of the known frames is laid on the mesh and drawn in the pose to
be judged (model-based tracking by texture: La Cascia, Sclaroff and Athitsos, 2000).
"""

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.fit.evidence.visibility import in_picture, places
from expportrait.head import Head
from expportrait.render import Camera, Maps, fragments
from expportrait.store.frames import Frames

Pictures = np.ndarray | Frames  # (T, H, W, 3) u8 RGB
Shift = tuple[float, float]  # px, rows and columns
BARE = ("face", "lips", "neck", "eye")  # regions that look alike from all sides; hair is not where the mesh has it
FINE, COARSE = 0.003, 0.022  # m, details between these are compared: light falls otherwise on a head that has turned
DARK = 20.0  # of 255, below which brightness says little
SLANTED = (0.15, 0.75)  # cosine to the view from which on skin is believed, and from which on wholly
NEAREST = 4  # known frames whose pictures are laid on the mesh
LEAST = 60.0  # px of skin that shows in both, below which nothing is said


def detail(picture: np.ndarray, size: int, metre: float) -> np.ndarray:
    """(size, size) log brightness of a ``picture`` (H, W, 3) u8 RGB without its slow changes; ``metre`` px."""
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    log = np.log(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32) + DARK)
    fine, coarse = (cv2.GaussianBlur(log, (0, 0), max(each * metre, 0.3)) for each in (FINE, COARSE))
    return fine - coarse


def believed(facing: Tensor) -> Tensor:
    """0..1 of the cosines between normals and view."""
    low, high = SLANTED
    return ((facing - low) / (high - low)).clamp(0, 1)


class Skin:
    """The skin of a head in the frames whose pose is known, by the vertices of the coarse mesh that it shows there."""

    def __init__(self, head: Head, camera: Camera, pictures: Pictures, metre: float):
        """``camera`` at the size at which pictures are compared; ``metre`` px at the head."""
        self.head, self.camera = head, camera
        names = np.array(head.REGIONS)[head.regions[: len(head.coarse.template)].cpu().numpy()]
        self.bare = torch.from_numpy(np.isin(names, BARE)).to(head.coarse.template)
        self.detail = cache(lambda t: detail(pictures[t], camera.height, metre))
        self.shown: dict[int, Tensor] = {}  # of a known frame: (n_c, 2) detail, and how far it is believed

    def learn(self, t: int, vertices: Tensor, shift: Shift = (0, 0)) -> None:
        """Take the skin of frame t, whose head (n_c, 3) is moved by a ``shift`` in the picture."""
        faces, camera = self.head.faces, self.camera
        found = places(vertices, fragments(vertices[None], faces, camera, cull=True), camera)
        picture = torch.from_numpy(self.detail(t)).to(vertices)
        at = in_picture(found.pixel + found.pixel.new_tensor(shift[::-1]), camera)
        value = F.grid_sample(picture[None, None], at, align_corners=False)[0, 0, 0]
        self.shown[t] = torch.stack([value, found.shown * self.bare * believed(found.facing)], 1)

    def near(self, t: int) -> Tensor:
        """(n_c, 2): detail of the skin in the known frames nearest to t, and how far it is believed."""
        chosen = sorted(self.shown, key=lambda known: abs(known - t))[:NEAREST]
        value, trust = torch.stack([self.shown[known] for known in chosen]).unbind(-1)
        total = trust.sum(0)
        return torch.stack([(value * trust).sum(0) / total.clamp_min(1e-6), total.clamp_max(1)], 1)

    def likeness(self, t: int, drawn: Maps, reach: int) -> tuple[float, Shift] | None:
        """Correlation, -1..1, of what is ``drawn`` with skin ``near`` to t as attribute and the picture of frame t, at
        the shift by up to ``reach`` px that suits best, and that shift; none where too little shows."""
        skin = drawn.attributes["skin"][0].double()
        weight = skin[..., 1] * believed(drawn.normals[0, ..., 2]) * (drawn.coverage[0] > 0.5)
        if float(weight.sum()) < LEAST:
            return None
        return best_correlation(skin[..., 0].cpu().numpy(), weight.cpu().numpy(), self.detail(t), reach)


def best_correlation(image: np.ndarray, weight: np.ndarray, picture: np.ndarray, reach: int) -> tuple[float, Shift]:
    """Largest correlation of an ``image`` (h, w), where it has ``weight`` (h, w) 0..1, with a ``picture`` (h, w), over
    shifts of the image by up to ``reach`` px; and that shift."""
    total, picture = weight.sum(), picture.astype(np.float64)
    image = image - (image * weight).sum() / total
    spectra = [np.fft.rfft2(x) for x in (picture, picture**2, weight, image * weight)]

    def correlate(a: int, b: int) -> np.ndarray:
        found = np.fft.irfft2(spectra[a] * spectra[b].conj(), s=picture.shape)
        return np.roll(found, (reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]

    mean, square = correlate(0, 2), correlate(1, 2)
    own, theirs = (image**2 * weight).sum(), np.maximum(square - mean**2 / total, 1e-9)
    found = correlate(0, 3) / np.sqrt(max(own, 1e-9) * theirs)
    row, column = np.unravel_index(found.argmax(), found.shape)
    (down, more), (right, still) = (peak(line, at) for line, at in ((found[:, column], row), (found[row], column)))
    return float(found[row, column] + more + still), (row - reach + down, column - reach + right)


def peak(line: np.ndarray, at: int) -> tuple[float, float]:
    """Where between the numbers (n,) the largest of them, the one ``at``, has its top (a parabola's), counted from it,
    and by how much that is higher."""
    if not 0 < at < len(line) - 1:
        return 0.0, 0.0
    before, top, after = line[at - 1 : at + 2]
    bend = 2 * top - before - after
    slope = (after - before) / 2
    return (slope / bend, slope**2 / (2 * bend)) if bend > 0 else (0.0, 0.0)
