"""478 face landmarks in every cropped frame."""

from collections.abc import Iterator
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import zarr

from expportrait.errors import ClipError
from expportrait.estimators.gaps import fill, same_face
from expportrait.estimators.mediapipe import LandmarkDetector
from expportrait.stage import Clip, Stage
from expportrait.store import StoreWriter

BLOCK = 16  # frames read at once


def load(settings: SimpleNamespace, device: str) -> LandmarkDetector:
    return LandmarkDetector()


def process(clip: Clip, out: StoreWriter) -> None:
    options, frames = clip.settings.landmarks, clip.parents["crop"].lazy("frames")
    count = frames.shape[0]
    points, found, confidence = clip.tools.detect(clip.progress(_one_by_one(frames), total=count, desc="frames"))
    seen = same_face(points, found)
    if not found.any():
        raise ClipError(f"no face is found in the {count} cropped frames; look at them, or give a box in the manifest")
    if seen.mean() < options.min_found:
        raise ClipError(f"the face is found in only {seen.mean():.0%} of the {count} cropped frames "
                        f"(landmarks.min_found: {options.min_found:.0%})")  # fmt: skip
    points, confidence = fill(points, confidence, seen, options.max_gap)
    out.array("points", points, unit="px", axes="x right, y down, z away from the viewer")
    out.array("confidence", confidence, range=[0, 1])
    out.array("interpolated", ~seen)
    out.attrs(detector=f"mediapipe {version('mediapipe')}, face landmarks with attention", found=float(seen.mean()))


def _one_by_one(frames: zarr.Array) -> Iterator[np.ndarray]:
    for start in range(0, frames.shape[0], BLOCK):
        yield from frames[start : start + BLOCK]


STAGE = Stage(name="landmarks", version=1, sections=("landmarks",), parents=("crop",), process=process, load=load)
