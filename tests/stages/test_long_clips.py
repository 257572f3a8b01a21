"""Long videos take no more memory than short ones."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from ..video import make

SIZE = 128


def looped(path, turns, frames=50):
    """A short video shown ``turns`` times over, without encoding it again."""
    once = make.video(path.with_name("once.mp4"), [make.scene(90, 160, (n, 0, 0.3)) for n in range(frames)], gop=25)
    with av.open(str(once)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in packets]
        length = round(frames / 25 / data[0][4])
        for turn in range(turns):
            for content, pts, dts, key, base in data:
                packet = av.Packet(content)
                packet.pts, packet.dts, packet.time_base = pts + turn * length, dts + turn * length, base
                packet.is_keyframe, packet.stream = key, stream
                target.mux(packet)
    return path


def crop_in_a_process(source, home):
    """Peak of the process's memory, MiB, and how many frames came out."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(source), str(home)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    short, frames = crop_in_a_process(looped(tmp_path / "short.mp4", 16), tmp_path / "short")
    assert frames == 800
    long, frames = crop_in_a_process(looped(tmp_path / "long.mp4", 48), tmp_path / "long")
    assert frames == 2400
    assert long - short < 40  # MiB; held, the frames would take 66 as they are read and 75 as they are written


def main(source, home):
    from expportrait.engine.loop import run
    from expportrait.manifest.clips import Row
    from expportrait.settings.config import Config
    from expportrait.stages import crop, with_code
    from expportrait.store import write

    class Detector:  # where the face is does not matter here, and looking for it takes minutes
        def faces(self, frame):
            return np.float32([[40, 10, 80, 50, 1, 0]])

    write.SHARD_BYTES = 8 << 20  # so that a short video has many
    crop.LandmarkDetector = Detector
    config = Config(results=home, crop={"size": SIZE, "min_face": 20, "cut": 255})
    run(with_code("crop"), [Row("a", "d", source.name, source)], config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([peak, write.Store(home / "crop" / "a.zarr").lazy("frames").shape[0]]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
