"""What `expportrait animate` costs, and what a held pose holds, on the demo's clips (`make demo` leaves them).

    python benchmarks/animate.py [--portrait data/demo/astronaut-turn.mp4] [--driver data/demo/hopper-talk.mp4]

Each call is a process of its own, in an empty folder first. Costs: s of the clock, CPU s, MiB at most, of the first
call, of one with another gain, of one that finds all done, and of one with the demo's generator. Held pose: by the
shipped blendshape network, which knows nothing of the fit, how far the head turns over the film, degrees, and how
jawOpen goes with the driver's, a correlation; the same without --hold.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from expportrait.estimators.blendshapes import NAMES, Expressions, FaceLandmarker

ROOT = Path(__file__).resolve().parents[1]
CALLS = {
    "first call": (), "another gain": ("--expression", "1.3"), "nothing new": (),
    "with the demo's generator": ("--generator", str(ROOT / "results" / "generator")),
}  # fmt: skip


def call(folder: Path, portrait: Path, driver: Path, *options: str) -> tuple[float, float, float]:
    """s of the clock, CPU s, and the largest process so far, MiB, of a call that writes film.mp4 into the folder."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [sys.executable, "-m", "expportrait", "animate", "--portrait", portrait, "--driver", driver]
    subprocess.run([*command, "--out", "film.mp4", *options], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - started, cpu, after.ru_maxrss / 1024


def seen(network: FaceLandmarker, film: Path) -> Expressions:
    """What the network sees in a film."""
    with av.open(str(film)) as container:
        return network.detect(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))


def turned(found: Expressions) -> tuple[float, float]:
    """Degrees, how far the head turns away from its mean one: root mean square, and at most."""
    rotations = found.matrices[found.found, :3, :3]
    u, _, v = np.linalg.svd(rotations.mean(0))
    cosines = (np.trace((u @ v).T @ rotations, axis1=1, axis2=2) - 1) / 2
    degrees = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    return float(np.sqrt((degrees**2).mean())), float(degrees.max())


def main(
    portrait: Annotated[Path, typer.Option(help="Of which the first frame is moved.")] = ROOT
    / "data/demo/astronaut-turn.mp4",
    driver: Annotated[Path, typer.Option(help="Whose face moves it.")] = ROOT / "data/demo/hopper-talk.mp4",
) -> None:
    """Prints two tables."""
    network = FaceLandmarker()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| call | s | CPU s | MiB |\n| --- | --- | --- | --- |")
        for what, options in CALLS.items():
            if "generator" in what and not Path(options[1]).exists():
                continue
            wall, cpu, memory = call(folder, portrait.resolve(), driver.resolve(), *options)
            print(f"| {what} | {wall:.0f} | {cpu:.0f} | {memory:.0f} |", flush=True)
        jaw, driving = NAMES.index("jawOpen"), seen(network, driver)
        print("\n| | head turns by, rms | at most | jawOpen with the driver's |\n| --- | --- | --- | --- |")
        print("| the driver | {:.2f}° | {:.2f}° | 1 |".format(*turned(driving)))
        for what, options in (("free", ()), ("--hold pose", ("--hold", "pose"))):
            call(folder, portrait.resolve(), driver.resolve(), *options)
            found = seen(network, folder / "film.mp4")
            both = found.found & driving.found
            likeness = np.corrcoef(found.scores[both, jaw], driving.scores[both, jaw])[0, 1]
            print("| {} | {:.2f}° | {:.2f}° | {:.2f} |".format(what, *turned(found), likeness), flush=True)


if __name__ == "__main__":
    typer.run(main)
