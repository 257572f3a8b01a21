"""Would a better confidence of the embedded estimator improve the fit? The same maps, fitted under several of them.

    python benchmarks/confidence_truth.py [--cache FOLDER] [--first 6] [--people 4] [--frames 12]

Films of the rendered truth (truth_film.py), landmarks found in the pictures, the embedded estimator's normals, depth
and mask; as confidence its own, one value for all pixels, and one from the true error of its normals, which is as good
as any prediction of that error could be. Fits are scored as in proxy_truth.py.
"""

import sys
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry import angle
from benchmarks.truth_clips import Clip, load_clip
from benchmarks.truth_film import film
from benchmarks.truth_scores import score_clip

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.evidence.targets import Targets
from expportrait.fit.proxy import fit_proxy
from expportrait.progress import progress
from expportrait.settings.config import Proxy
from expportrait.store import decode_normals

LEVEL = 0.37  # the estimator's mean confidence
SCALE, SURE = 5.67, 5.0  # degrees: SCALE / (SURE + error) has that mean too
OUTSIDE = 40.0  # degrees, as whose error counts what lies outside of the true mask
FLOOR = 0.02  # least in the mask
FIGURES = ("normal_deg", "normal_face_deg", "surface_face_mm", "surface_rest_mm")


def confidences(maps: Geometry, clip: Clip) -> dict[str, np.ndarray]:
    """(T,H,W) 0..1 by name."""
    pairs = zip(maps.normals, clip.normals, strict=True)
    error = np.stack([angle(found, decode_normals(true)) for found, true in pairs])
    error = np.where(clip.mask, error, OUTSIDE)
    given = {
        "its own": maps.confidence,
        "even": np.full_like(maps.mask, LEVEL),
        "from the true error": SCALE / (SURE + error) * maps.mask,
    }
    return {name: np.maximum(values, FLOOR * (maps.mask > 0.5)).clip(0, 1) for name, values in given.items()}


def main(
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps the rendered truth.")] = None,
    first: int = 6,
    people: int = 4,
    frames: int = 12,
) -> None:
    """Print one table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    head, detector = load_head(), LandmarkDetector()
    scores: dict[str, list[dict[str, float]]] = {}
    for person in progress(range(first, first + people), people, "people"):
        clip = load_clip(head, person, 0, frames, cache)
        pictures = film(head, clip, person, 0)
        points, found, certainty = detector.detect(pictures)
        points[~found], certainty[~found] = np.nan, 0
        maps = EmbeddedEstimator(head).estimate(pictures, points, ~found, certainty)
        for name, confidence in confidences(maps, clip).items():
            given = (maps.normals, maps.depth, maps.mask, confidence)
            targets = Targets(*(torch.from_numpy(np.asarray(x, np.float32)) for x in given))
            seen = torch.from_numpy(np.nan_to_num(points).astype(np.float32))
            fit = fit_proxy(head, targets, seen, torch.from_numpy(certainty.astype(np.float32)), Proxy())
            scores.setdefault(name, []).append(score_clip(head, fit, clip))
    print(f"{people} people, {frames} frames each\n\n| confidence |" + "|".join(f" {name} " for name in FIGURES) + "|")
    print("|" + " --- |" * (1 + len(FIGURES)))
    for name, found in scores.items():
        print(f"| {name} |" + "|".join(f" {np.mean([each[key] for each in found]):.2f} " for key in FIGURES) + "|")


if __name__ == "__main__":
    typer.run(main)
