"""Face boxes and 478 face landmarks, from the weights inside the mediapipe 0.10.14 wheel.

The landmark model is run on a region of interest that is given to it, so what is carried from frame to frame stands in
plain sight below, and nothing is left over from one clip to the next.
"""

from collections.abc import Iterable

import numpy as np

from expportrait.estimators.mediapipe_models import quiet
from expportrait.points478 import OUTER_EYES, POINTS, head_roll

REGION_SCALE = 1.5  # side of the region of interest over the larger side of the box, as the model was trained
# of the region: shift x y over its side, factor on the side, roll in rad
REGION_VARIATIONS = ((0, 0, 1, 0), (0.03, 0.02, 0.87, 0.1), (-0.03, -0.02, 1.15, -0.1))
SAME = 0.3  # overlap (intersection over union) from which two boxes are the same face
STEADY = 0.6  # the same of a detector's box and a face's, which is larger: it stands still, 0.65 to 0.9 are found
SPREAD = 0.01  # disagreement of the runs, over the side of the region, that halves the confidence
LANDMARK_GRAPH = """
input_stream: "IMAGE:image"
input_stream: "ROI:region"
output_stream: "LANDMARKS:landmarks"
node {
  calculator: "ConstantSidePacketCalculator"
  output_side_packet: "PACKET:with_attention"
  options { [mediapipe.ConstantSidePacketCalculatorOptions.ext] { packet { bool_value: true } } }
}
node {
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}
"""
PRESENCE = "facelandmarkcpu__face_presence_score"  # a stream inside FaceLandmarkCpu: the model's own face probability


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of one box (4,) with others (n,4)."""
    size = np.clip(np.minimum(a[2:], b[:, 2:4]) - np.maximum(a[:2], b[:, :2]), 0, None)
    both = size.prod(1)
    return both / ((a[2:] - a[:2]).prod() + (b[:, 2:4] - b[:, :2]).prod(1) - both)


class FaceDetector:
    """Face boxes of one frame, from MediaPipe's short-range and full-range BlazeFace.

    A box goes roughly from the brows to the chin. The short-range model is the better one for faces above a fifth of
    the frame, the full-range model finds those down to a fifteenth; what both find is kept once, by the higher score.
    """

    def __init__(self, min_score: float = 0.5) -> None:
        with quiet():
            from mediapipe.python.solutions.face_detection import FaceDetection

            self._models = [FaceDetection(min_score, selection) for selection in (0, 1)]
            for model in self._models:  # the messages come from threads of the first run
                model.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, frame: np.ndarray) -> np.ndarray:
        """frame (H,W,3) u8 RGB -> (n,5) f32: x0 y0 x1 y1 px, score 0..1; best first, possibly beyond the frame."""
        return self.detect_with_eyes(frame)[:, :5]

    def detect_with_eyes(self, frame: np.ndarray) -> np.ndarray:
        """frame (H,W,3) u8 RGB -> (n,9) f32: box, score, then the subject's right and left eye, x y px."""
        frame = np.ascontiguousarray(frame)
        height, width = frame.shape[:2]
        rows = []
        for model in self._models:
            for found in model.process(frame).detections or ():
                box, eyes = found.location_data.relative_bounding_box, found.location_data.relative_keypoints[:2]
                rows.append([box.xmin * width, box.ymin * height, (box.xmin + box.width) * width,
                             (box.ymin + box.height) * height, found.score[0],
                             *(v for eye in eyes for v in (eye.x * width, eye.y * height))])  # fmt: skip
        rows = np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 9)
        kept = np.empty((0, 9), np.float32)
        for row in rows:
            if not (_iou(row[:4], kept) > SAME).any():
                kept = np.vstack([kept, row])
        return kept


class LandmarkDetector:
    """MediaPipe's 478 face landmarks (irises included) of the frames of one clip.

    The model is run on three slightly different regions around the face of the frame before (of the detector's, in the
    first frame and wherever the face is lost) and the points are averaged, which shakes less than one run does.
    """

    def __init__(self, detector: FaceDetector | None = None) -> None:
        self._detector = detector or FaceDetector()
        with quiet():
            from google.protobuf import text_format
            from mediapipe.calculators.core import constant_side_packet_calculator_pb2  # noqa: F401  (the graph names it)
            from mediapipe.framework import calculator_pb2
            from mediapipe.framework.formats import rect_pb2
            from mediapipe.python.solution_base import PacketDataType, SolutionBase

            self._rect = rect_pb2.NormalizedRect
            types = {"image": PacketDataType.IMAGE_FRAME, "region": PacketDataType.PROTO,
                     "landmarks": PacketDataType.PROTO, PRESENCE: PacketDataType.FLOAT}  # fmt: skip
            graph = text_format.Parse(LANDMARK_GRAPH, calculator_pb2.CalculatorGraphConfig())
            self._model = SolutionBase(graph_config=graph, outputs=["landmarks", PRESENCE], stream_type_hints=types)
            self._run(np.zeros((64, 64, 3), np.uint8), np.array([32, 32, 64, 0], np.float32))

    def detect(
        self, frames: Iterable[np.ndarray], places: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Landmarks of one face, followed through the frames of one clip.

        frames (T,H,W,3) u8 RGB, any iterable. places (T,5): where the face is known to be, a box x0 y0 x1 y1 px and how
        far from its middle the face's may lie, in the box's larger side; faces elsewhere are other people's. Without
        it the most prominent face is followed. Returns
        points (T,478,3) f32 px: x, y, and z towards the viewer negative, 0 at the head's centre, in the scale of x;
        found (T,) bool; points and confidence are 0 where it is False;
        confidence (T,478) f32 0..1: the model's probability that it sees a face, times 1 / (1 + (s / s0)^2), s being
        how far the three runs disagree on the point, s0 1 % of the region's side. It falls where a hand is in front.
        """
        results = []
        region = None
        for t, frame in enumerate(frames):
            frame = np.ascontiguousarray(frame)
            place = None if places is None else places[t]
            result = None if region is None else self._points(frame, region)
            if result is None or not _is_there(result[0], place):
                result = self._redetect(frame, region, place)
            if result is not None:
                region = _region(result[0])
            results.append(result)
        found = np.array([result is not None for result in results], bool)
        points = np.zeros((len(results), POINTS, 3), np.float32)
        confidence = np.zeros((len(results), POINTS), np.float32)
        for t in np.flatnonzero(found):
            points[t], confidence[t] = results[t]
        return points, found, confidence

    def faces(self, frame: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """Every face of a frame (H,W,3) u8 RGB once: (n,6) f32 x0 y0 x1 y1 px around its landmarks, the detector's
        score 0..1, roll in degrees clockwise.

        The box goes from the hairline to the chin. It is steadier than the detector's, whose side is 0.85 to 1.4 times
        as long, and what the landmark model does not take for a face is left out. ``known``: the faces of a frame
        shortly before; of those that have hardly moved, the box may differ by some 1 % of its side, and costs half.
        """
        frame = np.ascontiguousarray(frame)
        return self.agreed(frame, self._detector.detect_with_eyes(frame), known)

    def agreed(self, frame: np.ndarray, found: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """The same of faces that any detector has ``found``, rows as ``detect_with_eyes`` has them."""
        frame = np.ascontiguousarray(frame)
        boxes = np.empty((0, 6), np.float32)
        for face in found:
            points = self._steady(frame, face, known)
            if points is None and (rough := self._settle(frame, face)) is not None:
                points, _ = self._run(frame, _region(rough))
            if points is None:
                continue
            box = np.array([*points[:, :2].min(0), *points[:, :2].max(0), face[4], head_roll(points)], np.float32)
            if not (_iou(box[:4], boxes) > SAME).any():
                boxes = np.vstack([boxes, box])
        return boxes

    def _steady(self, frame: np.ndarray, face: np.ndarray, known: np.ndarray | None) -> np.ndarray | None:
        """Points of a face that the detector finds where one was ``known``; None where that is not so."""
        overlap = _iou(face[:4], known) if known is not None and len(known) else np.zeros(1)
        if overlap.max() < STEADY:
            return None
        x0, y0, x1, y1, _, roll = known[overlap.argmax()]
        side = REGION_SCALE * max(x1 - x0, y1 - y0)
        points, _ = self._run(frame, np.array([(x0 + x1) / 2, (y0 + y1) / 2, side, np.radians(roll)]))
        if points is None or _iou(face[:4], np.array([[*points[:, :2].min(0), *points[:, :2].max(0)]]))[0] < STEADY:
            return None
        return points

    def _redetect(
        self, frame: np.ndarray, last: np.ndarray | None, place: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Points and confidence, starting from the detector's face nearest to `place`, else to the `last` region, else
        from the largest one."""
        if place is not None:
            last = (place[:2] + place[2:4]) / 2
        faces = self._detector.detect_with_eyes(frame)
        size = (faces[:, 2:4] - faces[:, :2]).max(1)
        if last is None:
            order = np.argsort(-size * faces[:, 4])
        else:
            order = np.argsort(np.linalg.norm((faces[:, :2] + faces[:, 2:4]) / 2 - last[:2], axis=1))
        for face in order:
            points = self._settle(frame, faces[face])
            result = None if points is None else self._points(frame, _region(points))
            if result is not None and _is_there(result[0], place):
                return result
        return None

    def _settle(self, frame: np.ndarray, face: np.ndarray) -> np.ndarray | None:
        """Rough points (478,3) px in a row of `detect_with_eyes`; None where the landmark model sees no face."""
        right, left = face[5:7], face[7:9]
        roll = np.arctan2(*(left - right)[::-1])
        side = REGION_SCALE * max(face[2:4] - face[:2])
        return self._run(frame, np.array([*(face[:2] + face[2:4]) / 2, side, roll]))[0]

    def _points(self, frame: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Points (478,3) px and confidence (478,) of runs on variations of one region; None where most see no face."""
        runs = []
        for x, y, scale, roll in REGION_VARIATIONS:
            runs.append(self._run(frame, region * [1, 1, scale, 1] + [x * region[2], y * region[2], 0, roll]))
        seen = np.array([points for points, _ in runs if points is not None])
        if len(seen) < 2:
            return None
        points = seen.mean(0)
        centre = points[:, :2].mean(0)
        if not (0 <= centre[0] < frame.shape[1] and 0 <= centre[1] < frame.shape[0]):
            return None
        spread = np.sqrt(((seen - points)[..., :2] ** 2).sum(-1).mean(0))
        presence = np.mean([score for _, score in runs])
        return points, presence / (1 + (spread / (SPREAD * region[2])) ** 2)

    def _run(self, frame: np.ndarray, region: np.ndarray) -> tuple[np.ndarray | None, float]:
        """Points (478,3) px, or None, and the face probability in `region`: centre x y, side px, roll rad."""
        height, width = frame.shape[:2]
        x, y, side, roll = map(float, region / [width, height, 1, 1])
        rect = self._rect(x_center=x, y_center=y, width=side / width, height=side / height, rotation=roll)
        out = self._model.process({"image": frame, "region": rect})
        presence = float(getattr(out, PRESENCE) or 0)
        if out.landmarks is None:
            return None, presence
        points = np.array([(p.x, p.y, p.z) for p in out.landmarks.landmark], np.float32)
        return points * np.array([width, height, width], np.float32), presence


def _is_there(points: np.ndarray, place: np.ndarray | None) -> bool:
    """Whether a face (478,3) px is at a place (5,) as `LandmarkDetector.detect` takes them; None: anywhere."""
    if place is None:
        return True
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    sides = max(place[2:4] - place[:2]), max(high - low)
    away = np.linalg.norm((low + high - place[:2] - place[2:4]) / 2)
    return bool(away <= place[4] * sides[0] and max(sides) <= (1 + place[4]) * min(sides))


def _region(points: np.ndarray) -> np.ndarray:
    """Region of interest around points (478,3) px: centre x y, side px, roll rad."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    eyes = points[OUTER_EYES[1], :2] - points[OUTER_EYES[0], :2]
    return np.array([*(low + high) / 2, REGION_SCALE * (high - low).max(), np.arctan2(eyes[1], eyes[0])])
