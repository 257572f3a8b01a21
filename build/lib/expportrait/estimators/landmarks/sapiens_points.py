"""Sapiens' 308 key points (CC BY-NC 4.0) in the places of MediaPipe's 478, by the user's TorchScript file.

The interface is read from facebookresearch/sapiens at 3e829ac (lite/demo/vis_pose.py and pose_utils.py, lite/docs/,
pose/configs/_base_/datasets/goliath.py for names and order):

- input (N, 3, 1024, 768) float32, channels R, G, B, (value - mean) / deviation of 0..255; a box around the person, or,
  as its documentation recommends for this set, around the face, without distortion;
- output (N, 308, 256, 192), heat maps with peaks up to 1. The first and last rows and columns of picture and heat map
  lie on each other (unbiased data processing).

MediaPipe follows the face and says where to look. Where both sets know a point, Sapiens' stands. Lids, lips, brows and
the nose's ridge are curves in both, with different numbers of points: Sapiens' curve is sampled at the shares of its
length at which MediaPipe's points lie. What Sapiens does not have (cheeks, the oval) stays where MediaPipe sees it,
with confidence 0, and so out of the fit.
"""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch

from expportrait.errors import UserError
from expportrait.estimators.sapiens_network import HEIGHT, WIDTH, load_network, normalized, run_network
from expportrait.files import sha256
from expportrait.points478 import (
    CHIN,
    LEFT_BROW,
    LEFT_IRIS,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_LIP_INNER,
    LOWER_LIP_OUTER,
    RIGHT_BROW,
    RIGHT_IRIS,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_LIP_INNER,
    UPPER_LIP_OUTER,
)

KEYPOINTS, ROWS, COLUMNS = 308, 256, 192
BATCH = 4  # 60 MB of heat maps a frame
MARGIN = 1.25  # the box over the face's own, as the published code pads
WINDOW = 2  # cells to each side of a peak, to which a paraboloid is fitted
SINGLE = {2: 179, 9: 70, CHIN: 77, RIGHT_IRIS[0]: 281, LEFT_IRIS[0]: 272}  # MediaPipe's: Sapiens'
IRISES = (  # MediaPipe's five points; Sapiens' centre and border
    (RIGHT_IRIS, 281, range(282, 290)),
    (LEFT_IRIS, 272, range(273, 281)),
)
CURVES = (  # MediaPipe's points in order; Sapiens' first and last, and those between in any order
    (RIGHT_UPPER_LID, 121, 120, range(122, 129)),
    (RIGHT_LOWER_LID, 162, 161, range(163, 170)),
    (LEFT_UPPER_LID, 97, 96, range(98, 105)),
    (LEFT_LOWER_LID, 145, 144, range(146, 153)),
    (UPPER_LIP_OUTER, 188, 189, (190, 192, 193, *range(196, 200))),
    (LOWER_LIP_OUTER, 188, 189, (191, 194, 195, *range(200, 204))),
    (UPPER_LIP_INNER, 204, 205, (206, 208, 209, *range(212, 216))),
    (LOWER_LIP_INNER, 204, 205, (207, 210, 211, *range(216, 220))),
    (RIGHT_BROW[0], 78, 80, (81, 83, 84)),
    (RIGHT_BROW[1], 79, 80, (82, 85, 86)),
    (LEFT_BROW[0], 87, 89, (90, 92, 93)),
    (LEFT_BROW[1], 88, 89, (91, 94, 95)),
    ((168, 6, 197, 195, 5, 4), 71, 178, (72, 73, 74, 75)),  # the nose's ridge
)
# Of the brows: one point with Sapiens, two with MediaPipe, so neither is taken.
TAILS = {edge[-1] for brow in (RIGHT_BROW, LEFT_BROW) for edge in brow}
GIVEN = sorted(
    {*SINGLE, *(p for iris, _, _ in IRISES for p in iris[1:]), *(p for ids, *_ in CURVES for p in ids)} - TAILS
)


class SapiensLandmarks:
    """The network, loaded once a shard."""

    given = GIVEN

    def __init__(self, file: Path, device: str = "cpu"):
        """Raises UserError for a file that is no TorchScript."""
        self.network, self.path, self.device = load_network(file, "landmarks.model", device), file, device
        self.files = {"model": sha256(file)}

    def refine(
        self, frames: Iterable[np.ndarray], points: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """MediaPipe's points (T,478,3) px of frames (T,H,W,3) u8 RGB with Sapiens' in their places, and confidence
        (T,478), 0 for those that Sapiens does not have and in frames that are not ``found`` (T,)."""
        out, confidence = points.astype(np.float32), np.zeros(points.shape[:2], np.float32)
        waiting: list[tuple[int, np.ndarray, np.ndarray]] = []

        def work() -> None:
            seen, scores = self.keypoints([w[1] for w in waiting], [w[2] for w in waiting])
            for (t, _, _), keypoints, score in zip(waiting, seen, scores, strict=True):
                out[t, :, :2], confidence[t] = in_places(points[t, :, :2], keypoints, score)
            waiting.clear()

        for t, frame in enumerate(frames):
            if found[t]:
                waiting.append((t, frame, face_box(points[t])))
            if len(waiting) == BATCH:
                work()
        if waiting:
            work()
        return out, confidence

    @torch.inference_mode()
    def keypoints(self, frames: list[np.ndarray], boxes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(B,308,2) px and scores (B,308) 0..1 in boxes (4,): x0 y0 x1 y1 px, of frames (H,W,3) u8 RGB."""
        pictures = np.stack([cut(*each) for each in zip(frames, boxes, strict=True)])
        images = normalized(pictures, self.device)
        maps = run_network(self.network, images, "landmarks.model", self.path)
        shape = tuple(getattr(maps, "shape", ()))
        if shape != (len(frames), KEYPOINTS, ROWS, COLUMNS):
            raise UserError(
                f"landmarks.model: {self.path} gives {shape or type(maps).__name__}, not (N, {KEYPOINTS}, {ROWS}, "
                f"{COLUMNS}), so it is not Sapiens' for 308 key points"
            )
        at, score = peaks(maps.float())
        share = (at / torch.tensor([COLUMNS - 1, ROWS - 1], device=at.device)).cpu().numpy()
        low, high = (np.stack(boxes)[:, None, k : k + 2] for k in (0, 2))
        return low + share * (high - low), score.cpu().numpy()


def face_box(points: np.ndarray) -> np.ndarray:
    """(4,) x0 y0 x1 y1 px around points (478,3) px, as tall to wide as the network's input."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    width = MARGIN * max(high[0] - low[0], (high[1] - low[1]) * WIDTH / HEIGHT)
    half = np.array([width, width * HEIGHT / WIDTH]) / 2
    return np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])


def cut(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The box (4,) px of frame (H,W,3) at the network's size; its edges are the middles of the outermost pixels."""
    scale = (np.array([WIDTH, HEIGHT]) - 1) / (box[2:] - box[:2])
    move = -(box[:2] - 0.5) * scale  # OpenCV counts from the first pixel's middle
    matrix = np.array([[scale[0], 0, move[0]], [0, scale[1], move[1]]])
    return cv2.warpAffine(frame, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def peaks(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where heat maps (B,K,h,w) peak, (B,K,2) x y in cells, and how high, cut to 0..1. Below the cell: the top of the
    paraboloid through the logarithm around the highest cell, exact for a Gaussian."""
    h, w = maps.shape[2:]
    score, index = maps.flatten(2).max(-1)
    y, x = index // w, index % w
    step = torch.arange(-WINDOW, WINDOW + 1, device=maps.device)
    rows, columns = (v.clamp(WINDOW, n - 1 - WINDOW) for v, n in ((y, h), (x, w)))
    around = ((rows[..., None] + step) * w)[..., :, None] + (columns[..., None] + step)[..., None, :]
    values = maps.flatten(2).gather(2, around.flatten(2)).clamp_min(1e-4).log()
    v, u = (g.flatten().double() for g in torch.meshgrid(step, step, indexing="ij"))
    basis = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v], -1)
    _, a, c, d, e, f = (values.double() @ torch.linalg.pinv(basis).T).unbind(-1)
    bent = 4 * d * f - e * e
    good = (d < 0) & (f < 0) & (bent > 1e-12)
    bent = torch.where(good, bent, 1.0)
    top = torch.stack([(e * c - 2 * f * a) / bent, (e * a - 2 * d * c) / bent], -1)
    top = torch.where(good[..., None] & (top.abs() <= WINDOW).all(-1, keepdim=True), top, 0.0)
    centre = torch.where(good[..., None], torch.stack([columns, rows], -1), torch.stack([x, y], -1))
    return centre + top, score.clamp(0, 1)


def along(curve: np.ndarray) -> np.ndarray:
    """(n,) 0..1: share of the length of a polyline (n,2) at each of its points."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    return length / max(length[-1], 1e-9)


def in_places(points: np.ndarray, keypoints: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """points (478,2) with those of keypoints (308,2) that have a place there; confidence (478,) from score (308,)."""
    total, weight, sure = np.zeros_like(points), np.zeros(len(points)), np.zeros(len(points), np.float32)

    def put(ids: list[int], at: np.ndarray, confidence: np.ndarray) -> None:
        total[ids] += at
        weight[ids] += 1
        sure[ids] += confidence

    put(list(SINGLE), keypoints[list(SINGLE.values())], score[list(SINGLE.values())])
    for (middle, *ring), centre, border in IRISES:
        border = np.array(border)
        away, wanted = keypoints[border] - keypoints[centre], points[ring] - points[middle]
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        chosen = border[(wanted @ away.T).argmax(1)]  # by direction: whose three o'clock is meant is not said
        put(ring, keypoints[chosen], score[chosen])
    for ids, first, last, between in CURVES:
        between = np.array(between)
        axis = keypoints[last] - keypoints[first]
        between = between[np.argsort((keypoints[between] - keypoints[first]) @ axis)]
        order = np.array([first, *between, last])
        share, wanted = along(keypoints[order]), along(points[list(ids)])
        at = np.stack([np.interp(wanted, share, keypoints[order, k]) for k in (0, 1)], -1)
        put(list(ids), at, np.interp(wanted, share, score[order]))
    weight[list(TAILS)] = 0
    given = weight > 0
    out = points.copy()
    out[given] = total[given] / weight[given, None]
    return out, np.where(given, sure / np.maximum(weight, 1), 0).astype(np.float32)
