"""All metrics of one pair: of this run's video, of the portrait moved without a network, of the portrait held still,
and of the driver encoded again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from expportrait.estimators.arcface import ArcFace
from expportrait.estimators.blendshapes import Expressions, FaceLandmarker
from expportrait.estimators.sface import SFace
from expportrait.metrics import blendshapes, floor, identity, image, motion
from expportrait.metrics.tools import MOTION, Moves, Tools, Tracks, face_backends, rows, seen_at

RUN, CARRIED, COPY, FLOOR = "generated", "appearance alone", "copy reference", "noise floor"
METHODS = (RUN, CARRIED, COPY, FLOOR)
BLOCK = 16  # frames compared at once
METRICS = ("psnr", "ssim", "lpips", "l1", "aed", "apd", "csim", "jaw", "gaze")
PICTURE = ("psnr", "ssim", "lpips", "l1")  # need the frames that should have come out
NO_TRUTH = "there is no true picture of the target making the driver's motion; of self pairs only"
IDENTICAL = "every frame is identical to the truth, the ratio is infinite"


@dataclass
class Scores:
    """One method on one pair: (T,) values a metric, NaN or infinite where a frame has none; else why there are none.

    ``faces``: (T,) bool of "result" and "driver", whether the frame shows a face.
    """

    values: dict[str, np.ndarray]
    reasons: dict[str, str]
    backends: dict[str, dict]
    faces: dict[str, np.ndarray] = field(default_factory=dict)

    def fields(self) -> dict:
        """The row's fields: number or None a metric, over how many frames, and what the number rests on."""
        row: dict = {}
        reasons, counted = dict(self.reasons), {}
        for name in METRICS:
            values = self.values.get(name, np.empty(0))
            finite = values[np.isfinite(values)]
            row[name] = float(finite.mean()) if len(finite) else None
            counted[name] = len(finite)
            if name in self.values and not len(finite):
                reasons[name] = IDENTICAL if np.isinf(values).any() else self.without_face()
        identical = int(np.isinf(self.values.get("psnr", np.empty(0))).sum())
        backends = {name: about for name, about in self.backends.items() if row[name] is not None}
        about = {"identical": identical, "no_face": self.no_face(), "counted": counted}
        return row | about | {"reasons": reasons, "backends": backends}

    def no_face(self) -> dict[str, int]:
        """In how many frames of each no face was found."""
        return {of: int((~found).sum()) for of, found in self.faces.items()}

    def without_face(self) -> str:
        return "no frame shows a face in both: none found in {result} frames of the result and in {driver} of the " \
               "driver".format(**self.no_face())  # fmt: skip


class Pictures(Protocol):
    """Frames (T, S, S, 3) u8: an array, or ``frames.Chosen``, which reads them where they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def __getitem__(self, frames: slice) -> np.ndarray: ...


def measure(
    tools: Tools, made: Pictures, driving: Pictures, portrait: np.ndarray, own: bool, tracks: Tracks | None = None,
    carried: Pictures | None = None,
) -> dict[str, Scores]:  # fmt: skip
    """Method -> scores of frames ``made`` (T, S, S, 3) u8 against the driver's, the same size; of ``carried`` too, the
    pair's appearance, where it is given.

    ``portrait`` (S, S, 3): the reference frame; ``own``: driver and target are one clip, so ``driving`` is the truth.
    ``tracks``: the user's coefficients in place of what the pictures show.
    Driver and portrait have to be of the result's size: blur alone moves the figures (docs/evaluate.md).
    ``BLOCK`` frames of each are in memory at once.
    """
    with floor.encoded_again(driving) as again:
        moves = _moves(tools, made, carried, driving, again, portrait, own, tracks)
        methods = [method for method in METHODS if method != CARRIED or carried is not None]
        scores = {method: _announced(method, tools, made.shape[1], own, moves) for method in methods}
        parts: dict[str, list[dict[str, np.ndarray]]] = {method: [] for method in methods}
        look, coded = Viewer(tools.faces, tools.identity), iter(again)
        still = look(portrait[None])
        for first in range(0, made.shape[0], BLOCK):
            block = slice(first, first + BLOCK)
            truth = driving[block]
            held = np.broadcast_to(portrait, truth.shape)
            films = {RUN: made[block], COPY: held, FLOOR: np.stack([*islice(coded, len(truth))])}
            if carried is not None:
                films[CARRIED] = carried[block]
            driver, copied = look(truth), still.repeated(len(truth))
            looks = {method: copied if method == COPY else look(films[method]) for method in methods}
            for method, part in _compared(tools, scores, films, looks, truth, driver).items():
                target = driver if own or method == FLOOR else copied
                part["csim"] = identity.csim(looks[method].embedded, target.embedded)
                part |= {"result": looks[method].face.found, "driver": driver.face.found}
                parts[method].append(part)
    for method, one in scores.items():
        values = {name: np.concatenate([part[name] for part in parts[method]]) for name in parts[method][0]}
        one.faces = {name: values.pop(name) for name in ("result", "driver")}
        one.values |= values
    return scores


@dataclass
class Look:
    """What the networks say of T frames: faces, and their unit embeddings (T, D), NaN without a face."""

    face: Expressions
    embedded: np.ndarray

    def repeated(self, count: int) -> "Look":
        """The first frame ``count`` times."""
        first = np.zeros(count, int)
        return Look(rows(self.face, first), self.embedded[first])


class Viewer:
    """Shows frames to the networks."""

    def __init__(self, faces: FaceLandmarker, identity: ArcFace | SFace):
        self._faces, self._identity = faces, identity

    def __call__(self, frames: np.ndarray) -> Look:
        """Frames (T, S, S, 3) u8 as the networks see them, at ``motion.SIZE`` px."""
        seen = np.stack([*map(motion.resized, frames)])
        face = self._faces.detect(seen)
        return Look(face, self._identity.embed(seen, face.points, face.found))


def _moves(
    tools: Tools, made: Pictures, carried: Pictures | None, driving: Pictures, again: floor.Again, portrait: np.ndarray,
    own: bool, tracks: Tracks | None,
) -> Moves | None:  # fmt: skip
    """Motion by the user's files or the own tracker, which look at a film as a whole; None by default."""
    held = np.zeros(made.shape[0], int)
    if tracks:
        result, driver, still = tracks.moves
        missing = f"there are no coefficient files of {tracks.tracker} of these pictures"
        of = {RUN: (result, driver), COPY: (rows(still, held), driver)}
        return Moves(tracks.tracker, of, tracks.backends, missing)
    if tools.tracker is None:
        return None
    fit = tools.tracker.fit
    result, driver, still, coded = (tools.tracker.detect(film) for film in (made, driving, portrait[None], again))
    if own:
        of_driver, of_result, of_still = fit(driver, result, still)
    else:
        (of_driver,), (of_result, of_still) = fit(driver), fit(result, still)
    alone, of_coded = fit(driver, coded)  # by themselves, or the other rows would depend on them
    of = {RUN: (of_result, of_driver), COPY: (rows(of_still, held), of_driver), FLOOR: (of_coded, alone)}
    if carried is not None:
        beside, moved = fit(driver, tools.tracker.detect(carried))
        of[CARRIED] = moved, beside
    return Moves("own", of, tools.tracker.backends(own))


def _announced(method: str, tools: Tools, size: int, own: bool, moves: Moves | None) -> Scores:
    """What the method's pictures of ``size`` px are compared by, or why not."""
    one = Scores({}, {}, {})
    if moves is None:
        one.backends |= face_backends(tools.faces)
    else:
        one.values, one.reasons = moves.values(method), moves.reasons(method)
        one.backends |= {name: moves.backends[name] for name in one.values}
    if not own:
        one.reasons |= dict.fromkeys(PICTURE, NO_TRUTH)
    else:
        known = image.BACKENDS | {"lpips": tools.lpips.backend()}
        one.backends |= {name: known[name] | {"input": f"whole frames of {size} px, RGB"} for name in PICTURE}
        for name, least, whose in (("ssim", image.WINDOW, "window"), ("lpips", tools.lpips.least, "network")):
            if size < least:
                del one.backends[name]
                one.reasons[name] = f"the frames are smaller than the {least} px that its {whose} needs"
    against = "the driver's frame" if method == FLOOR else "the true frame" if own else "the reference portrait"
    about = identity.backend(tools.identity, against)
    one.backends["csim"] = about | {"input": seen_at(about["input"])}
    return one


def _compared(
    tools: Tools, scores: dict[str, Scores], films: dict[str, np.ndarray], looks: dict[str, Look], truth: np.ndarray,
    driver: Look,
) -> dict[str, dict[str, np.ndarray]]:  # fmt: skip
    """Method -> metric -> (T,), of some frames: all that asks for pictures or for the faces' expressions."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for method, one in scores.items():
        wanted = {name for name in ("psnr", "ssim", "l1") if name in one.backends}
        parts[method] = {name: getattr(image, name)(films[method], truth) for name in wanted}
        for name in MOTION:
            if name in one.backends and name not in one.values:
                parts[method][name] = getattr(blendshapes, name)(looks[method].face, driver.face)
    if all("lpips" in one.backends for one in scores.values()):
        for method, values in tools.lpips.of_all(truth, films).items():
            parts[method]["lpips"] = values
    return parts
