"""The fit on films of real people, with the embedded estimator: landmarks, lids, lips, D_t, jitter, face units, folds.

    python benchmarks/dynamic_real.py RESULTS --save heads.npz       figures; stores in RESULTS are used again
    python benchmarks/dynamic_real.py RESULTS --beside heads.npz --picture docs/images/dynamic_real.jpg

For two versions: first with the other checkout's ``src`` as PYTHONPATH and RESULTS of its own, then with this one's.
The picture (films under CC BY 4.0 alone): frame, the head ``beside``, this one, the same without D_t.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
import typer
from benchmarks.close_ups import Square
from benchmarks.dynamic_scores import Stores, figures, still
from benchmarks.real_films import CLIPS

from expportrait.engine.loop import run
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import load_proxy
from expportrait.manifest.clips import Row
from expportrait.render import Camera
from expportrait.settings.config import Config
from expportrait.stages import with_code
from expportrait.store import Store

FILMS = {  # file, seconds
    "smile": ("low_resolution_480x270.gif", None, None),
    "frown": ("expressive_512.mp4", 3.0, 5.0),
    "talk": ("landscape_1280x720.mp4", 4.0, 6.0),
    "winks": ("expressive_512.mp4", 0.0, 2.0),
    "small": ("hand_over_face_640x480.mkv", 0.0, 2.0),
    "mouth": ("expressive_512.mp4", 9.4, 11.4),
}
SHOWN = (("smile", 61), ("smile", 6), ("small", 18), ("small", 48))


def stores_of(results: Path, name: str) -> tuple[Stores, float]:
    """The stores of a film; CPU seconds a frame of its fit, NaN where that was there."""
    file, start, end = FILMS[name]
    config = Config(results=results, crop={"min_face": 40, "cut": 255, "min_sharpness": 0},
                    geometry={"estimator": "embedded"})  # fmt: skip
    stores, seconds = {}, np.nan
    for stage in ("crop", "landmarks", "geometry", "proxy"):
        path, began = results / stage / f"{name}.zarr", time.process_time()
        known = path.exists()
        outcome = run(with_code(stage), [Row(name, "films", file, CLIPS / file, start, end)], config)[name]
        if outcome.status != "ok":
            raise ValueError(f"{name}, {stage}: {outcome}")
        stores[stage], seconds = Store(path), np.nan if known else time.process_time() - began
    return stores, seconds / len(stores["proxy"]["expression"])


def strip(stores: Stores, t: int, heads: list[tuple[torch.Tensor, Camera]], faces: torch.Tensor) -> np.ndarray:
    """The frame, and beside it shaded heads (n_d,3), all cut around the face."""
    square = Square.around(stores["landmarks"]["points"][t, :, :2])
    frame = square.of_picture(stores["crop"]["frames"][t])
    return np.hstack([frame, *(square.of_head(vertices, camera, faces) for vertices, camera in heads)])


def main(
    results: Path, save: Path | None = None, beside: Path | None = None, picture: Path | None = None,
    films: str = ",".join(FILMS),
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    head, of = load_head(), {}
    for name in films.split(","):
        of[name], seconds = stores_of(results, name)
        for what, value in (figures(head, of[name]) | {"CPU seconds a frame": seconds}).items():
            print(f"{name:6} {what:45} {value:.3f}", flush=True)
    fitted = {name: load_proxy(of[name]["proxy"], head) for name, _ in SHOWN if name in of}
    shown = {f"{name} {t}": fitted[name].vertices(slice(t, t + 1))[0] for name, t in SHOWN if name in of}
    if save:
        np.savez(save, **shown, **{f"{name} focal": fit.camera.focal for name, fit in fitted.items()})
    if picture:
        other, rows = np.load(beside), []
        for name, t in SHOWN:
            camera, key = fitted[name].camera, f"{name} {t}"
            before = torch.from_numpy(other[key]), replace(camera, focal=float(other[f"{name} focal"]))
            bare = still(fitted[name]).vertices(slice(t, t + 1))[0]
            rows.append(strip(of[name], t, [before, (shown[key], camera), (bare, camera)], head.dense_faces))
        cv2.imwrite(str(picture), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    typer.run(main)
