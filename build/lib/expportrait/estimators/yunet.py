"""Face boxes by the network that this package carries, for faces that MediaPipe's detectors miss: YuNet."""

from threading import Lock

import cv2
import numpy as np

from expportrait import networks
from expportrait.estimators.mediapipe_models import quiet

MIN_SCORE = 0.6  # below it many boxes are hands and patterns
OVERLAP = 0.3  # intersection over union from which the weaker of two boxes is left out
MOST = 5000  # boxes looked at before that


class YuNet:
    """Face boxes of one frame, each with five points; each frame by itself. Two clips may use it at the same time."""

    def __init__(self, min_score: float = MIN_SCORE):
        """Raises UserError where the file is not the shipped one."""
        file = networks.network_file("yunet")
        with quiet():  # OpenCV 5 warns of what it sets itself
            self._model = cv2.FaceDetectorYN.create(str(file), "", (320, 320), min_score, OVERLAP, MOST)
        self._lock = Lock()  # the model remembers the size of the frame

    def detect(self, frame: np.ndarray) -> np.ndarray:
        """frame (H,W,3) u8 RGB -> (n,15) f32, best first: x0 y0 x1 y1 px, score 0..1, then x y px of the subject's
        right eye, left eye, nose tip, right and left mouth corner; possibly beyond the frame.

        The first nine columns are as ``FaceDetector.detect_with_eyes`` has them; the last ten are what
        ``SFace.embed_at`` takes.
        """
        with self._lock:
            self._model.setInputSize((frame.shape[1], frame.shape[0]))
            _, found = self._model.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        faces = np.empty((0, 15), np.float32) if found is None else found
        rows = np.column_stack([faces[:, :2], faces[:, :2] + faces[:, 2:4], faces[:, 14], faces[:, 4:14]])
        return rows[np.argsort(-rows[:, 4], kind="stable")]

    def about(self) -> dict:
        """What stands beside every number from it."""
        return networks.about("yunet") | {"input": "whole frames, BGR, 0..255 as they are"}
