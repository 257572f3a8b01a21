"""How far off the landmark detector's points are when a head turns far, on painted films of rendered heads.

    python benchmarks/far_turns.py [--people 4] [--jobs 1]

Each head turns to 90 degrees to either side and to 60 down and up, 5 (pitch: 3.3) degrees a frame, and back. By true
angle: frames in which the stage landmarks finds the face, following it and from the frame alone; error of the points
inside the oval, % of the inter-ocular distance, of the frames found (a median: points may leave the face altogether)
and of those lost, through which they go straight; of the half of the face turned away, its middle and the half turned
to the camera; of the oval; mean confidence; the yaw that the points' own depth stands for; and what a fit to these
points sees: its turn, how far that is off, and its residual over that of the same film's frames below 20 degrees.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.proxy_truth import shared_head
from benchmarks.truth_film import film
from benchmarks.truth_observe import interocular
from benchmarks.truth_turns import detected, turned_clip
from scipy.spatial.transform import Rotation

from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.evidence.points import landmark_error
from expportrait.fit.evidence.turn_search import turn_of
from expportrait.fit.landmark_fit import fit_landmarks
from expportrait.head.rotation import axis_angle_to_matrix
from expportrait.points478 import head_turn
from expportrait.progress import progress

DIRECTIONS = {"left": (90, 0), "right": (-90, 0), "down": (0, 60), "up": (0, -60)}
BANDS = ((0, 20), (20, 35), (35, 45), (45, 55), (55, 65), (65, 75), (75, 91))
COLUMNS = ("frames", "found", "alone", "error", "lost", "away", "middle", "near", "oval", "confidence", "yaw read",
           "turn fitted", "off", "residual")  # fmt: skip
HALF = 19  # frames to the farthest turn
SIDE = 0.013  # m from the face's middle plane


def measure(job: tuple[int, str]) -> list[dict[str, float]]:
    """One film: a row of figures a frame."""
    person, direction = job
    torch.set_num_threads(1)
    head, detector = shared_head(), LandmarkDetector()
    part = np.concatenate([np.linspace(0, 1, HALF), np.linspace(1, 0, HALF)[1:]])
    yaw, pitch = (part * far for far in DIRECTIONS[direction])
    clip = turned_clip(head, person, yaw, pitch)
    pictures = film(head, clip, person, 0)
    points, confidence, missing = detected(pictures, detector)
    p = fit_landmarks(head, torch.from_numpy(points), torch.from_numpy(confidence), pictures.shape[1])
    posed = head.pose(head.landmarks, p.shape, p.expression, p.matrices(), p.translation())
    residual = landmark_error(head, p.camera().project(posed), torch.from_numpy(points)).numpy()
    angle = np.abs(yaw + pitch)
    residual = residual / np.median(residual[angle < 20])
    true, fitted = (
        head_joint(matrices) for matrices in (axis_angle_to_matrix(torch.from_numpy(clip.pose)), p.matrices())
    )
    off = np.degrees(Rotation.from_matrix(fitted @ true.transpose(0, 2, 1)).magnitude())
    gap = (
        100 * np.linalg.norm(points[..., :2] - clip.landmarks[..., :2], axis=-1) / interocular(clip.landmarks)[:, None]
    )
    inside = np.setdiff1d(np.arange(478), head.landmark_oval)
    across = head.landmarks.template[:, 0].numpy() * (np.sign(yaw[HALF // 2]) or 1)
    parts = {
        "error": inside,
        "away": inside[across[inside] > SIDE],
        "middle": inside[np.abs(across[inside]) <= SIDE],
        "near": inside[across[inside] < -SIDE],
        "oval": np.array(head.landmark_oval),
    }
    read, turn = head_turn(points), turn_of(p).numpy()
    rows = []
    for t in range(len(angle)):
        row = {"angle": angle[t], "found": 1 - missing[t], "alone": detector.detect(pictures[t : t + 1])[1][0]}
        row |= {name: gap[t, where].mean() for name, where in parts.items()}
        row |= {"confidence": confidence[t].mean(), "turn": turn[t], "residual": residual[t], "off": off[t]}
        rows.append(row | {"read": abs(read[t, 0]), "sideways": yaw[HALF // 2] != 0})
    return rows


def head_joint(matrices: torch.Tensor) -> np.ndarray:
    """(T,3,3): how the head stands, of all joints' turns (T,10,3,3)."""
    return (matrices[:, 0] @ matrices[:, 1] @ matrices[:, 2]).numpy()


def main(people: Annotated[int, typer.Option()] = 4, jobs: Annotated[int, typer.Option()] = 1) -> None:
    """Print one table of yaw and one of pitch."""
    work = list(product(range(people), DIRECTIONS))
    found: dict[str, list] = {name: [] for name in DIRECTIONS}
    with ProcessPoolExecutor(jobs) as pool:
        for (_, direction), rows in zip(work, progress(pool.map(measure, work), len(work), "films"), strict=True):
            found[direction] += rows
    print(f"{people} people, {2 * HALF - 1} frames a film")
    for name, sides in {"yaw": ("left", "right"), "down": ("down",), "up": ("up",)}.items():
        rows = [row for side in sides for row in found[side]]
        print(f"\n| {name} | {' | '.join(COLUMNS)} |\n|" + " --- |" * (1 + len(COLUMNS)))
        for low, high in BANDS:
            band = [row for row in rows if low <= row["angle"] < high]
            seen, lost = ([row for row in band if bool(row["found"]) == there] for there in (True, False))
            if band:
                print(line(f"{low} to {high - 1}", band, seen, lost))


def line(name: str, band: list[dict], seen: list[dict], lost: list[dict]) -> str:
    """One row of a table."""

    def told(rows: list[dict], key: str, how=np.median, digits: int = 1) -> str:
        return f"{how([row[key] for row in rows]):.{digits}f}" if rows else ""

    cells = [name, str(len(band)), told(band, "found", np.mean, 2), told(band, "alone", np.mean, 2)]
    cells += [told(seen, "error"), told(lost, "error")]
    cells += [told(seen, key) for key in ("away", "middle", "near", "oval")] + [told(seen, "confidence", np.median, 2)]
    cells += [told(seen, "read", digits=0), told(band, "turn", digits=0), told(band, "off"), told(band, "residual")]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    typer.run(main)
