"""Clips of known heads, rendered, and what estimators would say of them: exactly (clean), or with errors (noisy)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage as ndi
import torch
from benchmarks.truth_motion import Motion, make_motion
from benchmarks.truth_person import Person, activations, make_person, neutral, waves
from scipy.spatial.transform import Rotation
from scipy.special import ndtr

from expportrait.fit.targets import Targets
from expportrait.head import Head
from expportrait.render import Camera, render
from expportrait.store import decode_normals, encode_normals

SIZE = 512
LANDMARK, DROPPED = 0.01, 0.05  # of the inter-ocular distance, rms; of the frames
BLUR, BIAS = 2.0, np.radians(3)  # px, rad rms
DEPTH = 0.02  # of the clip's range of depth, rms
EDGE = 3.0  # px, farthest that the mask's edge lies off


@dataclass
class Clip:
    """Truth and observations. All of T frames; px of a 512 px picture, metres, camera space."""

    vertices: np.ndarray  # (T,n_d,3)
    visible: np.ndarray  # (T,n_d) bool
    landmarks: np.ndarray  # (T,478,3) px, z in px away from the viewer
    normals: np.ndarray  # (T,512,512,3) int8, as stores keep them
    depth: np.ndarray  # (T,512,512) float32 m
    mask: np.ndarray  # (T,512,512) bool
    gaze: np.ndarray  # (T,2,3) unit, of the left and right eye
    open_eyes: np.ndarray  # (T,) bool
    static: np.ndarray  # (n_d,3) m_s D_s in the clip's gauge
    dynamic: np.ndarray  # (T,n_d,3) m_d D_t, zero mean over the clip
    neutral: np.ndarray  # (n_d,3) template + B_S + m_s D_s
    focal: np.ndarray  # () px
    shape: np.ndarray  # (S,)
    expression: np.ndarray  # (T,E)
    pose: np.ndarray  # (T,10,3) axis-angle, rad
    place: np.ndarray  # (T,3) translation, m

    @property
    def camera(self) -> Camera:
        return Camera(float(self.focal), SIZE / 2, SIZE / 2, SIZE, SIZE)


def posed(head: Head, person: Person, motion: Motion, offset: torch.Tensor, focal: float, random: np.random.Generator):
    """Vertices (T,n_d,3), landmarks (T,478,3) m, the eyes' directions (T,2,3) and the translation (T,3) m."""
    turns = Rotation.from_rotvec(motion.pose.reshape(-1, 3)).as_matrix().reshape(*motion.pose.shape[:2], 3, 3)
    matrices = torch.from_numpy(turns.astype(np.float32))
    scale = random.uniform(1150, 1350)  # px a metre at the neck, as the crop stage frames a head
    centre = [random.uniform(-0.012, 0.012), -0.09 + random.uniform(-0.01, 0.01), -focal / scale]
    place = torch.from_numpy((np.array(centre) + motion.sway).astype(np.float32))
    shape, expression = torch.from_numpy(person.shape), torch.from_numpy(motion.expression(head))
    vertices = head.pose(head.dense, shape, expression, matrices, place, offset)
    corners = vertices[:, head.faces[head.landmark_faces]]  # the dense mesh begins with the coarse one
    landmarks = (head.landmark_barycentric[..., None] * corners).sum(-2)
    eyes = head.transforms(shape, expression, matrices, place)[:, 4:6, :, 2]
    return vertices, landmarks, eyes, place


def make_clip(head: Head, person: int, clip: int, frames: int) -> Clip:
    """Render one clip of one person."""
    someone, motion = make_person(head, person), make_motion((person, clip), frames)
    random = np.random.default_rng([3, person, clip])
    moved = someone.dynamic(activations(motion.units, motion.jaw))
    mean = moved.mean(0)
    focal = SIZE * random.uniform(2.4, 3.7)
    camera = Camera(focal, SIZE / 2, SIZE / 2, SIZE, SIZE)
    offset = torch.from_numpy(someone.static + moved)
    vertices, landmarks, gaze, place = posed(head, someone, motion, offset, focal, random)
    normals, depth, mask, visible = [], [], [], []
    for t in range(frames):
        maps = render(vertices[t : t + 1], head.dense_faces, camera, cull=True)
        normals.append(encode_normals(maps.normals[0].numpy()))
        depth.append(maps.depth[0].numpy())
        mask.append(maps.coverage[0].numpy() > 0.5)
        visible.append(seen(vertices[t], maps, camera, head.dense_faces))
    near = (
        (landmarks[..., 2] - landmarks[..., 2].mean(1, keepdim=True))
        * -focal
        / -landmarks[..., 2].mean(1, keepdim=True)
    )
    points = torch.cat([camera.project(landmarks), near[..., None]], -1).numpy()
    return Clip(
        vertices.numpy(),
        np.stack(visible),
        points,
        np.stack(normals),
        np.stack(depth),
        np.stack(mask),
        gaze.numpy(),
        motion.units["eyeBlinkLeft"] < 0.4,
        someone.static + mean,
        moved - mean,
        neutral(head, someone, mean),
        np.array(focal),
        someone.shape,
        motion.expression(head),
        motion.pose.astype(np.float32),
        place.numpy(),
    )


def seen(vertices: torch.Tensor, maps, camera: Camera, faces: torch.Tensor) -> np.ndarray:
    """(n,) bool: a vertex of a face that is drawn, inside the picture."""
    drawn = torch.zeros(len(vertices), dtype=torch.bool)
    drawn[faces[maps.face_id[0][maps.face_id[0] >= 0].unique()]] = True
    inside = ((camera.project(vertices) > 0) & (camera.project(vertices) < SIZE)).all(-1)
    return (drawn & inside).numpy()


def cached(make, folder: Path | None, *key) -> dict[str, np.ndarray]:
    """``make()`` from ``folder``, where it was made before by the same code with the same key."""
    if folder is None:
        return make()
    sources = [Path(__file__).with_name(f"truth_{name}.py").read_bytes() for name in ("person", "motion", "clips")]
    file = folder / f"{hashlib.sha256(b''.join(sources) + repr(key).encode()).hexdigest()[:20]}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{np.random.default_rng().integers(10**9)}.npz")
        np.savez(part, **make())
        part.replace(file)
    with np.load(file) as data:
        return {name: data[name] for name in data.files}


def load_clip(head: Head, person: int, clip: int, frames: int, folder: Path | None = None) -> Clip:
    key = ("clip", head.sha256, len(head.dense.template), head.n_shape, head.n_expression, person, clip, frames)
    return Clip(**cached(lambda: vars(make_clip(head, person, clip, frames)), folder, *key))


def population_mean(head: Head, folder: Path | None = None, people: int = 32) -> np.ndarray:
    """(n_d,3) m: the generator's mean of B_S + m_s D_s, from people who are in no clip, one motion each."""

    def make() -> dict[str, np.ndarray]:
        total = np.zeros(head.dense.template.shape)
        for i in range(10**5, 10**5 + people):
            someone, motion = make_person(head, i), make_motion((i, i), 60)
            mean = someone.dynamic(activations(motion.units, motion.jaw).mean(0, keepdims=True))[0]
            total += neutral(head, someone, mean)
        return {"mean": total / people}

    return cached(make, folder, "mean", head.sha256, len(head.dense.template), head.n_shape, people)["mean"]


def observe(clip: Clip, seed: tuple[int, int], noisy: bool) -> tuple[Targets, torch.Tensor, torch.Tensor]:
    """What the fit is given: geometry at 512 px, points (T,478,3) px, confidence (T,478)."""
    random = np.random.default_rng([4, *seed])
    frames = len(clip.mask)
    points, confidence = clip.landmarks.copy(), np.ones(clip.landmarks.shape[:2], np.float32)
    normals, depth, mask = clip.normals, clip.depth, clip.mask.astype(np.uint8) * 255
    if noisy:
        points, confidence = noisy_landmarks(points, random)
        mask = np.stack([wandering_edge(one, random) for one in clip.mask])
        normals = noisy_normals(clip, random)
        depth = noisy_depth(clip, random)
    # Estimators give depth up to a scale and a shift; outside the mask they give something too.
    scale, shift = random.uniform(0.2, 3), random.uniform(-1, 1)
    each = 1 + 0.05 * random.normal(size=(frames, 2)) if noisy else np.ones((frames, 2))
    depth = (scale * each[:, 0, None, None] * depth + shift * each[:, 1, None, None]).astype(np.float16)
    targets = Targets(
        torch.from_numpy(decode_normals(normals)),
        torch.from_numpy(depth.astype(np.float32)),
        torch.from_numpy(mask.astype(np.float32) / 255),
        torch.ones(mask.shape),
    )
    return targets, torch.from_numpy(points.astype(np.float32)), torch.from_numpy(confidence)


def interocular(points: np.ndarray) -> np.ndarray:
    """(T,) px: the outer eye corners' distance in space, so that a turn does not shorten it."""
    return np.linalg.norm(points[:, 33] - points[:, 263], axis=-1)


def noisy_landmarks(points: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """1 % of the inter-ocular distance in the picture's plane, half of its variance slow as a detector's bias is, and
    frames that the detector lost: points from frame to frame in a straight line, less sure."""
    t, unit = len(points), interocular(points)[:, None, None]
    fast = random.normal(size=points.shape)
    slow = ndi.gaussian_filter1d(random.normal(size=(t + 40, *points.shape[1:])), 6, axis=0)[20:-20]
    noise = (fast + slow / slow.std()) / 2  # two coordinates: rms length 1
    out = points + LANDMARK * unit * noise * [1, 1, 3]
    lost = np.zeros(t, bool)
    lost[random.choice(np.arange(1, t - 1), max(1, round(DROPPED * t)), replace=False)] = True
    known, confidence = np.flatnonzero(~lost), np.ones(points.shape[:2], np.float32)
    flat = out[known].reshape(len(known), -1)
    out = np.stack([np.interp(np.arange(t), known, column) for column in flat.T], -1).reshape(points.shape)
    confidence[lost] = 0.5
    return out, confidence


def smooth_image(length: float, random: np.random.Generator, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """Random image of unit variance, bumps about 2 ``length`` px wide."""
    step = 8
    y, x = np.mgrid[-1 : shape[0] // step + 2, -1 : shape[1] // step + 2] * step
    coarse = waves(np.stack([x.ravel(), y.ravel()], -1), length, random).reshape(x.shape)
    rows, columns = (np.arange(n) / step + 1 for n in shape)
    return ndi.map_coordinates(coarse, np.meshgrid(rows, columns, indexing="ij"), order=1)


def wandering_edge(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(H,W) bool -> u8: the edge moved by up to 3 px, evenly likely, and soft over one pixel."""
    signed = np.where(mask, ndi.distance_transform_edt(mask) - 0.5, 0.5 - ndi.distance_transform_edt(~mask))
    moved = signed + EDGE * (2 * ndtr(smooth_image(14, random)) - 1)
    return np.rint(255 * np.clip(moved + 0.5, 0, 1)).astype(np.uint8)


def noisy_normals(clip: Clip, random: np.random.Generator) -> np.ndarray:
    """Blurred by 2 px and tilted by a smooth field, most of it fixed to the head: a bias, which no average removes."""
    fixed = [smooth_image(50, random, (2 * SIZE, 2 * SIZE)) for _ in range(2)]
    centre = clip.landmarks[..., :2].mean(1).round().astype(int)
    out = []
    for normals, mask, (x, y) in zip(clip.normals, clip.mask, centre, strict=True):
        weight = ndi.gaussian_filter(mask.astype(np.float32), BLUR)
        value = decode_normals(normals)
        value = np.stack([ndi.gaussian_filter(value[..., k], BLUR) for k in range(3)], -1)
        value /= np.maximum(weight, 1e-3)[..., None]
        at = slice(SIZE - y, 2 * SIZE - y), slice(SIZE - x, 2 * SIZE - x)
        tilt = [np.sqrt(0.75) * image[at] + 0.5 * smooth_image(50, random) for image in fixed]
        axis = np.stack([*tilt, np.zeros_like(tilt[0])], -1) * BIAS / np.sqrt(2)
        value = value + np.cross(axis, value)
        value /= np.maximum(np.linalg.norm(value, axis=-1, keepdims=True), 1e-6)
        out.append(encode_normals(value * (weight > 0.01)[..., None]))
    return np.stack(out)


def noisy_depth(clip: Clip, random: np.random.Generator) -> np.ndarray:
    inside = clip.depth[clip.mask]
    low, high = np.quantile(inside[:: max(1, len(inside) // 10**5)], [0.02, 0.98])
    out = []
    for depth, mask in zip(clip.depth, clip.mask, strict=True):
        nearest = ndi.distance_transform_edt(~mask, return_distances=False, return_indices=True)
        out.append(depth[tuple(nearest)] + DEPTH * (high - low) * smooth_image(40, random))
    return np.stack(out)
