"""The embedded estimator, with its parts switched off one by one, on films of the rendered truth (truth_film.py).

    python benchmarks/geometry_truth.py [--cache FOLDER] [--people 4] [--clips 2] [--frames 16]
    python benchmarks/geometry_truth.py --methods 1,3 --fit       what D_t holds of such maps

Landmarks and mask come from the picture, as in a run. Mean angle to the true normals by region (degrees, over the true
mask), weighted by the confidence too, as the fit weighs it; depth after one scale and shift a frame; the share of the
true mask that has an estimate; seconds a frame of one thread. With ``--fit``: correlation with the truth and size of
D_t, of all clips together, held against the maps as they are, and against the picture's shading (``fitted_face``).
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry import angle, depth_error, rank_correlation
from benchmarks.truth_clips import Clip, load_clip
from benchmarks.truth_film import film
from benchmarks.truth_person import make_person
from benchmarks.truth_scores import facial, pooled, score_clip

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.evidence.targets import Targets
from expportrait.fit.proxy import fit_proxy
from expportrait.head import Head
from expportrait.progress import progress
from expportrait.render import render
from expportrait.store import decode_normals

EVERY = 4  # frames between two that are scored
METHODS = {
    "silhouette and fitted head": {"volume": False, "shading": False},
    "with the grown head": {"volume": True, "shading": False},
    "with shading": {"volume": False, "shading": True},
    "both": {},
}
HELD = {"maps": False, "shading": True}
PARTS = ("face", "hair", "clothes", "rest")


def regions(head: Head, clip: Clip, person: int, t: int) -> dict[str, np.ndarray]:
    """Masks (H,W) bool of one frame: the face's skin, hair, clothes, and neck, ears, eyes."""
    drawn = render(torch.from_numpy(clip.vertices[t : t + 1]), head.dense_faces, clip.camera, cull=True).face_id[0]
    first = head.dense_faces[:, 0].numpy()[np.maximum(drawn.numpy(), 0)]
    hair = make_person(head, person).hair[first] > 0.5
    cloth = head.regions.numpy()[first] == head.REGIONS.index("body")
    face = facial(head)[first] & ~hair & ~cloth
    where = {"face": face, "hair": hair, "clothes": cloth & ~hair, "rest": ~face & ~hair & ~cloth}
    return {name: part & clip.mask[t] for name, part in where.items()}


def score(maps: Geometry, t: int, clip: Clip, parts: dict[str, np.ndarray]) -> dict[str, float]:
    """One frame's figures."""
    inside, confidence = clip.mask[t], maps.confidence[t]
    reached = inside & (maps.mask[t] > 0.5)
    error = angle(maps.normals[t], decode_normals(clip.normals[t]))
    found = {name: error[where & reached].mean() for name, where in parts.items()}
    found["all"] = error[reached].mean()
    found["weighted"] = (confidence * error)[reached].sum() / confidence[reached].sum()
    found["share of the mask"] = reached.sum() / inside.sum()
    metres, _ = depth_error(maps.depth[t], clip.depth[t], reached)
    found["depth, mm"] = 1e3 * metres
    found["its face, mm"] = 1e3 * depth_error(maps.depth[t], clip.depth[t], reached & parts["face"])[0]
    found["rank"] = rank_correlation(confidence[reached], error[reached])
    for name, where in parts.items():
        found[f"confidence, {name}"] = confidence[where & reached].mean()
    return found


def main(
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the rendered truth.")] = None,
    people: int = 4,
    clips: int = 2,
    frames: int = 16,
    methods: Annotated[str, typer.Option(help="Numbers of the methods, such as 0,3.")] = "0,1,2,3",
    fit: Annotated[bool, typer.Option("--fit", help="Fit the proxy to the maps too, twice.")] = False,
    first: Annotated[int, typer.Option(help="Number of the first person.")] = 0,
) -> None:
    """Print one table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    head, detector = load_head(), LandmarkDetector()
    chosen = {name: METHODS[name] for name in (list(METHODS)[int(k)] for k in methods.split(","))}
    scores, seconds = {name: [] for name in chosen}, dict.fromkeys(chosen, 0.0)
    fitted = {(name, held): [] for name in chosen for held in HELD}
    pairs = [(person, number) for person in range(first, first + people) for number in range(clips)]
    for person, number in progress(pairs, len(pairs), "clips"):
        clip = load_clip(head, person, number, frames, cache)
        pictures = film(head, clip, person, number)
        points, found, certainty = detector.detect(pictures)
        known = points.copy()
        points[~found] = np.nan
        at = range(0, frames, EVERY)
        parts = {t: regions(head, clip, person, t) for t in at}
        for name, options in chosen.items():
            estimator, start = EmbeddedEstimator(head, **options), time.process_time()
            maps = estimator.estimate(pictures, points, ~found, certainty)
            seconds[name] += time.process_time() - start
            scores[name] += [score(maps, t, clip, parts[t]) for t in at]
            for held, fitted_face in HELD.items() if fit else ():
                arrays = (torch.from_numpy(x) for x in (maps.normals, maps.depth, maps.mask, maps.confidence))
                targets = Targets(*arrays, fitted_face=fitted_face)
                given = targets, torch.from_numpy(known), torch.from_numpy(certainty)
                fitted[name, held].append(score_clip(head, fit_proxy(head, *given, pictures=pictures), clip))
    print(f"{len(pairs)} clips of {frames} frames of {pictures.shape[1]} px\n")
    rows = {name: {key: np.mean([each[key] for each in found]) for key in found[0]} for name, found in scores.items()}
    for name, found in rows.items():
        found["seconds a frame"] = seconds[name] / frames / len(pairs)
        for held in HELD if fit else ():
            together = pooled(fitted[name, held])
            found[f"D_t by {held}: correlation"] = together["dynamic_truth"]
            found[f"D_t by {held}: size"] = together["dynamic_size"]
    keys = next(iter(rows.values()))
    print("| |" + "|".join(f" {name} " for name in rows) + "|\n|" + " --- |" * (1 + len(rows)))
    for key in keys:
        print(f"| {key} |" + "|".join(f" {found[key]:.2f} " for found in rows.values()) + "|")


if __name__ == "__main__":
    typer.run(main)
