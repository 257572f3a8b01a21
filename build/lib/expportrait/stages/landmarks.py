"""478 face landmarks in every cropped frame."""

from collections.abc import Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.arcface import ArcFace, likeness
from expportrait.estimators.landmarks.gaps import fill, places, same_face
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.landmarks.quality import before_face, longest_run, outside, unsure
from expportrait.estimators.mediapipe_models import HandDetector
from expportrait.estimators.sface import SFace
from expportrait.points478 import CHIN, head_roll, head_turn
from expportrait.progress import say
from expportrait.settings.config import Landmarks
from expportrait.settings.weights import face_file, points_file
from expportrait.store import StoreWriter
from expportrait.store.frames import Frames
from expportrait.video.margins import Margins

WAITING = 8  # frames read, and searched for hands, ahead
IDENTITY_EVERY = 10  # frames
BACKENDS = {"sface": "SFace, shipped file", "arcface": "ArcFace, ONNX file"}
LEAST = {"sface": "min_sface", "arcface": "min_identity"}  # settings: cosines of two networks are not comparable
AXES = {"yaw": "turned", "pitch": "turned up or down", "roll": "lying on its side, rolled"}


def load(settings: SimpleNamespace, device: str) -> SimpleNamespace:
    options, sapiens = settings.landmarks, None
    if options.detector == "sapiens":
        from expportrait.estimators.landmarks.sapiens_points import SapiensLandmarks  # loads torch

        sapiens = SapiensLandmarks(points_file(options), device)
        say(f"landmarks.model: {options.model}, sha256 {sapiens.files['model']}, on {device}")
    hands, embedder = HandDetector() if options.hands_every else None, None
    if options.embedder:
        file = face_file(options)
        embedder = ArcFace(file, "landmarks.arcface", device) if file else SFace(device)
        say(f"landmarks.{options.embedder}: {embedder.name}, sha256 {embedder.sha256}")
    return SimpleNamespace(face=LandmarkDetector(), hands=hands, sapiens=sapiens, embedder=embedder)


def process(clip: Clip, out: StoreWriter) -> None:
    crop = clip.parents["crop"]
    options, frames = clip.settings.landmarks, Frames(crop, "frames")
    count, size = len(frames), frames.shape[1]
    margins = Margins.of(crop.attrs, size)
    known = places(crop["track"], count)
    hands: dict[int, np.ndarray] = {}
    passing = clip.ahead(_look_for_hands(frames, clip, hands), WAITING)
    points, found, confidence = clip.tools.face.detect(clip.progress(passing, total=count, desc="frames"), known)
    seen = same_face(points, found)
    if not found.any():
        raise ClipError(f"no face is found in the {count} cropped frames; look at them, or give a box in the manifest",
                        quality={"found": 0.0})  # fmt: skip
    given, detector = slice(None), f"mediapipe {version('mediapipe')}, face landmarks with attention"
    files = {}
    if clip.tools.sapiens is not None and seen.mean() >= options.min_found:
        again = clip.progress(frames, total=count, desc="sapiens")
        points, confidence = clip.tools.sapiens.refine(again, points, seen)
        given, files = clip.tools.sapiens.given, clip.tools.sapiens.files
        detector = f"sapiens, {len(given)} points; the others, of no confidence, and z: {detector}"
    figures = _figures(points, confidence[:, given], seen, hands)
    figures["outside"] = round(float(np.median(outside(points[seen], margins, size))), 4)
    no_chin = not np.median(margins.holds(points[seen][:, CHIN], size))
    fault = _fault(figures, count, options, no_chin)
    if clip.tools.embedder is not None and not fault:
        figures["identity"], fault = _identity(frames, points, seen, clip.tools.embedder, options)
    if fault:
        raise ClipError(fault, quality=figures)
    points, confidence = fill(points, confidence, seen, options.max_gap)
    confidence = np.where(margins.holds(points, size), confidence, 0).astype(np.float32)  # nobody saw what lies there
    out.array("points", points, unit="px", axes="x right, y down, z away from the viewer")
    out.array("confidence", confidence, range=[0, 1])
    out.array("interpolated", ~seen)
    out.attrs(detector=detector, files=files, **figures)


def _figures(
    points: np.ndarray, confidence: np.ndarray, seen: np.ndarray, hands: dict[int, np.ndarray]
) -> dict[str, Any]:
    """Figures of a clip, of the frames seen, for whoever chooses among clips; turns as quantiles, degrees."""
    covered = [before_face(found, points[t]) for t, found in hands.items() if seen[t]]
    turns = np.column_stack([head_turn(points[seen]), head_roll(points[seen])])
    spans = dict(zip(AXES, np.round(np.quantile(turns, (0.05, 0.95), axis=0), 1).T.tolist(), strict=True))
    return {"found": float(seen.mean()), "longest_gap": longest_run(~seen), **spans,
            "turned": dict(zip(AXES, np.median(np.abs(turns), axis=0).round(1).tolist(), strict=True)),
            "unsure": float(unsure(confidence[seen]).mean()), "mean_confidence": float(confidence[seen].mean()),
            "hands": float(np.mean(covered)) if covered else 0.0}  # fmt: skip


def _fault(figures: dict[str, Any], count: int, options: Landmarks, no_chin: bool) -> str:
    """Why the clip of ``count`` frames is of no use, with value and threshold; empty where it is of use."""
    if figures["found"] < options.min_found:
        return (f"the face is found in only {figures['found']:.0%} of the {count} cropped frames "
                f"(landmarks.min_found: {options.min_found:.0%})")  # fmt: skip
    if figures["longest_gap"] > options.max_missing:
        return (f"the face is lost for {figures['longest_gap']} frames in a row "
                f"(landmarks.max_missing: {options.max_missing})")  # fmt: skip
    if figures["outside"] > options.max_outside:
        ends = "ends above the chin, so that there is none to fit: it" if no_chin else "cuts the face off: it"
        return (f"the picture {ends} leaves out {figures['outside']:.0%} of the face "
                f"(landmarks.max_outside: {options.max_outside:.0%})")  # fmt: skip
    for axis, way in AXES.items():
        value, most = figures["turned"][axis], getattr(options, f"max_{axis}")
        if value > most:
            return (f"half of the frames show the head {way} by {value:.0f} degrees or more "
                    f"(landmarks.max_{axis}: {most:g})")  # fmt: skip
    if figures["hands"] > options.max_hands:
        return (f"a hand is before the face in {figures['hands']:.0%} of the frames looked at "
                f"(landmarks.max_hands: {options.max_hands:.0%})")  # fmt: skip
    if figures["unsure"] > options.max_unsure:
        return (f"in {figures['unsure']:.0%} of the frames a quarter of the points are guesses, as behind "
                f"hands or in blur (landmarks.max_unsure: {options.max_unsure:.0%})")  # fmt: skip
    return ""


def _identity(
    frames: Frames, points: np.ndarray, seen: np.ndarray, embedder: ArcFace | SFace, options: Landmarks
) -> tuple[dict[str, Any], str]:
    """How alike the faces of some of the frames are; and where they are not one person's, why that is one too many."""
    looked = np.flatnonzero(seen)[::IDENTITY_EVERY]
    of = LEAST[options.embedder]
    least = getattr(options, of)
    alike = likeness(embedder.embed(frames[looked], points[looked], np.ones(len(looked), bool)))
    others, fault = looked[alike < least], ""
    if len(others) > options.max_others * len(looked):
        fault = (f"{len(others)} of {len(looked)} frames looked at show another face than the rest, frame "
                 f"{others[0]} first (landmarks.{of}: {least:g}, "
                 f"landmarks.max_others: {options.max_others:.0%})")  # fmt: skip
    figures = {"least": float(alike.min()), "others": len(others) / len(looked), "unit": "cosine, 1 is equal",
               "against": "the frame most like all others", "reduction": f"of every {IDENTITY_EVERY}th frame seen",
               "backend": f"{BACKENDS[options.embedder]} {embedder.name}", "weights": embedder.sha256}  # fmt: skip
    return figures, fault


def _look_for_hands(frames: Frames, clip: Clip, hands: dict[int, np.ndarray]) -> Iterator[np.ndarray]:
    """The frames as they are; what hands every so many of them have goes to ``hands``."""
    every = clip.settings.landmarks.hands_every
    for t, frame in enumerate(frames):
        if every and t % every == 0:
            hands[t] = clip.tools.hands.detect(frame)
        yield frame
