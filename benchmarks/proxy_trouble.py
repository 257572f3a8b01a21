"""The fit where pictures are not kind: what each trouble costs against the same clip without it.

    python benchmarks/proxy_trouble.py [--people 2] [--frames 16] [--variant noisy] [--only hand,glasses]

Errors against the truth, over the whole head, also where something hides it; in brackets those of the coarse head
alone. The clips are those of proxy_truth.py, and films of heads that turn far (truth_turns.py). pose_deg: by how much
the head is turned wrongly in the worst frame.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn.functional import normalize

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.proxy_truth import shared_head
from benchmarks.truth_clips import SIZE, Clip, make_clip
from benchmarks.truth_film import film
from benchmarks.truth_observe import interocular, observe
from benchmarks.truth_pictures import save_picture
from benchmarks.truth_scores import (
    facial,
    fitted_vertices,
    landmark_error,
    normal_scores,
    projected_landmarks,
    surface_scores,
)
from benchmarks.truth_turns import detected, embedded, pose_error, there_and_back, turned_clip

from expportrait.estimators.landmarks.gaps import fill
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.evidence.targets import Targets
from expportrait.fit.proxy import fit_proxy
from expportrait.points478 import INNER_EYES, OUTER_EYES
from expportrait.progress import progress
from expportrait.settings.config import Proxy
from expportrait.video.margins import Margins

FIGURES = ("normal_deg", "normal_face_deg", "surface_face_mm", "surface_rest_mm", "landmark_iod", "pose_deg")
HAND, GLASSES = 0.05, 0.012  # m before the head
FAR = (75, 75)  # degrees
PROFILE = 80  # degrees, to which heads turn and back before the real detector
Observed = tuple[Targets, torch.Tensor, torch.Tensor]


def nothing(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    return seen


def cover(clip: Clip, seen: Observed, area: np.ndarray, nearer: float, normal: tuple[float, float, float]) -> None:
    """Put something flat before the head: in ``area`` (T,H,W) bool, ``nearer`` m than what it hides."""
    targets, _, _ = seen
    for t in np.flatnonzero((area & clip.mask).any((1, 2))):
        true, given = clip.depth[t], targets.depth[t]
        beside = clip.mask[t] & ~area[t]
        # in the estimator's units, which are linear in metres
        scale, shift = np.polyfit(true[beside], given.numpy()[beside], 1)
        where = torch.from_numpy(area[t])
        given[where] = float(scale * (true[clip.mask[t] & area[t]].mean() - nearer) + shift)
        targets.normals[t][where] = normalize(torch.tensor(normal, dtype=torch.float32), dim=0)
        targets.mask[t][where] = 1


def hand_area(clip: Clip) -> np.ndarray:
    """(T,H,W): an ellipse as large as a hand that moves up over mouth and cheek during the middle half of the clip."""
    frames, unit = len(clip.mask), interocular(clip.landmarks)
    area = np.zeros(clip.mask.shape, np.uint8)
    for t in range(frames // 4, 3 * frames // 4):
        up = 1 - abs(4 * (t + 0.5) / frames - 2)
        x, y = clip.landmarks[t, 205, :2] + [0, (1 - up) * unit[t]]
        cv2.ellipse(area[t], (int(x), int(y)), (int(0.45 * unit[t]), int(0.8 * unit[t])), 20, 0, 360, 1, -1)
    return area > 0


def hand(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """As geometry stores it: what is in front has no confidence, its landmarks are unsure and off."""
    area = hand_area(clip)
    cover(clip, seen, area, HAND, (0.4, 0.2, 0.9))
    targets, points, confidence = seen
    targets.confidence[torch.from_numpy(area)] = 0
    shake_hidden(points, confidence, area, clip, random)
    return seen


def unnoticed(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """The same hand, and no estimator noticed it: full confidence."""
    area = hand_area(clip)
    cover(clip, seen, area, HAND, (0.4, 0.2, 0.9))
    _, points, confidence = seen
    shake_hidden(points, confidence, area, clip, random)
    confidence[:] = 1
    return seen


def shake_hidden(
    points: torch.Tensor, confidence: torch.Tensor, area: np.ndarray, clip: Clip, random: np.random.Generator
) -> None:
    """Landmarks below ``area`` are guesses: 4 % of the inter-ocular distance off, confidence 0.3."""
    pixel = points[..., :2].round().long().clamp(0, SIZE - 1).numpy()
    hidden = area[np.arange(len(area))[:, None], pixel[..., 1], pixel[..., 0]]
    off = 0.04 * interocular(clip.landmarks)[:, None, None] * random.normal(size=pixel.shape) / np.sqrt(2)
    points[..., :2] += torch.from_numpy((hidden[..., None] * off).astype(np.float32))
    confidence[torch.from_numpy(hidden)] = 0.3


def glasses(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """Two lenses and a bridge, flat, before both eyes in all frames; nobody notices them."""
    area = np.zeros(clip.mask.shape, np.uint8)
    for t, unit in enumerate(interocular(clip.landmarks)):
        points = clip.landmarks[t, :, :2]
        for inner, outer in zip(INNER_EYES, OUTER_EYES, strict=True):
            x, y = (points[inner] + points[outer]) / 2
            cv2.ellipse(area[t], (int(x), int(y)), (int(0.27 * unit), int(0.2 * unit)), 0, 0, 360, 1, -1)
        a, b = (tuple(points[i].astype(int).tolist()) for i in INNER_EYES)
        cv2.line(area[t], a, b, 1, max(1, int(0.04 * unit)))
    cover(clip, seen, (area > 0) & clip.mask, GLASSES, (0, 0, 1))
    return seen


def holes(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """A fifth of the head is cut out of the mask, elsewhere in every frame."""
    targets, _, _ = seen
    for t in range(len(clip.mask)):
        y, x = np.nonzero(clip.mask[t])
        area = np.zeros(clip.mask[t].shape, np.uint8)
        while (area[clip.mask[t]]).mean() < 0.2:
            i = random.integers(len(x))
            cv2.circle(area, (int(x[i]), int(y[i])), int(random.integers(8, 30)), 1, -1)
        targets.mask[t][torch.from_numpy(area > 0)] = 0
    return seen


def cut(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """The picture ends halfway between crown and hairline, and geometry knows it."""
    _, points, confidence = repeat_border(clip, seen)
    targets = replace(seen[0], margins=Margins(top=edge(clip) / SIZE))
    targets.confidence[:, : edge(clip)] = 0
    confidence[points[..., 1] < edge(clip)] = 0
    return targets, points, confidence


def repeat_border(clip: Clip, seen: Observed, random: np.random.Generator | None = None) -> Observed:
    """The same, and nobody knows it: above lie stripes that look like hair."""
    for maps in seen[0].maps():
        Margins(top=edge(clip) / SIZE).repeat(maps.numpy())
    return seen


def edge(clip: Clip) -> int:
    """The first row of the picture that is cut off, px."""
    crown, hairline = np.flatnonzero(clip.mask.any((0, 2)))[0], clip.landmarks[:, 10, 1].mean()
    return round((crown + hairline) / 2)


def lost(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """No face is found in the clip's middle third, a gap too long for the stage landmarks: points go straight through
    it, confidence 0."""
    targets, points, confidence = seen
    found = np.ones(len(points), bool)
    found[len(points) // 3 : 2 * len(points) // 3] = False
    filled = fill(points.numpy(), confidence.numpy(), found, max_gap=0)
    return targets, *map(torch.from_numpy, filled)


def single(clip: Clip, seen: Observed, random: np.random.Generator) -> Observed:
    """The clip's frame nearest to a portrait alone."""
    targets, points, confidence = seen
    one = slice(t := portrait(clip), t + 1)
    return targets.block(one), points[one], confidence[one]


def portrait(clip: Clip) -> int:
    """The frame with the least turn."""
    return int(np.linalg.norm(clip.pose[:, :3].sum(1), axis=-1).argmin())


TROUBLES = {
    "none": nothing,
    "hand": hand,
    "unnoticed hand": unnoticed,
    "glasses": glasses,
    "mask holes": holes,
    "cut hair": cut,
    "unnoticed cut": repeat_border,
    "lost third": lost,
    "turns": nothing,
    "long hair": nothing,
    "portrait": single,
    "far turn": nothing,
    "far turn embedded": nothing,
}


def profile(person: int, frames: int, noisy: bool, maps: bool) -> tuple[Clip, Observed, np.ndarray]:
    """A head that turns to a side and back, and its painted film (T,H,W,3); points by the real detector from the film,
    by the embedded estimator ``maps`` too."""
    head = shared_head()
    clip = turned_clip(head, person, there_and_back(PROFILE * (-1) ** person, frames), np.zeros(frames))
    pictures = film(head, clip, person, 0)
    points, confidence, missing = detected(pictures, LandmarkDetector())
    targets = embedded(head, pictures, points, confidence, missing) if maps else observe(clip, (person, 0), noisy)[0]
    return clip, (targets, torch.from_numpy(points), torch.from_numpy(confidence)), pictures


def only(clip: Clip, frames: slice) -> Clip:
    """Some frames of a clip; its static field and neutral head stay in the whole clip's gauge."""
    whole = {"focal", "static", "neutral", "shape", "hair_faces"}
    return replace(clip, **{name: x[frames] for name, x in vars(clip).items() if name not in whole})


def run(job: tuple[str, str, int, int, str, Path | None]) -> tuple[str, str, dict[str, float]]:
    """Fit one clip with one trouble; its figures."""
    trouble, method, person, frames, variant, folder = job
    torch.set_num_threads(1)
    head, pictures = shared_head(), None
    if trouble.startswith("far"):
        clip, seen, pictures = profile(person, frames, variant == "noisy", trouble.endswith("embedded"))
    else:
        yaw = {"yaw": FAR} if trouble.startswith("turns") else {}
        clip = make_clip(head, person, 0, frames, **yaw)
        shown = make_clip(head, person, 0, frames, long_hair=True) if trouble == "long hair" else clip
        seen = observe(shown, (person, 0), variant == "noisy")
    targets, points, confidence = TROUBLES[trouble](clip, seen, np.random.default_rng([5, person]))
    if trouble == "portrait":
        clip = only(clip, slice(t := portrait(clip), t + 1))
    settings = Proxy(offsets="none" if method == "coarse" else "both")
    fit = fit_proxy(head, targets, points, confidence, settings, pictures=pictures)
    vertices, camera = fitted_vertices(head, fit), fit.parameters.camera()
    scores = surface_scores(head, vertices.numpy(), clip) | normal_scores(head, vertices, camera, clip)
    scores["landmark_iod"] = landmark_error(head, projected_landmarks(head, vertices, camera), clip)
    face = facial(head)
    scores["pose_deg"] = float(pose_error(vertices[:, face].double().numpy(), clip.vertices[:, face]).max())
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        save_picture(folder / f"{trouble.replace(' ', '_')}_{person}_{method}.jpg", head, fit, clip, targets)
    return trouble, method, {name: scores[name] for name in FIGURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--variant", choices=("clean", "noisy"), default="noisy")
    parser.add_argument("--only", help=f"of {', '.join(TROUBLES)}")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    o = parser.parse_args()
    chosen = o.only.split(",") if o.only else [*TROUBLES]
    if unknown := set(chosen) - set(TROUBLES):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not one of {', '.join(TROUBLES)}")
    jobs = [
        (trouble, method, person, o.frames, o.variant, o.pictures)
        for trouble, method, person in product(chosen, ("fit", "coarse"), range(o.people))
    ]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with ProcessPoolExecutor(o.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for trouble, method, scores in progress(pool.map(run, jobs), len(jobs), "fits"):
            found.setdefault((trouble, method), []).append(scores)
    print(f"{o.people} people x {o.frames} frames, {o.variant}: fit (coarse)\n")
    print(f"| {'trouble':18} |" + "|".join(f" {name:17} " for name in FIGURES) + "|")
    print("| --- |" + " --- |" * len(FIGURES))
    for trouble in chosen:
        fit, coarse = (
            [float(np.mean([s[name] for s in found[trouble, method]])) for name in FIGURES]
            for method in ("fit", "coarse")
        )
        cells = (f" {f'{ours:.2f} ({alone:.2f})':17} " for ours, alone in zip(fit, coarse, strict=True))
        print(f"| {trouble:18} |" + "|".join(cells) + "|")


if __name__ == "__main__":
    main()
