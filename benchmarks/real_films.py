"""Films of real people, which lie beside the checkout or where EXPPORTRAIT_CLIPS says, and what was seen in them."""

import os
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from expportrait.demo.portrait import SOURCES
from expportrait.estimators.blendshapes import FaceLandmarker
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.sface import SFace
from expportrait.video.reader import open_source

CLIPS = Path(os.environ.get("EXPPORTRAIT_CLIPS", Path(__file__).parents[2] / "shared" / "clips"))
ONE_PERSON = ("expressive_512.mp4", "landscape_1280x720.mp4", "small_face_640x480.mkv", "hand_over_face_640x480.mkv",
              "low_resolution_480x270.gif")  # fmt: skip
CROWD = "cuts_several_faces_640x360.mp4"

# frame of expressive_512.mp4: scores that are high, and scores that are not
EXPRESSIONS = {
    "eyes shut": (58, ("eyeBlinkLeft", "eyeBlinkRight"), ("jawOpen", "eyeWideLeft")),
    "right eye shut, right brow down": (43, ("eyeBlinkRight", "browDownRight"), ("eyeBlinkLeft", "browDownLeft")),
    "left eye shut, mouth pulled to the left": (14, ("mouthLeft", "mouthUpperUpLeft"), ("mouthRight", "eyeBlinkRight")),
    "mouth open": (308, ("jawOpen",), ("eyeBlinkLeft", "mouthSmileLeft")),
    "looks to her right": (204, ("eyeLookOutRight", "eyeLookInLeft"), ("eyeLookOutLeft", "eyeLookInRight", "jawOpen")),
    "looks to her left": (324, ("eyeLookOutLeft", "eyeLookInRight", "jawOpen"), ("eyeLookOutRight", "eyeLookInLeft")),
    "looks up": (346, ("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeBlinkLeft")),
}
LOOKED_AT = sorted({frame for frame, _, _ in EXPRESSIONS.values()})


@cache
def film(name: str, every: int = 1) -> list[np.ndarray]:
    """Every so many frames (H,W,3) u8 RGB of a film."""
    return [frame for t, (_, frame) in enumerate(open_source(CLIPS / name).frames()) if t % every == 0]


def encoded(frames: Sequence[np.ndarray], crf: int = 23) -> list[np.ndarray]:
    """The frames as H.264 gives them back."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@cache
def network() -> FaceLandmarker:
    return FaceLandmarker()


@cache
def expressive() -> dict[int, np.ndarray]:
    """Frame number of EXPRESSIONS -> scores (51,)."""
    frames = film("expressive_512.mp4")
    return dict(zip(LOOKED_AT, network().detect([frames[t] for t in LOOKED_AT]).scores, strict=True))


@cache
def embeddings(name: str) -> tuple[np.ndarray, float]:
    """Unit rows of some frames of a film, or of a portrait, and the face's median height from hairline to chin, px."""
    frames = np.stack([SOURCES[name].read()] if name in SOURCES else film(name, 12 if name.endswith("4") else 6))
    points, found, _ = LandmarkDetector().detect(frames)
    if not found.all():
        raise ValueError(f"{name}: frames without a face")
    return SFace().embed(frames, points, found), float(np.median(np.ptp(points[..., 1], axis=1)))
