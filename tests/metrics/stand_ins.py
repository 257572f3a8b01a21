"""Judges that answer at once, and as can be worked out."""

import numpy as np

from expportrait.estimators.blendshapes import NAMES, Expressions
from expportrait.metrics.motion import Landmarks, Motion


class Faces:
    """Sees a face in all frames that are not black, whose scores are the picture's mean in 0..1."""

    def detect(self, frames):
        means = np.array([frame.mean() / 255 for frame in frames])
        found = np.array([frame.any() for frame in frames])
        values = np.where(found, means, np.nan)
        shapes = [(len(NAMES),), (4, 4), (478, 3)]
        scores, matrices, points = (np.broadcast_to(values.reshape(-1, *[1] * len(s)), (len(values), *s))
                                    for s in shapes)  # fmt: skip
        return Expressions(found, scores, matrices * np.eye(4), points)

    def about(self):
        return {"backend": "stand-in", "input": "pictures"}


class Tracker:
    """Sees a face in all frames but one, which moves as the pictures' mean does."""

    def detect(self, frames):
        means = [float(frame.mean()) for frame in frames]
        points = np.broadcast_to(np.array(means, np.float32)[:, None, None], (len(means), 478, 3))
        return Landmarks(points, np.arange(len(means)) != 3, np.ones((len(means), 478), np.float32))

    def fit(self, *clips):
        means = [np.where(clip.found, clip.points[:, 0, 0].astype(float), np.nan) for clip in clips]
        return [Motion(np.stack([mean, mean], 1), np.stack([mean] * 3, 1) / 100, mean) for mean in means]

    def backends(self, one_shape):
        return {name: {"backend": "stand-in"} for name in ("aed", "apd", "jaw")}


class Likeness:
    """Embeds a face as the mean of its colours."""

    name, sha256 = "likeness", ""

    def about(self):
        return {"backend": "stand-in", "input": "colours"}

    def embed(self, frames, points, found):
        if not found.any():
            return np.full((len(found), 1), np.nan)
        means = frames.mean((1, 2))
        rows = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        return np.where(found[:, None], rows, np.nan)


class Distance:
    """The mean difference of the pictures, in place of LPIPS."""

    least = 1

    def of_all(self, truth, films):
        return {name: np.abs(film.astype(float) - truth).mean((1, 2, 3)) for name, film in films.items()}

    def backend(self):
        return {"backend": "stand-in"}
