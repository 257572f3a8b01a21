"""The expression of painted films whose truth is known, through the real landmark detector: what its priors are worth.

    python benchmarks/expression_truth.py                      4 people x 2 clips x 16 frames, minutes
    python benchmarks/expression_truth.py --people 1 --set weights.blendshapes=0.04

The people and clips of proxy_truth.py, painted (truth_film.py), their maps noisy, their landmarks MediaPipe's. Columns:
the fit without the two priors of face units (``neither``), with units held between 0 and 1 (``bounds``), and with the
network's scores as well (``shipped``, and what ``--set`` changes of it).
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from benchmarks.proxy_truth import shared_head
from benchmarks.truth_clips import SIZE, Clip, load_clip
from benchmarks.truth_film import film
from benchmarks.truth_observe import interocular, observe
from benchmarks.truth_scores import fitted_vertices, projected_landmarks, score_clip

from expportrait.estimators.blendshapes import units_of_points
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.proxy import fit_proxy
from expportrait.fit.result import ProxyFit
from expportrait.head import Head
from expportrait.options import layered
from expportrait.progress import progress

COLUMNS = {
    "neither": ["weights.activation=0", "weights.blendshapes=0"],
    "bounds": ["weights.blendshapes=0"],
    "shipped": [],
}
LIPS = (13, 14)  # the middles of the inner lips
ROWS = {
    "units": "activations less the truth's, root mean square",
    "units_motion": "the same, less their means over the clip",
    "cosine": "of activations and the truth's, less their means",
    "lid_iod": "% IOD, eyelids' opening, frames in which the eyes close",
    "lips_iod": "% IOD, inner lips' opening",
    "gaze_deg": "degrees",
    "landmark_iod": "% IOD, to the true landmarks",
    "normal_face_deg": "degrees",
    "surface_face_mm": "mm",
    "dynamic_truth": "correlation of D_t, mean over clips",
    "jitter_ratio": "",
}


def figures(head: Head, fit: ProxyFit, clip: Clip) -> dict[str, float]:
    """The rows of one fit."""
    scores = score_clip(head, fit, clip)
    points = projected_landmarks(head, fitted_vertices(head, fit), fit.parameters.camera())
    opening = [np.linalg.norm(x[:, LIPS[0], :2] - x[:, LIPS[1], :2], axis=-1) for x in (points, clip.landmarks)]
    scores["lips_iod"] = float(100 * (np.abs(opening[0] - opening[1]) / interocular(clip.landmarks)).mean())
    found = (fit.parameters.expression @ head.activation_matrix).numpy()
    true = clip.expression @ head.activation_matrix.numpy()
    a, b = found - found.mean(0), true - true.mean(0)
    scores["units"] = float(np.sqrt(((found - true) ** 2).mean()))
    scores["units_motion"] = float(np.sqrt(((a - b) ** 2).mean()))
    scores["cosine"] = float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
    return {name: scores[name] for name in ROWS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--first", type=int, default=30, help="number of the first person")
    parser.add_argument("--clips", type=int, default=2, help="clips a person")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the section proxy")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered truth")
    o = parser.parse_args()
    torch.set_num_threads(1)
    head, detector, found = shared_head(), LandmarkDetector(), {name: [] for name in COLUMNS}
    seeds = [(person, clip) for person in range(o.first, o.first + o.people) for clip in range(o.clips)]
    for seed in progress(seeds, len(seeds), "clips"):
        clip = load_clip(head, *seed, o.frames, o.cache)
        points, seen, confidence = detector.detect(film(head, clip, *seed))
        targets, _, _ = observe(clip, seed, noisy=True)
        units = torch.from_numpy(units_of_points(head.unit_names, points, seen, SIZE))
        given = targets, torch.from_numpy(points), torch.from_numpy(confidence)
        for name, changes in COLUMNS.items():
            settings = layered([], [f"proxy.{item}" for item in [*o.set, *changes]], {}).proxy
            known = units if settings.weights.blendshapes else None
            found[name].append(figures(head, fit_proxy(head, *given, settings, units=known), clip))
    print(f"{len(seeds)} clips x {o.frames} frames, from person {o.first} on")
    print(f"{'':16}" + "".join(f"{name:>10}" for name in COLUMNS))
    for row, what in ROWS.items():
        print(f"{row:16}" + "".join(f"{np.nanmean([x[row] for x in of]):10.3f}" for of in found.values()) + f"  {what}")


if __name__ == "__main__":
    main()
