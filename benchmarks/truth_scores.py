"""Figures of a fitted clip against its truth (shared conventions: benchmarks/README.md, proxy_truth.py)."""

import numpy as np
import torch
from benchmarks.truth_clips import Clip
from benchmarks.truth_observe import interocular
from scipy.spatial import cKDTree

from expportrait.fit.result import ProxyFit
from expportrait.head import Head
from expportrait.render import Camera, render, vertex_normals
from expportrait.store import decode_normals

SEEN = 0.25  # of the frames, from which a vertex counts for the identity
EVERY = 4  # frames between two whose surface and normals are compared
ROUNDS, SAMPLES, ROBUST = 6, 6000, 5e-4  # of the alignment: steps, vertices a frame, m
LIDS = ((159, 386), (145, 374))  # the middles of both eyes' upper lids, and of the lower
HIDDEN = ("eye", "teeth", "tongue", "mouth")  # no offsets act there


def score_clip(head: Head, fit: ProxyFit, clip: Clip) -> dict[str, float]:
    """Figures of one clip by name; see README for the definitions."""
    vertices = fitted_vertices(head, fit)
    camera = fit.parameters.camera()
    scores = surface_scores(head, vertices.numpy(), clip) | normal_scores(head, vertices, camera, clip)
    landmarks = projected_landmarks(head, vertices, camera)
    scores["landmark_iod"] = landmark_error(head, landmarks, clip)
    scores["gaze_deg"] = gaze_error(head, fit, clip)
    scores["lid_iod"] = lid_error(landmarks, clip)
    moved = np.zeros((len(fit.dynamic), *fit.static.shape), np.float32)
    moved[:, fit.dynamic_vertices.numpy()] = fit.dynamic.numpy()
    face = facial(head) & (clip.visible.mean(0) > SEEN)
    normals = vertex_normals(head.dense.template[None], head.dense_faces)[0].numpy()
    scores |= disentanglement(moved, clip.dynamic, clip.static, head.dynamic_mask.numpy(), face)
    scores |= dynamic_scores(moved[:, face], clip.dynamic[:, face], normals[face])
    projected = camera.project(vertices).numpy()
    scores["jitter_ratio"] = jitter(projected, clip.visible) / jitter(
        clip.camera.project(torch.from_numpy(clip.vertices)).numpy(), clip.visible
    )
    return scores


def projected_landmarks(head: Head, vertices: torch.Tensor, camera: Camera) -> np.ndarray:
    """(T,478,2) px of vertices (T,n_d,3)."""
    corners = vertices[:, head.faces[head.landmark_faces]]
    return camera.project((head.landmark_barycentric[..., None] * corners).sum(-2)).numpy()


def landmark_error(head: Head, landmarks: np.ndarray, clip: Clip) -> float:
    """% of the eye corners' distance: (T,478,2) px to the true landmarks, the oval's left out."""
    inside = np.setdiff1d(np.arange(478), head.landmark_oval)
    gap = np.linalg.norm(landmarks - clip.landmarks[..., :2], axis=-1)[:, inside].mean(1)
    return float(100 * (gap / interocular(clip.landmarks)).mean())


def facial(head: Head) -> np.ndarray:
    """(n_d,) bool: skin of the face that offsets reach."""
    return ((head.facial > 0.5) & (head.free > 0.5)).numpy()


def skin(head: Head) -> np.ndarray:
    """(n_d,) bool: all but eyes, teeth, tongue and what never shows."""
    hidden = torch.tensor([head.REGIONS.index(name) for name in HIDDEN], dtype=head.regions.dtype)
    return ~torch.isin(head.regions, hidden).numpy()


@torch.no_grad()
def fitted_vertices(head: Head, fit: ProxyFit) -> torch.Tensor:
    """(T,n_d,3) m, camera space: eq. (4)."""
    frames = range(fit.parameters.frames)
    return torch.cat([fit.vertices(head, slice(t, t + 1)) for t in frames])  # one at a time: memory


def fitted_neutral(head: Head, fit: ProxyFit) -> np.ndarray:
    """(n_d,3) m: template + B_S + m_s D_s."""
    zero = torch.zeros(1, head.n_expression)
    return (head.dense.canonical(fit.parameters.shape, zero)[0] + fit.static).numpy()


def align(head: Head, vertices: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(T,n,3) after what one view cannot know: one scale a clip, and a shift in depth a frame (the focal length).

    Least squares over truth (T,n,3) with weights (T,n), first from vertex to vertex, then from the truth's vertices to
    the nearest tangent planes, robust: hair and clothes slide over a head, and would change its size.
    """
    w = weight[..., None] / np.maximum(weight.sum(1), 1e-9)[:, None, None]
    ray = (w * truth).sum(1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    depth = lambda x: ((w * x).sum(1) * ray).sum(-1)[:, None, None] * ray[:, None]  # noqa: E731
    a, b = vertices - depth(vertices), truth - depth(truth)
    scale = (weight[..., None] * a * b).sum() / (weight[..., None] * a * a).sum()
    aligned = scale * a + depth(truth)
    centre = (w * truth).sum(1)
    for _ in range(ROUNDS):
        gram, pull = np.zeros((len(truth) + 1, len(truth) + 1)), np.zeros(len(truth) + 1)
        for t in range(len(truth)):
            points = truth[t, weight[t] > 0][:: max(1, int((weight[t] > 0).sum()) // SAMPLES)]
            nearest, normals, gap = nearest_planes(head, points, aligned[t])
            trust = 1 / np.maximum(np.abs(gap), ROBUST)
            move = np.zeros((len(points), len(truth) + 1))
            move[:, -1], move[:, t] = (normals * (nearest - centre[t])).sum(1), normals @ ray[t]
            gram, pull = gram + move.T @ (trust[:, None] * move), pull + move.T @ (trust * gap)
        step = np.linalg.solve(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)), pull)
        aligned = centre[:, None] + (1 + step[-1]) * (aligned - centre[:, None]) + (step[:-1, None] * ray)[:, None]
    return aligned


def nearest_planes(head: Head, points: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points (k,3): the nearest vertex of a head's outer surface, its normal, and the signed distance (k,) to the
    plane there."""
    outer = skin(head)
    normals = vertex_normals(torch.from_numpy(vertices[None]), head.dense_faces)[0].numpy()[outer]
    _, nearest = cKDTree(vertices[outer]).query(points)
    near, normals = vertices[outer][nearest], normals[nearest]
    return near, normals, ((points - near) * normals).sum(1)


def surface_scores(head: Head, vertices: np.ndarray, clip: Clip) -> dict[str, float]:
    """mm, visible vertices of the truth to the fitted surface, and to the same vertex there; face and rest apart."""
    part = {"face": facial(head), "rest": skin(head) & ~facial(head)}
    weight = (clip.visible & skin(head)).astype(np.float64)
    truth, weight = clip.vertices[::EVERY].astype(np.float64), weight[::EVERY]
    aligned = align(head, vertices[::EVERY].astype(np.float64), truth, weight)
    found = {f"{kind}_{name}_mm": [] for kind in ("surface", "vertex") for name in part}
    for t in range(len(aligned)):
        for name, where in part.items():
            chosen = np.flatnonzero(clip.visible[EVERY * t] & where)
            points = truth[t, chosen]
            near, _, gap = nearest_planes(head, points, aligned[t])
            gap = np.minimum(np.abs(gap), np.linalg.norm(points - near, axis=1))
            found[f"surface_{name}_mm"].append(gap.mean())
            found[f"vertex_{name}_mm"].append(np.linalg.norm(points - aligned[t, chosen], axis=-1).mean())
    return {name: 1e3 * float(np.mean(values)) for name, values in found.items()}


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...,) degrees between unit vectors (...,3)."""
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def normal_scores(head: Head, vertices: torch.Tensor, camera, clip: Clip) -> dict[str, float]:
    """Degrees to the true normals (never the noisy ones) at 512 px over the true mask where the fit has a surface, the
    share of the mask where it has none, and degrees over the face."""
    degrees, missed, face = [], [], []
    on_face = torch.from_numpy(facial(head))[head.dense_faces].all(1).numpy()
    for t in range(0, len(vertices), EVERY):
        maps = render(vertices[t : t + 1], head.dense_faces, camera, cull=True)
        there = maps.coverage[0].numpy() > 0.5
        both = there & clip.mask[t]
        error = angles(maps.normals[0].numpy()[both], decode_normals(clip.normals[t][both]))
        degrees.append(error.mean())
        missed.append(1 - both.sum() / clip.mask[t].sum())
        face.append(error[on_face[maps.face_id[0].numpy()[both]]].mean())
    names = ("normal_deg", "normal_missed", "normal_face_deg")
    return {name: float(np.mean(values)) for name, values in zip(names, (degrees, missed, face), strict=True)}


def gaze_error(head: Head, fit: ProxyFit, clip: Clip) -> float:
    """Degrees between the eyes' true and fitted directions in camera space, mean of both, frames with open eyes."""
    p = fit.parameters
    fitted = head.transforms(p.shape, p.expression, p.matrices(), p.translation())[:, 4:6, :, 2].detach().numpy()
    return float(angles(fitted, clip.gaze)[clip.open_eyes].mean())


def lid_error(landmarks: np.ndarray, clip: Clip) -> float:
    """% of the eye corners' distance: the eyelids' true and fitted opening apart, mean of both eyes over the frames
    with closing eyes; NaN without any."""
    opening = lambda points: np.linalg.norm(points[:, LIDS[0], :2] - points[:, LIDS[1], :2], axis=-1)  # noqa: E731
    gap = np.abs(opening(landmarks) - opening(clip.landmarks)) / interocular(clip.landmarks)[:, None]
    return float(100 * gap[~clip.open_eyes].mean()) if (~clip.open_eyes).any() else float("nan")


def disentanglement(
    dynamic: np.ndarray, true_dynamic: np.ndarray, true_static: np.ndarray, mask: np.ndarray, where: np.ndarray
) -> dict[str, float]:
    """Leakage and mean dynamic of method section 3.1.3 over the vertices ``where``. Offsets (T,n,3), (T,n,3), (n,3) m,
    mask m_d (n,)."""
    fitted, true = dynamic[:, where], true_dynamic[:, where]
    off = (fitted - true).mean(0)
    leak = ((mask[where, None] * off) ** 2).sum() / ((mask[where, None] * true_static[where]) ** 2).sum()
    length = lambda x: np.linalg.norm(x, axis=-1).mean()  # noqa: E731
    return {"leakage": float(leak), "mean_dynamic": float(length(off) / length(true))}


def dynamic_scores(fitted: np.ndarray, true: np.ndarray, normals: np.ndarray) -> dict[str, float]:
    """What is left of the offsets (T,n,3), (T,n,3) m once their means over the clip are out: their correlation, the
    fitted ones' size over the truth's, the correlation along the template's ``normals`` (n,3); and the sums, mm^2, of
    which ``pooled`` makes the same figures of many clips."""
    fitted, true = 1e3 * (fitted - fitted.mean(0)), 1e3 * (true - true.mean(0))
    along = [(x * normals).sum(-1) for x in (fitted, true)]
    sums = {
        f"sum_{part}_{name}": float((a.astype(np.float64) * b).sum())
        for part, (f, t) in {"all": (fitted, true), "normal": along}.items()
        for name, (a, b) in {"product": (f, t), "fitted": (f, f), "true": (t, t)}.items()
    }
    return sums | pooled([sums])


def pooled(clips: list[dict[str, float]]) -> dict[str, float]:
    """``dynamic_truth``, ``dynamic_size`` and ``dynamic_normal`` of all clips together, so that each weighs by its
    energy; 0 where there is none."""
    total = {name: sum(clip[name] for clip in clips) for name in clips[0] if name.startswith("sum_")}
    both = {part: total[f"sum_{part}_fitted"] * total[f"sum_{part}_true"] for part in ("all", "normal")}
    correlation = {part: total[f"sum_{part}_product"] / np.sqrt(both[part]) if both[part] > 0 else 0.0 for part in both}
    size = total["sum_all_fitted"] / total["sum_all_true"] if total["sum_all_true"] > 0 else 0.0
    return {
        "dynamic_truth": float(correlation["all"]),
        "dynamic_size": float(np.sqrt(size)),
        "dynamic_normal": float(correlation["normal"]),
    }


def jitter(pixels: np.ndarray, visible: np.ndarray) -> float:
    """Mean length of the second difference (px a frame^2) of vertices (T,n,2) seen in three frames running."""
    change = np.linalg.norm(pixels[2:] - 2 * pixels[1:-1] + pixels[:-2], axis=-1)
    return float(change[visible[2:] & visible[1:-1] & visible[:-2]].mean())


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two fields of the same shape; 0 where one vanishes."""
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / size) if size > 0 else 0.0


def similarity(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Points (n,3) turned, scaled and shifted onto ``onto`` by least squares (Umeyama)."""
    a, b = points - points.mean(0), onto - onto.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (s * sign).sum() / (a**2).sum() * a @ (u * sign) @ vt + onto.mean(0)


def identity_correlation(a: np.ndarray, b: np.ndarray, mean: np.ndarray, where: np.ndarray) -> float:
    """Correlation of two neutral heads (n_d,3) over vertices ``where``, each as its difference from the population's
    mean, onto which it is first turned, scaled and shifted (a clip does not show where a head's own frame is)."""
    base = mean[where]
    return correlation(*(similarity(x[where], base) - base for x in (a, b)))
