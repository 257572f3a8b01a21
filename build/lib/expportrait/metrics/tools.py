"""What measures a pair, loaded once: the networks that come with the package, or those of the settings."""

from dataclasses import dataclass, replace

import numpy as np

from expportrait.errors import ClipError, UserError
from expportrait.estimators.arcface import ArcFace
from expportrait.estimators.blendshapes import FaceLandmarker
from expportrait.estimators.sface import SFace
from expportrait.metrics import blendshapes, coefficients, motion, perceptual
from expportrait.metrics.shipped_lpips import ShippedLpips
from expportrait.settings.config import Evaluate

MOTION = ("aed", "apd", "jaw", "gaze")


@dataclass
class Tools:
    """``faces``: where they are, for all methods; expressions and poses too where there is no ``tracker``."""

    faces: FaceLandmarker
    tracker: motion.Tracker | None
    lpips: perceptual.Lpips | perceptual.OwnLpips
    identity: ArcFace | SFace

    @classmethod
    def load(cls, s: Evaluate, device: str) -> "Tools":
        """Raises UserError where what the settings ask for cannot be had."""
        identity = ArcFace(s.arcface, "evaluate.arcface", device) if s.arcface else SFace(device)
        return cls(FaceLandmarker(), motion.Tracker() if s.tracker == "own" else None, _lpips(s, device), identity)


def _lpips(s: Evaluate, device: str) -> perceptual.Lpips | perceptual.OwnLpips:
    files = s.lpips_backbone or s.lpips_linear
    if files and s.lpips:
        raise UserError("evaluate.lpips and evaluate.lpips_backbone are two ways to one number: set one of them")
    if files:
        return perceptual.OwnLpips(s.lpips_backbone, s.lpips_linear, device)
    return perceptual.Lpips(s.lpips, device) if s.lpips else ShippedLpips(device)


@dataclass
class Moves:
    """Motion that is known of whole films: method -> that of its frames and that of the driver's. A method that is not
    among them has none, by ``missing``."""

    tracker: str
    of: dict[str, tuple[motion.Motion, motion.Motion]]
    backends: dict[str, dict]
    missing: str = ""

    def values(self, method: str) -> dict[str, np.ndarray]:
        """Metric -> (T,)."""
        names = self.backends if method in self.of else ()
        return {name: getattr(motion, name)(*self.of[method]) for name in names}

    def reasons(self, method: str) -> dict[str, str]:
        """Why the others have no number."""
        if method not in self.of:
            return dict.fromkeys(MOTION, self.missing)
        return {name: f"evaluate.tracker: {self.tracker} gives no {name}" for name in MOTION
                if name not in self.backends}  # fmt: skip


def face_backends(faces: FaceLandmarker) -> dict[str, dict]:
    """How the default measures motion, for the record."""
    known = blendshapes.backends(faces)
    return {name: about | {"input": seen_at(about["input"])} for name, about in known.items()}


def seen_at(told: str) -> str:
    """``told`` of a network's input, with the size at which it sees the frames here."""
    return f"{told}; frames resized to {motion.SIZE} px"


@dataclass
class Tracks:
    """Coefficients of the user's tracker, of the frames measured: of the result, the driver and the portrait."""

    tracker: str
    moves: tuple[motion.Motion, motion.Motion, motion.Motion]
    backends: dict[str, dict]


def read_tracks(s: Evaluate, about: dict, frames: list[int], reference: int, count: int) -> Tracks | None:
    """None without such files. Raises UserError for settings, ClipError for files that are not there."""
    if not s.by_files:
        return None
    if s.tracks is None:
        raise UserError(f"evaluate.tracker is {s.tracker}: set evaluate.tracks to the folder of its files")
    lengths = {"pair": count, "driver": count, "target": reference + 1}
    result, driver, target = (
        coefficients.read_track(s.tracks, about[who], s.tracker, length) for who, length in lengths.items()
    )
    widths = {track.motion.expression.shape[1] for track in (result, driver, target)}
    if len(widths) > 1:
        raise ClipError(
            f"evaluate.tracks: files of {about['pair']} with {sorted(widths)} coefficients: of two trackers?"
        )
    moves = result.rows(frames), driver.rows(frames), target.rows([reference])
    return Tracks(s.tracker, moves, coefficients.backends(s.tracker, result, driver))


def rows(of: object, which: np.ndarray | slice) -> object:
    """A dataclass of arrays with the chosen rows of each."""
    return replace(of, **{name: values[which] for name, values in vars(of).items()})
