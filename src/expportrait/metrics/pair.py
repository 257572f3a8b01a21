"""All metrics of one pair, of this run's video and of the baseline: the portrait held still."""

from dataclasses import dataclass, replace

import numpy as np

from expportrait.config import Evaluate
from expportrait.errors import ClipError, UserError
from expportrait.estimators.arcface import ArcFace
from expportrait.metrics import coefficients, identity, image, motion, perceptual

RUN, COPY = "generated", "copy reference"
METHODS = (RUN, COPY)
METRICS = ("psnr", "ssim", "lpips", "l1", "aed", "apd", "csim", "jaw")
PICTURE = ("psnr", "ssim", "lpips", "l1")  # need the frames that should have come out
MOTION = ("aed", "apd", "jaw")
NO_TRUTH = "there is no true picture of the target making the driver's motion; of self pairs only"
IDENTICAL = "every frame is identical to the truth, the ratio is infinite"


@dataclass
class Tools:
    """Trackers and networks, loaded once; None where the user's weights are not there."""

    tracker: motion.Tracker
    lpips: perceptual.Lpips | perceptual.OwnLpips | None
    arcface: ArcFace | None

    @classmethod
    def load(cls, s: Evaluate, device: str) -> "Tools":
        """Raises UserError where what the settings ask for cannot be had."""
        lpips = perceptual.Lpips(s.lpips, device) if s.lpips else None
        if s.lpips_backbone or s.lpips_linear:
            if lpips is not None:
                raise UserError(
                    "evaluate.lpips and evaluate.lpips_backbone are two ways to one number: set one of them"
                )
            lpips = perceptual.OwnLpips(s.lpips_backbone, s.lpips_linear, device)
        arcface = ArcFace(s.arcface, "evaluate.arcface", device) if s.arcface else None
        return cls(motion.Tracker(), lpips, arcface)


@dataclass
class Scores:
    """One method on one pair: (T,) values a metric, NaN or infinite where a frame has none; else why there are none."""

    values: dict[str, np.ndarray]
    reasons: dict[str, str]
    backends: dict[str, dict]
    no_face: dict[str, int]

    def fields(self) -> dict:
        """The row's fields: number or None a metric, and what the number rests on."""
        row: dict = {}
        reasons = dict(self.reasons)
        for name in METRICS:
            values = self.values.get(name, np.empty(0))
            finite = values[np.isfinite(values)]
            row[name] = float(finite.mean()) if len(finite) else None
            if name in self.values and not len(finite):
                reasons[name] = IDENTICAL if np.isinf(values).any() else self.without_face()
        identical = int(np.isinf(self.values.get("psnr", np.empty(0))).sum())
        backends = {name: about for name, about in self.backends.items() if row[name] is not None}
        return row | {"identical": identical, "no_face": self.no_face, "reasons": reasons, "backends": backends}

    def without_face(self) -> str:
        return (f"no frame shows a face in both: none found in {self.no_face['result']} frames of the result and in "
                f"{self.no_face['driver']} of the driver")  # fmt: skip


@dataclass
class Tracks:
    """Coefficients of the user's tracker, of the frames measured: of the result, the driver and the portrait."""

    tracker: str
    moves: tuple[motion.Motion, motion.Motion, motion.Motion]
    backends: dict[str, dict]


def read_tracks(s: Evaluate, about: dict, frames: list[int], reference: int, count: int) -> Tracks | None:
    """None with the own tracker. Raises UserError for settings, ClipError for files that are not there."""
    if s.tracker == "own":
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


def measure(
    tools: Tools, made: np.ndarray, driving: np.ndarray, portrait: np.ndarray, own: bool, tracks: Tracks | None = None
) -> dict[str, Scores]:
    """Method -> scores of frames ``made`` (T, S, S, 3) u8 against the driver's, the same size.

    ``portrait`` (S, S, 3): the reference frame; ``own``: driver and target are one clip, so ``driving`` is the truth.
    ``tracks``: the user's coefficients in place of the own tracker's.
    Driver and portrait have to be of the result's size: blur alone moves the tracker's figures (docs/evaluate.md).
    """
    count, tracker = len(made), tools.tracker
    result, driver, still = (tracker.detect(frames) for frames in (made, driving, portrait[None]))
    if tracks:
        of_result, of_driver, of_still = tracks.moves
    elif own:
        of_driver, of_result, of_still = tracker.fit(driver, result, still)
    else:
        (of_driver,), (of_result, of_still) = tracker.fit(driver), tracker.fit(result, still)
    held = np.zeros(count, int)
    candidates = {
        RUN: (made, result, of_result),
        COPY: (np.broadcast_to(portrait, made.shape), _rows(still, held), _rows(of_still, held)),
    }
    target = (driving, driver) if own else (candidates[COPY][0], candidates[COPY][1])
    scores = {}
    for method, (images, landmarks, moves) in candidates.items():
        no_face = {"result": int((~landmarks.found).sum()), "driver": int((~driver.found).sum())}
        one = scores[method] = Scores({}, {}, {}, no_face)
        _pictures(one, tools, images, driving, own)
        motions = tracks.backends if tracks else tracker.backends(own)
        one.values |= {name: getattr(motion, name)(moves, of_driver) for name in motions}
        one.backends |= motions
        one.reasons |= {name: f"{tracks.tracker} gives no jaw" for name in MOTION if tracks and name not in motions}
        _identity(one, tools, (images, landmarks), target, own)
    return scores


def _rows(of: motion.Landmarks | motion.Motion, rows: np.ndarray) -> motion.Landmarks | motion.Motion:
    """The chosen frames of each array."""
    return replace(of, **{name: values[rows] for name, values in vars(of).items()})


def _pictures(one: Scores, tools: Tools, images: np.ndarray, truth: np.ndarray, own: bool) -> None:
    if not own:
        one.reasons |= dict.fromkeys(PICTURE, NO_TRUTH)
        return
    one.values |= {name: getattr(image, name)(images, truth) for name in ("psnr", "l1")}
    one.backends |= image.BACKENDS
    if min(images.shape[1:3]) < image.WINDOW:
        one.reasons["ssim"] = f"the frames are smaller than its window of {image.WINDOW} px"
    else:
        one.values["ssim"] = image.ssim(images, truth)
    if tools.lpips is None:
        one.reasons["lpips"] = perceptual.NOT_AVAILABLE
    elif min(images.shape[1:3]) < tools.lpips.least:
        one.reasons["lpips"] = f"the frames are smaller than the {tools.lpips.least} px that its network needs"
    else:
        one.values["lpips"], one.backends["lpips"] = tools.lpips(images, truth), tools.lpips.backend()


def _identity(one: Scores, tools: Tools, result: tuple, target: tuple, own: bool) -> None:
    """``result``, ``target``: frames (T, S, S, 3) and their landmarks."""
    if tools.arcface is None:
        one.reasons["csim"] = identity.NOT_AVAILABLE
        return
    a, b = (tools.arcface.embed(np.stack([*map(motion.resized, frames)]), found.points, found.found)
            for frames, found in (result, target))  # fmt: skip
    one.values["csim"] = identity.csim(a, b)
    one.backends["csim"] = identity.backend(tools.arcface, "the true frame" if own else "the reference portrait")
