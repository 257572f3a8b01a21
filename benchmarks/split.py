"""`import split` beside decoding alone: CPU seconds an hour of video by size, where they go, peak memory by length.

    python benchmarks/split.py [--frames 300] [--film FILE]

The films are the tests' (tests/importers/split/films.py), enlarged, with grain, so that they are as hard to decode as
films that were taken with a camera. Decoding alone is FFmpeg's, by PyAV, without making pictures of it.
"""

import argparse
import cProfile
import pstats
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.importers.split import films

from expportrait.importers.split.source import split
from expportrait.importers.split.watch import Tools
from expportrait.settings.config import Config

SIZES = (540, 720, 1080)  # px, heights of 16:9
TIMES = 6  # how much longer the long film is
GRAIN = 4.0  # of 255, standard deviation


def film(path: Path, height: int, frames: int) -> Path:
    """As a camera would have taken it: grain in every frame, x264's usual settings."""
    made, dice = films.film(1, short=True).frames[:frames], np.random.default_rng(0)
    width = height * 16 // 9
    grain = [dice.normal(0, GRAIN, (height, width, 1)).astype(np.float32) for _ in range(5)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for n, frame in enumerate(made):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) + np.roll(grain[n % 5], 37 * n, 1)
            picture = av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def repeated(source: Path, path: Path, times: int) -> Path:
    """The film so many times, one after the other; its packets are copied."""
    with av.open(str(path), "w") as out:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(source)) as container:
                own = container.streams.video[0]
                stream = stream or out.add_stream_from_template(own)
                length = own.duration
                for packet in container.demux(own):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                        out.mux(packet)
            offset += length
    return path


def decoded(path: Path) -> tuple[float, int]:
    """CPU seconds, and frames."""
    begun, count = time.process_time(), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
        for _ in container.decode(stream):
            count += 1
    return time.process_time() - begun, count


def cut(path: Path, tools: Tools) -> tuple[float, dict]:
    begun = time.process_time()
    record = split(str(path), Config(), tools, lambda share: None)
    return time.process_time() - begun, record


def compare(path: Path, what: str, tools: Tools) -> None:
    """A line of the table, by an hour of 25 frames a second."""
    first, count = decoded(path)
    whole, record = cut(path, tools)
    again, _ = decoded(path)
    alone, hour = min(first, again), 3600 * 25 / count
    rate = path.stat().st_size * 8 / count * 25 / 1e6
    print(f"{what:8s} {rate:5.1f} Mbit/s  decoding {alone * hour:6.0f}  split {whole * hour:6.0f}  "
          f"ratio {whole / alone:4.1f}  clips {len(record['clips'])}", flush=True)  # fmt: skip


def costs(folder: Path, frames: int) -> None:
    tools = Tools()
    cut(film(folder / "warm.mp4", 540, 60), tools)
    print("\nCPU s an hour of video")
    for height in SIZES:
        compare(film(folder / f"{height}.mp4", height, frames), f"{height} p", tools)
    profile = cProfile.Profile()
    profile.runcall(split, str(folder / f"{SIZES[1]}.mp4"), Config(), tools, lambda share: None)
    table = pstats.Stats(profile).stats
    wanted = {"faces": "faces", "add": "cuts and dissolves", "_picture": "frames of other sizes",
              "rows": "faces compared", "aligned": "faces aligned", "_packets": "decoding"}  # fmt: skip
    print(f"\nwhere it goes at {SIZES[1]} p, share of the wall time")
    total = sum(value[2] for value in table.values())
    for name, what in wanted.items():
        own = sum(v[3] for (_, _, function), v in table.items() if function == name)
        print(f"{what:24s} {own / total:5.0%}")


def memory(folder: Path) -> None:
    """Peak memory of a process that cuts the film of 720 p, and the same TIMES over."""
    short, long = folder / "720.mp4", repeated(folder / "720.mp4", folder / "long.mp4", TIMES)
    print("\npeak memory, MiB")
    for what, path in (("film", short), (f"film {TIMES} times over", long)):
        done = subprocess.run([sys.executable, __file__, "--peak", str(path)], capture_output=True, text=True)
        print(f"{what:24s} {done.stdout.strip()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--film", type=Path, help="a film of yours, instead: the table's line alone")
    parser.add_argument("--peak", type=Path)
    given = parser.parse_args()
    if given.peak:
        cut(given.peak, Tools())
        status = Path("/proc/self/status").read_text()  # getrusage would count what the process was forked from
        print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
        return
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if given.film:
            tools = Tools()
            cut(repeated(given.film, Path(folder) / "warm.mp4", 1), tools)
            compare(repeated(given.film, Path(folder) / "film.mp4", 2), "film", tools)
            return
        costs(Path(folder), given.frames)
        memory(Path(folder))


if __name__ == "__main__":
    main()
