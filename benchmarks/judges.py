"""What the shipped networks say of films of real people and of the demo's: likeness, expressions, noise, found faces.

``python benchmarks/judges.py FOLDER [--picture judges.jpg]``: FOLDER has the films that real_films.py names. The
picture shows only what may be shown: public-domain portraits, and films under CC BY 4.0.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import real_films as films
from expportrait.demo.clip import draw, prepare
from expportrait.demo.portrait import SOURCES
from expportrait.estimators.arcface import FIVE, aligned_faces
from expportrait.estimators.blendshapes import NAMES, Expressions, FaceLandmarker
from expportrait.estimators.landmarks.mediapipe import FaceDetector, LandmarkDetector
from expportrait.estimators.yunet import YuNet
from expportrait.metrics.blendshapes import aed, apd, gaze, jaw
from expportrait.metrics.shipped_lpips import ShippedLpips

PEOPLE = (*SOURCES, *films.ONE_PERSON)
FREE = (*SOURCES, "small_face_640x480.mkv", "hand_over_face_640x480.mkv", "low_resolution_480x270.gif")
MEASURES = (aed, jaw, gaze, apd)
MOMENTS = (("astronaut-smile", 0.0), ("astronaut-smile", 0.55), ("astronaut-turn", 1.4), ("astronaut-turn", 0.3),
           ("hopper-talk", 1.3), ("hopper-talk", 1.7))  # fmt: skip


def line(*cells: object) -> None:
    """A row of a table."""
    print(f"| {' | '.join(f'{c:.4f}' if isinstance(c, float) else str(c) for c in cells)} |")


def head(*cells: str) -> None:
    print()
    line(*cells)
    line(*["---"] * len(cells))


def likeness() -> np.ndarray:
    """(P, P) mean cosines between people; of one person, between the halves of the clip, NaN for portraits."""
    table = np.full((len(PEOPLE), len(PEOPLE)), np.nan)
    for i, a in enumerate(PEOPLE):
        for j, b in enumerate(PEOPLE):
            first, second = films.embeddings(a)[0], films.embeddings(b)[0]
            if i == j:
                first, second = np.split(first, [len(first) // 2])
            if len(first):
                table[i, j] = (first @ second.T).mean()
    return table


def repeated(found: Expressions, count: int) -> Expressions:
    return Expressions(*(np.repeat(values[:1], count, 0) for values in vars(found).values()))


def noise() -> None:
    """The measures of films against themselves: encoded again, held still, mirrored, and of one noisy frame."""
    network, distance, rng = FaceLandmarker(), ShippedLpips(), np.random.default_rng(0)
    head("film", "against itself", *(measure.__name__ for measure in MEASURES), "LPIPS", "no face")
    for name in films.ONE_PERSON:
        frames = films.film(name, 3)
        true = network.detect(frames)
        if not true.found.any():
            line(name, "no face found", *["–"] * 6)
            continue
        others = {
            "encoded again, crf 23": films.encoded(frames),
            "noise of 5": [(frame + rng.normal(0, 5, frame.shape)).clip(0, 255).astype(np.uint8) for frame in frames],
            "mirrored": [frame[:, ::-1] for frame in frames],
        }
        for what, pictures in others.items():
            found = network.detect(pictures)
            far = distance(np.stack(pictures[::10]), np.stack(frames[::10])).mean()
            missed = f"{(~found.found | ~true.found).sum()} of {len(frames)}"
            line(name, what, *(float(np.nanmean(m(found, true))) for m in MEASURES), float(far), missed)
        held = repeated(true, len(frames))
        line(name, "first frame held", *(float(np.nanmean(m(held, true))) for m in MEASURES), "–", "–")


def expressions() -> None:
    """Scores of frames whose expression was read off the picture."""
    head("frame", "seen in it", "scores")
    for what, (frame, high, low) in films.EXPRESSIONS.items():
        scores = dict(zip(NAMES, films.expressive()[frame], strict=True))
        line(frame, what, ", ".join(f"{name} {scores[name]:.2f}" for name in (*high, *low)))


def crowd() -> None:
    """How many faces the detectors find in a film with cuts."""
    frames = films.film(films.CROWD, 9)
    head("detector", f"faces in {len(frames)} frames", "CPU ms a frame")
    for name, detector in (("MediaPipe, both ranges", FaceDetector()), ("YuNet", YuNet())):
        milliseconds, found = timed(lambda detector=detector: [detector.detect(frame) for frame in frames])
        line(name, sum(map(len, found)), round(milliseconds / len(frames)))


def timed(call: Callable[[], object]) -> tuple[float, object]:
    started = time.process_time()
    result = call()
    return 1000 * (time.process_time() - started), result


def strongest(scores: np.ndarray, count: int = 4) -> list[str]:
    return [f"{NAMES[i]} {scores[i]:.2f}" for i in np.argsort(-scores)[:count]]


def picture(file: Path, table: np.ndarray) -> None:
    """Six moments of the demo with their strongest scores, and who is like whom."""
    import matplotlib.pyplot as plt

    clips = {name: prepare(name, np.array([t for n, t in MOMENTS if n == name])) for name, _ in MOMENTS}
    drawn = {name: iter(draw(clip)[0]) for name, clip in clips.items()}
    frames = [next(drawn[name]) for name, _ in MOMENTS]
    found = FaceLandmarker().detect(frames)
    figure = plt.figure(figsize=(12, 6.6), dpi=110)
    for i, frame in enumerate(frames):
        axes = figure.add_axes((i / 6 + 0.004, 0.67, 1 / 6 - 0.008, 0.32))
        axes.imshow(frame)
        axes.set_axis_off()
        figure.text(i / 6 + 0.006, 0.655, "\n".join(strongest(found.scores[i])), va="top", size=9, family="monospace")
    detector, side = LandmarkDetector(), 0.088
    where = [PEOPLE.index(name) for name in FREE]
    for k, name in enumerate(FREE):
        frame = SOURCES[name].read() if name in SOURCES else films.film(name)[0]
        points, _, _ = detector.detect([frame])
        face = aligned_faces([frame], points[:, FIVE, :2])[0].transpose(1, 2, 0).astype(np.uint8)
        for x, y in ((0.3 + (k + 0.2) * side, 0.455), (0.3 - side * 0.62, 0.455 - (k + 1) * side)):
            axes = figure.add_axes((x, y, side * 0.55, side))
            axes.imshow(cv2.resize(face, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
            axes.set_axis_off()
        for j in range(len(FREE)):
            value = table[where[k], where[j]]
            axes = figure.add_axes((0.3 + j * side, 0.455 - (k + 1) * side, side * 0.95, side * 0.95))
            axes.set_axis_off()
            shade = plt.cm.YlGn(0 if np.isnan(value) else value * 0.8)
            axes.add_patch(plt.Rectangle((0, 0), 1, 1, color=shade))
            axes.text(0.5, 0.5, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", size=11)
    figure.savefig(file, pil_kwargs={"quality": 88} if file.suffix == ".jpg" else None)


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the films.")],
    to: Annotated[Path | None, typer.Option("--picture", help="Write the picture of docs/judges.md.")] = None,
) -> None:
    films.CLIPS = folder
    table = likeness()
    head("", *PEOPLE)
    for name, row in zip(PEOPLE, table, strict=True):
        line(f"{name}, face of {films.embeddings(name)[1]:.0f} px", *(f"{value:.2f}" for value in row))
    apart = table[~np.eye(len(table), dtype=bool)]
    print(f"\nacross people: mean {apart.mean():.3f}, largest {apart.max():.3f}")
    expressions()
    noise()
    crowd()
    if to:
        picture(to, table)


if __name__ == "__main__":
    typer.run(main)
