"""What the proxy makes of painted films of heads that turn far, through the real detector.

    python benchmarks/far_turn_fits.py [--heads 0,1,2,3] [--frames 24] [--turns yaw,down,up] [--maps noisy,embedded]
        [--pictures DIR]

Each head turns to 80 degrees to a side (yaw), or to 55 down or up, and back, and is fitted twice: with
nothing set aside, and as it is. By film: frames set aside; by how much the head is
turned wrongly in the worst frame, degrees, of all, of those that were believed, and of those below 45 degrees; mean
error of the normals of the frames below 45 degrees, whole head and face, degrees. Pictures: the film's frame that is
turned farthest, and over it the head as it is fitted with nothing set aside, and as it is.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Annotated
from unittest.mock import patch

import cv2
import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.proxy_trouble import only
from benchmarks.proxy_truth import shared_head
from benchmarks.truth_film import film
from benchmarks.truth_observe import observe
from benchmarks.truth_scores import facial, fitted_vertices, normal_scores
from benchmarks.truth_turns import detected, embedded, pose_error, there_and_back, turned_clip

from expportrait.errors import ClipError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.proxy import fit_proxy
from expportrait.progress import progress
from expportrait.render import Maps, render
from expportrait.render.picture import shade_image
from expportrait.show.panels import overlay

FAR = {"yaw": 80, "down": 55, "up": -55}
NEAR = 45  # degrees
COLUMNS = ("aside", "worst", "worst believed", "worst below 45", "normals below 45", "face")


@contextmanager
def nothing_aside() -> Iterator[None]:
    """The fit without any judgement of far turns."""
    with patch("expportrait.fit.judge.settle_turns", lambda model, move: None):
        yield


def measure(job: tuple[str, str, int, int, Path | None]) -> tuple[dict[str, float], ...]:
    """One film: figures with nothing set aside, and as it is; those of a clip that fails are NaN."""
    maps, turn, person, frames, folder = job
    torch.set_num_threads(1)
    head, far = shared_head(), there_and_back(FAR[turn], frames)
    yaw, pitch = (far * (-1) ** person, 0 * far) if turn == "yaw" else (0 * far, far)
    clip = turned_clip(head, person, yaw, pitch)
    pictures = film(head, clip, person, 0)
    points, confidence, missing = detected(pictures, LandmarkDetector())
    if maps == "noisy":
        targets = observe(clip, (person, 0), True)[0]
    else:
        targets = embedded(head, pictures, points, confidence, missing)
    given = [torch.from_numpy(x) for x in (points, confidence)]
    found, near, face, farthest = [], np.abs(far) < NEAR, facial(head), int(np.abs(far).argmax())
    panels = [pictures[farthest]]
    for plain in (True, False):
        try:
            if plain:
                with nothing_aside():
                    fit = fit_proxy(head, targets, *given)
            else:
                fit = fit_proxy(head, targets, *given, pictures=pictures)
        except ClipError as error:
            found.append(dict.fromkeys(COLUMNS, float("nan")) | {"why": str(error)})
            continue
        vertices, camera, aside = fitted_vertices(head, fit), fit.parameters.camera(), fit.landmarks_aside.numpy()
        panels.append(laid_over(pictures[farthest], render(vertices[[farthest]], head.dense_faces, camera, cull=True)))
        off = pose_error(vertices[:, face].double().numpy(), clip.vertices[:, face])
        scores = [
            normal_scores(head, vertices[t : t + 1], camera, only(clip, slice(t, t + 1))) for t in np.flatnonzero(near)
        ]
        normals = [float(np.mean([s[name] for s in scores])) for name in ("normal_deg", "normal_face_deg")]
        figures = int(aside.sum()), off.max(), off[~aside].max(initial=0), off[near].max(), *normals
        found.append(dict(zip(COLUMNS, figures, strict=True)))
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{maps}_{turn}_{person}.png"), np.hstack(panels)[..., ::-1])
    return tuple(found)


def laid_over(picture: np.ndarray, drawn: Maps) -> np.ndarray:
    """(H,W,3): the outline of a head that is ``drawn``, and the head, lit, half over the picture."""
    lit = shade_image(drawn.normals[0], drawn.coverage[0])
    return overlay(picture, lit, drawn.coverage[0].numpy(), len(picture))


def main(
    heads: Annotated[str, typer.Option()] = "0,1,2,3",
    frames: Annotated[int, typer.Option()] = 24,
    turns: Annotated[str, typer.Option()] = "yaw,down,up",
    maps: Annotated[str, typer.Option()] = "noisy,embedded",
    jobs: Annotated[int, typer.Option()] = 1,
    pictures: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Print one line a film: each figure with nothing set aside, and as it is."""
    work = [
        (m, t, int(p), frames, pictures) for m, t, p in product(maps.split(","), turns.split(","), heads.split(","))
    ]
    print(f"| maps, turn, head, {frames} frames | {' | '.join(COLUMNS)} |\n|{' --- |' * (1 + len(COLUMNS))}")
    with ProcessPoolExecutor(jobs) as pool:
        for job, (before, now) in zip(work, progress(pool.map(measure, work), len(work), "films"), strict=True):
            cells = [f"{before[name]:.{digits(name)}f}, {now[name]:.{digits(name)}f}" for name in COLUMNS]
            print(f"| {job[0]}, {job[1]}, {job[2]} | {' | '.join(cells)} |{now.get('why', '')}", flush=True)


def digits(name: str) -> int:
    """After the point."""
    return 0 if name == "aside" else 2 if name in ("normals below 45", "face") else 1


if __name__ == "__main__":
    typer.run(main)
