"""Scores of the geometry estimator on rendered truth: ``python benchmarks/geometry.py [scenes]``.

Mean angle to the true normals by region, for the silhouette alone, the fitted head alone and both (what the estimator
gives); depth after a scale and a shift; the mask's overlap; rank correlation of confidence and error; time a frame.
"""

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.geometry_scenes import Scene, make_scene

from expportrait.estimators.geometry.base import Geometry
from expportrait.estimators.geometry.embedded.estimator import EmbeddedEstimator
from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector

REGIONS = ("face", "hair", "shoulders", "neck, ears", "all")


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...,) degrees between unit vectors (...,3); 90 where one is missing."""
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def regions(scene: Scene, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Masks (H,W) bool of what is scored, by name."""
    skin = scene.mask & ~scene.hair & ~scene.cloth
    face = skin & np.isin(scene.region, [names.index("face"), names.index("lips")])
    other = skin & np.isin(scene.region, [names.index("neck"), names.index("scalp"), names.index("body")])
    return {"face": face, "hair": scene.hair, "shoulders": scene.cloth, "neck, ears": other, "all": scene.mask}


def depth_error(estimate: np.ndarray, truth: np.ndarray, where: np.ndarray) -> tuple[float, float]:
    """Mean absolute error (m) after the best scale and shift, and the correlation."""
    a, b = estimate[where], truth[where]
    scale, shift = np.polyfit(a, b, 1)
    return np.abs(scale * a + shift - b).mean(), np.corrcoef(a, b)[0, 1]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = (np.argsort(np.argsort(x)).astype(float) for x in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def head_only(estimator: EmbeddedEstimator, scene: Scene, points: np.ndarray) -> np.ndarray:
    """Normals (H,W,3) of the fitted head, 0 where it does not reach."""
    sure = np.ones((1, 478), np.float32)
    fitted = estimator.fit(points, sure, np.ones(1, bool), len(scene.frame))
    return estimator.head_maps(fitted, points, sure, np.arange(1))[0].normals


def main(count: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    head = load_head()
    detector, estimator = LandmarkDetector(), EmbeddedEstimator(head)
    scores = {
        name: {region: [] for region in REGIONS} for name in ("silhouette alone", "fitted head alone", "both", "relief")
    }
    rest, seconds = [], []
    for seed in range(count):
        scene = make_scene(head, seed)
        points, found, certainty = detector.detect(scene.frame[None])
        if not found[0]:
            print(f"scene {seed}: no face found")
            continue
        never, start = np.zeros(1, bool), time.process_time()
        both = estimator.estimate(scene.frame[None], points, never, certainty)
        seconds.append(time.process_time() - start)
        lost = np.full_like(points, np.nan)
        silhouette = estimator.estimate(scene.frame[None], lost, ~never)
        maps = {
            "silhouette alone": silhouette.normals[0],
            "fitted head alone": head_only(estimator, scene, points),
            "both": both.normals[0],
            "relief": scene.smooth,
        }
        for region, where in regions(scene, head.REGIONS).items():
            for name, normals in maps.items():
                reached = where & (np.abs(normals).sum(-1) > 0)
                scores[name][region].append(
                    (angle(normals, scene.normals)[reached].mean(), reached.sum() / where.sum())
                )
        rest.append(others(both, scene))
    print(f"{len(seconds)} of {count} scenes; mean angle in degrees (share of the region that is covered)")
    print(f"{'':20s}" + "".join(f"{region:>16s}" for region in REGIONS))
    for name, by_region in scores.items():
        cells = [np.mean(by_region[region], 0) for region in REGIONS]
        print(f"{name:20s}" + "".join(f"{degrees:9.1f} ({share:.2f})" for degrees, share in cells))
    overlap, metres, correlation, rank, high, low = np.mean(rest, 0)
    print(f"mask: intersection over union {overlap:.4f}")
    print(f"depth after scale and shift: off by {1000 * metres:.1f} mm, correlation {correlation:.2f}")
    print(
        f"confidence: rank correlation with the angle {rank:.2f}; "
        f"{high:.1f} deg where above 0.6, {low:.1f} deg where below 0.4"
    )
    print(f"one frame by itself: {np.mean(seconds):.2f} s")


def others(both: Geometry, scene: Scene) -> tuple[float, ...]:
    """Overlap of the masks, depth error (m) and correlation, and how confidence goes with the angle."""
    mask, confidence = both.mask[0] > 0.5, both.confidence[0]
    where = mask & scene.mask
    error = angle(both.normals[0], scene.normals)
    return (
        where.sum() / (mask | scene.mask).sum(),
        *depth_error(both.depth[0], scene.depth, where),
        rank_correlation(confidence[where], error[where]),
        error[where & (confidence > 0.6)].mean(),
        error[where & (confidence < 0.4)].mean(),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
