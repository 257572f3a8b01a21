"""Models inside the mediapipe 0.10.14 wheel: how they are loaded, and those for a person's mask and for hands.

Face boxes and landmarks: ``landmarks/mediapipe.py``.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

import numpy as np

from expportrait.files import sha256, temporary_file

warnings.filterwarnings("ignore", message=r"SymbolDatabase\.GetPrototype", category=UserWarning)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the C++ start-up messages, which no Python setting reaches, off the terminal; show them on failure."""
    with temporary_file() as spool:
        saved = os.dup(2)
        os.dup2(spool.fileno(), 2)
        try:
            yield
        except BaseException:
            spool.seek(0)
            os.write(saved, spool.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def shipped(*files: str) -> dict[str, str]:
    """sha256 of models inside the mediapipe package, by name; ``files``: paths in its folder modules."""
    folder = Path(find_spec("mediapipe").submodule_search_locations[0]) / "modules"
    return {Path(file).name: sha256(folder / file) for file in files}


class SelfieSegmenter:
    """Which pixels show a person: MediaPipe's selfie segmentation, a 256 x 256 model; each frame by itself."""

    FILES = ("selfie_segmentation/selfie_segmentation.tflite",)

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

            self._model = SelfieSegmentation(model_selection=0)
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def segment(self, frame: np.ndarray) -> np.ndarray:
        """frame (H,W,3) u8 RGB -> probability (H,W) f32, 0..1."""
        return np.array(self._model.process(np.ascontiguousarray(frame)).segmentation_mask, np.float32)


class HandDetector:
    """MediaPipe's hands, up to two; each frame by itself. Two clips may use it at the same time."""

    FILES = ("palm_detection/palm_detection_full.tflite", "hand_landmark/hand_landmark_full.tflite")

    def __init__(self) -> None:
        with quiet():
            from mediapipe.python.solutions.hands import Hands

            # the lighter model takes chins for hands now and then
            self._model, self._lock = Hands(static_image_mode=True, max_num_hands=2, model_complexity=1), Lock()
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, frame: np.ndarray) -> np.ndarray:
        """frame (H,W,3) u8 RGB -> (n,21,2) f32: x y px."""
        with self._lock:
            found = self._model.process(np.ascontiguousarray(frame)).multi_hand_landmarks or ()
        hands = [[(p.x * frame.shape[1], p.y * frame.shape[0]) for p in hand.landmark] for hand in found]
        return np.array(hands, np.float32).reshape(-1, 21, 2)
