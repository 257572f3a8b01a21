"""Heads of rendered people, each in the frame that wrinkles most: as another version fits them, as this one, the truth.

    PYTHONPATH=<checkout of version 14>/src python benchmarks/wrinkles.py --save before.npz
    python benchmarks/wrinkles.py --beside before.npz --picture docs/images/wrinkles.jpg

The people, clips and estimates are those of proxy_truth.py, whose rendered truth ``--cache`` keeps.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
import typer
from benchmarks.close_ups import Square
from benchmarks.proxy_truth import shared_head
from benchmarks.truth_clips import SIZE, load_clip
from benchmarks.truth_observe import observe
from benchmarks.truth_scores import fitted_vertices

from expportrait.fit.proxy import fit_proxy
from expportrait.render import Camera
from expportrait.settings.config import Proxy

SHOWN = ((4, 0, "clean"), (6, 0, "clean"), (7, 0, "noisy"))  # person, clip, estimates
FRAMES = 16


def main(
    save: Path | None = None, beside: Path | None = None, picture: Path | None = None, cache: Path | None = None,
    shown: str = " ".join(f"{person},{clip},{variant}" for person, clip, variant in SHOWN),
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    head, found, rows = shared_head(), {}, []
    other = np.load(beside) if beside else {}
    for name in shown.split():
        person, number, variant = name.split(",")
        seed = int(person), int(number)
        clip = load_clip(head, *seed, FRAMES, cache)
        targets, points, confidence = observe(clip, seed, variant == "noisy")
        fit = fit_proxy(head, targets, points, confidence, Proxy())
        t = int(np.square(clip.dynamic - clip.dynamic.mean(0)).sum((1, 2)).argmax())
        found[name] = fitted_vertices(head, fit)[t].numpy()
        found[f"{name} focal"] = fit.parameters.camera().focal
        square = Square.around(clip.landmarks[t, :, :2], 1.1)

        def shaded(vertices: np.ndarray, focal: float, square: Square = square) -> np.ndarray:
            camera = Camera(float(focal), SIZE / 2, SIZE / 2, SIZE, SIZE)
            return square.of_head(torch.from_numpy(vertices), camera, head.dense_faces)

        row = [shaded(of[name], of[f"{name} focal"]) for of in (other, found) if of]
        rows.append(np.hstack([*row, shaded(clip.vertices[t], clip.focal)]))
    if save:
        np.savez(save, **found)
    if picture:
        cv2.imwrite(str(picture), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    typer.run(main)
