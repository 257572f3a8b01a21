"""Whose face is in a picture: found by YuNet, recognised by SFace, the two networks that this package carries."""

from collections.abc import Sequence

import cv2
import numpy as np

from expportrait.estimators.arcface import TEMPLATE, aligned_faces
from expportrait.estimators.landmarks.gaps import AWAY
from expportrait.estimators.sface import SFace
from expportrait.estimators.yunet import YuNet
from expportrait.video.framing import cut_out

SIDE = 256  # px, of the pictures in which faces are looked for
WIDTH = 128  # numbers a face


def around(frame: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a whole frame (H, W, 3) u8 and a face's box in it (4,) px: the square of twice the face's side about it,
    (256, 256, 3) u8, and where in it the face is, (5,), as ``Recogniser`` takes them."""
    middle, half = (face[:2] + face[2:]) / 2, round(max(face[2:] - face[:2]))
    corner = np.rint(middle).astype(int) - half
    picture = cut_out(frame, (*corner.tolist(), *(corner + 2 * half).tolist()), SIDE)
    return picture, np.array([*(face - [*corner, *corner]) * SIDE / (2 * half), AWAY])


class Recogniser:
    """The face at a known place of a picture, as 128 numbers whose cosine is near 1 for one person."""

    def __init__(self) -> None:
        """Raises UserError where a file is not the shipped one."""
        self._yunet, self._sface = YuNet(), SFace()

    def about(self) -> dict:
        """What stands beside every number from it."""
        weights = self._sface.about()["weights"] | self._yunet.about()["weights"]
        return self._sface.about() | {"weights": weights, "points": "YuNet's five"}

    def five(self, picture: np.ndarray, place: np.ndarray) -> np.ndarray | None:
        """Where eyes, nose and mouth corners (5, 2) px are, in the order of ``SFace.embed_at``, of the face of a square
        picture (S, S, 3) u8 that is at ``place``, a row of ``gaps.places``; None where none is found there."""
        scale = max(1, len(picture) / SIDE)
        small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) if scale > 1 else picture
        faces = self._yunet.detect(small)
        away = np.linalg.norm((faces[:, :2] + faces[:, 2:4]) * scale / 2 - (place[:2] + place[2:4]) / 2, axis=1)
        if not len(faces) or away.min() > place[4] * max(place[2:4] - place[:2]):
            return None
        return faces[away.argmin(), 5:].reshape(5, 2) * scale

    def embed(self, pictures: Sequence[np.ndarray], places: np.ndarray) -> np.ndarray:
        """Square pictures, and where in each the face is, (N, 5) -> unit rows (N, 128), NaN where none is found."""
        five = [self.five(picture, place) for picture, place in zip(pictures, places, strict=True)]
        rows, seen = np.full((len(five), WIDTH), np.nan), [i for i, points in enumerate(five) if points is not None]
        if seen:
            rows[seen] = self._sface.embed_at([pictures[i] for i in seen], np.stack([five[i] for i in seen]))
        return rows

    def rows(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """Faces (N, 112, 112, 3) u8 as ``aligned`` gives them -> unit rows (N, 128)."""
        if not len(faces):
            return np.empty((0, WIDTH))
        return self._sface.embed_at(faces, np.tile(TEMPLATE + 0.5, (len(faces), 1, 1)))

    def aligned(self, picture: np.ndarray, place: np.ndarray) -> np.ndarray | None:
        """The face as SFace gets it, (112, 112, 3) u8; None where none is found."""
        five = self.five(picture, place)
        return None if five is None else aligned_faces([picture], five[None])[0].transpose(1, 2, 0).astype(np.uint8)
