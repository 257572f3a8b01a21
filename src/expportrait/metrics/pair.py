"""All metrics of one pair, of this run's video and of the baseline: the portrait held still."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from expportrait.errors import ClipError, UserError
from expportrait.estimators.arcface import ArcFace
from expportrait.metrics import coefficients, identity, image, motion, perceptual
from expportrait.settings.config import Evaluate

RUN, COPY = "generated", "copy reference"
METHODS = (RUN, COPY)
BLOCK = 16  # frames compared at once
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


class Pictures(Protocol):
    """Frames (T, S, S, 3) u8: an array, or ``frames.Chosen``, which reads them where they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def __getitem__(self, frames: slice) -> np.ndarray: ...


def measure(
    tools: Tools, made: Pictures, driving: Pictures, portrait: np.ndarray, own: bool, tracks: Tracks | None = None
) -> dict[str, Scores]:
    """Method -> scores of frames ``made`` (T, S, S, 3) u8 against the driver's, the same size.

    ``portrait`` (S, S, 3): the reference frame; ``own``: driver and target are one clip, so ``driving`` is the truth.
    ``tracks``: the user's coefficients in place of the own tracker's.
    Driver and portrait have to be of the result's size: blur alone moves the tracker's figures (docs/evaluate.md).
    ``BLOCK`` frames of each are in memory at once.
    """
    tracker = tools.tracker
    result, driver, still = (tracker.detect(frames) for frames in (made, driving, portrait[None]))
    if tracks:
        of_result, of_driver, of_still = tracks.moves
    elif own:
        of_driver, of_result, of_still = tracker.fit(driver, result, still)
    else:
        (of_driver,), (of_result, of_still) = tracker.fit(driver), tracker.fit(result, still)
    held = np.zeros(made.shape[0], int)
    landmarks = {RUN: result, COPY: _rows(still, held)}
    moves = {RUN: of_result, COPY: _rows(of_still, held)}
    scores = {}
    for method in METHODS:
        no_face = {"result": int((~landmarks[method].found).sum()), "driver": int((~driver.found).sum())}
        one = scores[method] = Scores({}, {}, {}, no_face)
        _announce(one, tools, min(made.shape[1:3]), own)
        motions = tracks.backends if tracks else tracker.backends(own)
        one.values |= {name: getattr(motion, name)(moves[method], of_driver) for name in motions}
        one.backends |= motions
        one.reasons |= {name: f"{tracks.tracker} gives no jaw" for name in MOTION if tracks and name not in motions}
    parts: dict[str, list[dict[str, np.ndarray]]] = {method: [] for method in METHODS}
    for first in range(0, made.shape[0], BLOCK):
        block = slice(first, first + BLOCK)
        images = {RUN: made[block], COPY: np.broadcast_to(portrait, (len(held[block]), *portrait.shape))}
        truth = driving[block]
        seen = {method: _rows(found, block) for method, found in landmarks.items()}
        target = (truth, _rows(driver, block)) if own else (images[COPY], seen[COPY])
        for method in METHODS:
            wanted = {name for name in (*PICTURE, "csim") if name in scores[method].backends}
            parts[method].append(_compared(tools, wanted, (images[method], seen[method]), truth, target))
    for method, one in scores.items():
        one.values |= {name: np.concatenate([part[name] for part in parts[method]]) for name in parts[method][0]}
    return scores


def _rows(of: motion.Landmarks | motion.Motion, rows: np.ndarray | slice) -> motion.Landmarks | motion.Motion:
    """The chosen frames of each array."""
    return replace(of, **{name: values[rows] for name, values in vars(of).items()})


def _announce(one: Scores, tools: Tools, size: int, own: bool) -> None:
    """What pictures of ``size`` px are compared by, or why not."""
    if not own:
        one.reasons |= dict.fromkeys(PICTURE, NO_TRUTH)
    else:
        one.backends |= image.BACKENDS
        if size < image.WINDOW:
            del one.backends["ssim"]
            one.reasons["ssim"] = f"the frames are smaller than its window of {image.WINDOW} px"
        if tools.lpips is None:
            one.reasons["lpips"] = perceptual.NOT_AVAILABLE
        elif size < tools.lpips.least:
            one.reasons["lpips"] = f"the frames are smaller than the {tools.lpips.least} px that its network needs"
        else:
            one.backends["lpips"] = tools.lpips.backend()
    if tools.arcface is None:
        one.reasons["csim"] = identity.NOT_AVAILABLE
    else:
        one.backends["csim"] = identity.backend(tools.arcface, "the true frame" if own else "the reference portrait")


def _compared(tools: Tools, wanted: set[str], result: tuple, truth: np.ndarray, target: tuple) -> dict[str, np.ndarray]:
    """The ``wanted`` metrics of pictures, frame by frame. ``result``, ``target``: frames (T, S, S, 3) and their
    landmarks."""
    out = {name: getattr(image, name)(result[0], truth) for name in ("psnr", "ssim", "l1") if name in wanted}
    if "lpips" in wanted:
        out["lpips"] = tools.lpips(result[0], truth)
    if "csim" in wanted:
        a, b = (tools.arcface.embed(np.stack([*map(motion.resized, frames)]), found.points, found.found)
                for frames, found in (result, target))  # fmt: skip
        out["csim"] = identity.csim(a, b)
    return out
