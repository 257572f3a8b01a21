"""``expportrait head check``: what a head model's file holds, whether it is usable, and a picture to look at."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.head import Head, topology
from expportrait.head.smplx import rotations
from expportrait.head.triangulation import DISTANCE, FOCAL, SIZE, centre_of, photograph
from expportrait.points478 import CHIN, FOREHEAD, LEFT_IRIS, NOSE_TIP, RIGHT_IRIS
from expportrait.render import Camera, render
from expportrait.render.picture import shade_image, turntable
from expportrait.settings.config import HeadSettings
from expportrait.show import panels
from expportrait.show.proxy import COLOURS
from expportrait.show.sheet import Sheet

JAW, LEFT_EYE, RIGHT_EYE = 3, 4, 5  # of Head.JOINTS
TILE = 360  # px
TURNS = (-90, -45, 0, 45, 90, 180)  # degrees


@dataclass(frozen=True)
class Finding:
    """``good`` is None where there is nothing to judge."""

    what: str
    value: str
    good: bool | None = None


def check_head(file: Path | None) -> tuple[Head, list[Finding]]:
    """Load a model (None: the open head), find its landmarks, and measure it. Raises UserError where it is none."""
    head = load_head(HeadSettings(file=file, shape_components=300))
    return head, [*_contents(head), *_anatomy(head), *_landmarks(head)]


def _contents(head: Head) -> list[Finding]:
    body = "open head" if head.unit_names else "no names of expressions, as in an SMPL-X file"
    correctives = "yes" if head.coarse.pose_basis is not None else "none"
    counts = head.regions.bincount(minlength=len(head.REGIONS)).tolist()
    needed = ("face", "lips", "scalp", "neck", "body", "eye")
    label = topology.components(head.faces.numpy(), len(head.coarse.template))
    parts = ", ".join(str(n) for n in sorted(np.bincount(label), reverse=True))
    ok = all(counts[head.REGIONS.index(name)] for name in needed)
    return [
        Finding("sha256", head.sha256),
        Finding("model", f"{head.body_size} vertices; {body}"),
        Finding("components", f"{head.n_shape} of shape, {head.n_expression} of expression", True),
        Finding("pose correctives", correctives),
        Finding("bust", f"{len(head.coarse.template)} vertices in parts of {parts}; {len(head.faces)} faces"),
        Finding("dense", f"{len(head.dense.template)} vertices, {len(head.dense_faces)} faces"),
        Finding("regions", ", ".join(f"{n} {c}" for n, c in zip(head.REGIONS, counts, strict=True)), ok),
    ]


def _anatomy(head: Head) -> list[Finding]:
    """Sizes that a wrong unit, another axis or a foreign order of joints would spoil."""
    joints, points = head.joint_template, head.landmarks.template
    left, right = joints[LEFT_EYE], joints[RIGHT_EYE]
    apart = 1000 * float((left - right).norm())
    tall = 1000 * float((points[FOREHEAD] - points[CHIN]).norm())
    middle = (left + right) / 2
    ahead = 1000 * float(points[NOSE_TIP, 2] - middle[2])
    jaw = joints[JAW]
    off = [1000 * float((points[list(iris), :2].mean(0) - eye[:2]).norm())
           for iris, eye in ((list(LEFT_IRIS), left), (list(RIGHT_IRIS), right))]  # fmt: skip
    widest = float((head.dense.weights.sum(1) - 1).abs().max())
    return [
        Finding("eye joints", f"{apart:.0f} mm apart", 50 < apart < 80),
        Finding("face", f"{tall:.0f} mm from forehead to chin", 110 < tall < 240),
        Finding("facing", f"nose {ahead:.0f} mm in front of the eye joints (+z)", 10 < ahead < 80),
        Finding("sides", f"left eye at x = {1000 * left[0]:.0f} mm, right eye at {1000 * right[0]:.0f} mm",
                bool(left[0] > 0 > right[0])),
        Finding("up", f"eyes {1000 * float(middle[1] - jaw[1]):.0f} mm above the jaw joint, "
                f"{1000 * float(middle[1] - joints[0, 1]):.0f} mm above the neck joint",
                bool(middle[1] > jaw[1] > joints[0, 1])),
        Finding("irises", f"{max(off):.1f} mm off the eye joints' axes at most", max(off) < 4),
        Finding("skinning weights", f"sum to 1 within {widest:.1e}", widest < 1e-3),
    ]  # fmt: skip


@torch.no_grad()
def _landmarks(head: Head) -> list[Finding]:
    """The landmarks on the mesh against those that the detector sees in a new picture of it, from the front."""
    frames, _ = photograph(head, np.eye(3)[None])
    seen, found, _ = LandmarkDetector().detect(frames)
    if not found[0]:
        return [Finding("landmarks", "no face was found in a picture of the template from the front", False)]
    centre = torch.from_numpy(centre_of(head)).float()
    posed = head.landmarks.template - centre - torch.tensor([0.0, 0.0, DISTANCE])
    drawn = Camera(FOCAL, SIZE / 2, SIZE / 2, SIZE, SIZE).project(posed).numpy()
    eyes = np.linalg.norm(drawn[list(RIGHT_IRIS)].mean(0) - drawn[list(LEFT_IRIS)].mean(0))
    error = float(np.linalg.norm(drawn - seen[0, :, :2], axis=1).mean() / eyes)
    return [Finding("landmarks", f"478, off by {error:.1%} of the eyes' distance from the front", error < 0.05)]


@torch.no_grad()
def picture_head(head: Head, backend: str = "auto") -> np.ndarray:
    """Views, regions with landmarks, mask and motions of a model, beside each other: (H, W, 3) u8."""
    still, rest = torch.zeros(head.n_shape), torch.zeros(1, head.n_expression)

    def posed(shape: Tensor = still, expression: Tensor = rest, joint: int = 0, turn: tuple = (0, 0, 0)) -> Tensor:
        pose = torch.zeros(1, len(head.JOINTS), 3)
        pose[:, [LEFT_EYE, RIGHT_EYE] if joint == LEFT_EYE else joint] = torch.tensor(turn, dtype=torch.float32)
        return head.pose(head.dense, shape, expression, rotations(pose), torch.zeros(1, 3))[0]

    def component(kind: Tensor, k: int, value: float) -> Tensor:
        chosen = torch.zeros_like(kind)
        chosen[..., k] = value
        return chosen

    neutral = posed()
    camera, place = _studio(head, neutral)

    def clay(vertices: Tensor) -> np.ndarray:
        maps = render((vertices - place)[None], head.dense_faces, camera, backend=backend, cull=True)
        return shade_image(maps.normals[0], maps.coverage[0], background=0)

    tiles = {f"{abs(turn)}° to its {'left' if turn > 0 else 'right'}" if turn % 180 else ("front", "back")[turn > 0]:
             clay(turntable(neutral, np.radians(turn))) for turn in TURNS}  # fmt: skip
    colours = torch.tensor([COLOURS[name] for name in head.REGIONS])[head.regions.long()].float()
    mask = head.dynamic_mask[:, None] * torch.tensor([70.0, 200.0, 150.0]) + 60 * (1 - head.dynamic_mask[:, None])
    maps = render((neutral - place)[None], head.dense_faces, camera, {"c": colours, "m": mask}, backend=backend)
    regions, masked = (maps.attributes[name][0].clamp(0, 255).numpy().astype(np.uint8) for name in ("c", "m"))
    spots = camera.project(head.landmarks.template - place).numpy()
    tiles |= {"regions, landmarks": panels.landmarks(regions, spots, TILE), "mask m_d": masked}
    tiles |= {"jaw open": clay(posed(joint=JAW, turn=(0.3, 0, 0))),
              "eyes to its left": clay(posed(joint=LEFT_EYE, turn=(0, 0.4, 0)))}  # fmt: skip
    for k in (0, 1):
        tiles |= {f"shape {k + 1}, {sign}2": clay(posed(shape=component(still, k, float(f"{sign}2"))))
                  for sign in "+-"}  # fmt: skip
    for k in (0, 1):
        tiles |= {f"expression {k + 1}, {sign}2": clay(posed(expression=component(rest, k, float(f"{sign}2"))))
                  for sign in "+-"}  # fmt: skip
    sheet = Sheet(tuple(tiles), len(TURNS), TILE)
    image = np.array(sheet.blank())
    for number, tile in enumerate(tiles.values()):
        sheet.put(image, number, tile)
    return image


def _studio(head: Head, vertices: Tensor) -> tuple[Camera, Tensor]:
    """A camera for all tiles, and the point that it takes for its origin."""
    above = vertices[head.regions != head.REGIONS.index("body")]
    low, high = above.amin(0), above.amax(0)
    extent = float((high - low)[:2].max())
    place = (low + high) / 2 + torch.tensor([0.0, 0.0, 5 * extent])
    return Camera(0.8 * TILE * 5, TILE / 2, TILE / 2, TILE, TILE), place


def save_png(image: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{file} could not be written")
