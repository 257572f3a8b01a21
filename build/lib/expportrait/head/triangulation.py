"""Where MediaPipe's 478 landmarks lie on a head mesh, found by showing the mesh to the detector.

The template is rendered from a grid of views, the detector runs on the pictures, the rays of each landmark are
intersected robustly, and the point is projected to the visible skin (irises: to the eyeballs). So any mesh of a body
model will do, and no hand-made list of vertices is needed.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree

from expportrait.errors import UserError
from expportrait.head import topology
from expportrait.head.embedding import Embedding
from expportrait.head.model import Head
from expportrait.points478 import IRISES, LOWER_LIP_INNER, LOWER_LIP_OUTER, SKIN_POINTS, UPPER_LIP_INNER
from expportrait.render import Camera, render

Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""frames (T,H,W,3) u8 RGB -> points (T,478,2 or 3) px, found (T,) bool."""

YAWS = np.radians([-35, -25, -15, -7, 0, 7, 15, 25, 35])
PITCHES = np.radians([-12, 0, 12])
SIZE, FOCAL, DISTANCE = 512, 2400.0, 2.0  # px, px, m: a face of about 200 px, seen from afar
LOWER_LIP = np.array(LOWER_LIP_OUTER[3:8])  # away from the corners
INNER_LOWER, INNER_UPPER = (np.array(lip[1:-1]) for lip in (LOWER_LIP_INNER, UPPER_LIP_INNER))
IRIS_RADIUS = 0.00585  # m, of grown-ups
SKIN, WHITE, DARK = (205, 160, 135), (235, 232, 228), (45, 35, 30)


def embed(head: Head, detect: Detector) -> Embedding:
    """Find the landmarks on ``head``'s template; about 10 s on one core. Raises UserError if no face is detected."""
    vertices, faces = head.coarse.template.double().numpy(), head.faces.numpy()
    label = topology.components(faces, len(vertices))[faces[:, 0]]
    skin_faces = label == np.bincount(label).argmax()
    outward = face_normals(head)

    turns = np.stack([rotation(yaw, pitch) for pitch in PITCHES for yaw in YAWS])
    frames, _ = photograph(head, turns)
    points, found = detect(frames)
    if found.sum() < len(turns) // 2:
        raise UserError(
            f"The landmark detector saw a face in {found.sum()} of {len(turns)} views of the head model: "
            "the file's template does not look like a head, y up and facing +z."
        )
    seen = seen_faces(head)
    front = seen & (outward[:, 2] > -0.2)  # not the far wall of the lips
    origins, rays = unproject(points[found, :, :2], turns[found], centre_of(head))

    normals = -rays.mean(0)
    for _ in range(3):  # a view counts as much as the surface faces it, which needs the point, which needs the views
        facing = np.clip(-(rays * normals).sum(2), 0.05, 1) ** 2
        spots = intersect(origins, rays, facing)
        chosen, weights = np.empty(len(spots), np.int64), np.empty((len(spots), 3))
        for ids, allowed in ((np.arange(SKIN_POINTS), skin_faces & front), (np.array(IRISES), eye_faces(head) & front)):
            chosen[ids], weights[ids] = closest(spots[ids], vertices, faces, np.flatnonzero(allowed))
        normals = outward[chosen]
    # The template's mouth is closed, so no ray tells the lips apart where they meet; the jaw does.
    jaw = head.coarse.weights[:, 3].double().numpy()[faces].mean(1)
    lower = jaw > 0.5 * np.median(jaw[chosen[LOWER_LIP]])
    for ids, allowed in ((INNER_LOWER, lower), (INNER_UPPER, ~lower)):
        chosen[ids], weights[ids] = closest(spots[ids], vertices, faces, np.flatnonzero(skin_faces & front & allowed))
    body = head.body_vertex.numpy()
    visible = np.zeros(head.body_size, bool)
    visible[np.setdiff1d(body[faces[seen]], -1)] = True
    return Embedding(body[faces[chosen]], weights.astype(np.float32), visible)


def eyes_of(head: Head) -> np.ndarray:
    """Eye joints (2,3), left and right."""
    return head.joint_template[4:6].double().numpy()


def centre_of(head: Head) -> np.ndarray:
    """Point of the face (3,) that the views turn about."""
    return eyes_of(head).mean(0) - np.array([0, 0.03, 0])


def eye_faces(head: Head) -> np.ndarray:
    """(F,) bool: faces of the eyeballs."""
    return (head.coarse.weights[:, 4:6].sum(1) > 0.5)[head.faces].all(1).numpy()


def face_normals(head: Head) -> np.ndarray:
    """(F,3), unit."""
    corners = head.coarse.template.double().numpy()[head.faces.numpy()]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """Turn to the subject's left by yaw, then bow by pitch, rad."""
    (cy, sy), (cp, sp) = ((np.cos(x), np.sin(x)) for x in (yaw, pitch))
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def photograph(head: Head, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of the template, u8 (T,H,W,3), and the face under each pixel (T,H,W), -1 for none: plain skin, dark
    irises, grey background, light from the camera and a little from above."""
    template = head.coarse.template.double().numpy()
    posed = np.einsum("tij,nj->tni", turns, template - centre_of(head)) - np.array([0, 0, DISTANCE])
    camera = Camera(FOCAL, SIZE / 2, SIZE / 2, SIZE, SIZE)
    gaze = template - eyes_of(head)[head.coarse.weights[:, 4:6].argmax(1).numpy()]
    attributes = {"gaze": torch.from_numpy(gaze.astype(np.float32))}
    is_eye = np.append(eye_faces(head), False)  # the last one stands for "no face"
    frames, ids = [], []
    for one in posed.astype(np.float32):
        maps = render(torch.from_numpy(one)[None], head.faces, camera, attributes=attributes)
        face_id = maps.face_id[0].numpy()
        off_axis = np.linalg.norm(maps.attributes["gaze"][0, ..., :2].numpy(), axis=-1, keepdims=True)
        colour = np.where(is_eye[face_id][..., None], np.where(off_axis < IRIS_RADIUS, DARK, WHITE), SKIN)
        light = 0.35 + 0.65 * np.clip(maps.normals[0].numpy() @ np.array([0.1, 0.35, 0.93]), 0, 1)
        frames.append(np.where(face_id[..., None] >= 0, colour * light[..., None], 110).astype(np.uint8))
        ids.append(face_id)
    return np.stack(frames), np.stack(ids)


def seen_faces(head: Head) -> np.ndarray:
    """(F,) bool: faces whose outside shows in a picture from any of 32 sides."""
    turns = np.stack(
        [
            rotation(yaw, pitch)
            for pitch in np.radians([-55, -20, 15, 50])
            for yaw in np.radians([0, 25, 60, 110, 180, -110, -60, -25])
        ]
    )
    centres = head.coarse.template.double().numpy()[head.faces.numpy()].mean(1) - centre_of(head)
    outward = face_normals(head)
    _, ids = photograph(head, turns)
    seen = np.zeros(len(outward), bool)
    for turn, shown in zip(turns, ids, strict=True):
        shown = np.setdiff1d(shown, -1)
        # From below one looks into the hollow bust, at the far side of its surface: that is not seen from outside.
        view = centres[shown] @ turn.T - np.array([0, 0, DISTANCE])
        seen[shown] |= (outward[shown] @ turn.T * view).sum(1) < 0
    return seen


def unproject(points: np.ndarray, turns: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (T,L,2) -> origins (T,1,3) and unit directions (T,L,3) of their rays in the template's space."""
    x, y = (points - SIZE / 2)[..., 0] / FOCAL, -(points - SIZE / 2)[..., 1] / FOCAL
    rays = np.stack([x, y, -np.ones_like(x)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = np.einsum("tji,j->ti", turns, np.array([0, 0, DISTANCE])) + centre
    return origin[:, None], np.einsum("tji,tlj->tli", turns, rays)


def intersect(origins: np.ndarray, rays: np.ndarray, weight: np.ndarray, scale: float = 0.0015) -> np.ndarray:
    """Points (L,3) nearest to the rays of all views, by reweighted least squares with Huber weights (``scale`` m)."""
    off = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # (T,L,3,3) removes what lies along the ray
    robust = np.ones_like(weight)
    for _ in range(8):
        system = (off * (robust * weight)[..., None, None]).sum(0)
        right = np.einsum("tlij,tj,tl->li", off, origins[:, 0], robust * weight)
        spots = np.linalg.solve(system, right[..., None])[..., 0]
        residual = np.linalg.norm(np.einsum("tlij,tlj->tli", off, spots - origins), axis=-1)
        robust = 1 / np.maximum(residual / scale, 1)
    return spots


def closest(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, allowed: np.ndarray, candidates: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points on the ``allowed`` faces: face ids (P,) and barycentric weights (P,3). Only the faces with the
    nearest centres are tried, which is exact for meshes as even as these."""
    corners = vertices[faces[allowed]]
    _, near = cKDTree(corners.mean(1)).query(points, k=min(candidates, len(allowed)))
    a, b, c = (corners[near][:, :, k] for k in range(3))
    weights = barycentric(points[:, None], a, b, c)
    outside = (weights < 0).any(-1)
    best = np.where(outside[..., None], on_border(points[:, None], a, b, c), weights)
    spot = best[..., :1] * a + best[..., 1:2] * b + best[..., 2:] * c
    pick = np.linalg.norm(spot - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    return allowed[near[rows, pick]], best[rows, pick]


def barycentric(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Weights (...,3) of the point of each triangle's plane that is nearest to p."""
    u, v, w = b - a, c - a, p - a
    uu, uv, vv = ((x * y).sum(-1) for x, y in ((u, u), (u, v), (v, v)))
    wu, wv = (w * u).sum(-1), (w * v).sum(-1)
    area = np.maximum(uu * vv - uv**2, 1e-20)
    s, t = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    return np.stack([1 - s - t, s, t], -1)


def on_border(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Weights (...,3) of the point of each triangle's border that is nearest to p."""
    best, least = None, None
    for k, (start, end) in enumerate(((a, b), (b, c), (c, a))):
        along = end - start
        t = np.clip(((p - start) * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-20), 0, 1)
        distance = np.linalg.norm(start + t[..., None] * along - p, axis=-1)
        weights = np.zeros((*t.shape, 3))
        weights[..., k], weights[..., (k + 1) % 3] = 1 - t, t
        if best is None:
            best, least = weights, distance
        else:
            best = np.where((distance < least)[..., None], weights, best)
            least = np.minimum(distance, least)
    return best
