"""What 36,000 clips cost to plan and to look at, and what a clip costs on the disk.

python benchmarks/scale.py plan [clips]           CPU seconds and MiB of plans and of `expportrait status`
python benchmarks/scale.py disk [results]         MB of 10 s of video by stage and array; frames and MB read a second
python benchmarks/scale.py training [results]     MB of latents shaped as Wan's; frames that training reads a second
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from expportrait.engine.loop import run
from expportrait.engine.record import Outcome, write_index, write_json
from expportrait.generator.data import Windows
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.settings.files import read_config
from expportrait.stages import with_code
from expportrait.status.survey import ALL, Survey, survey
from expportrait.store import Store, StoreWriter, videocodec
from expportrait.store.checksums import verify

ROOT = Path(__file__).parents[1]
NO_FILES = {"geometry": {"estimator": "embedded"}, "latents": {"codec": "linear"}}
# a process starts with its parent's peak memory, so each is started by a small one
SMALL = (
    "import resource, subprocess, sys; status = subprocess.run(sys.argv[1:]).returncode; "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print('used', used.ru_utime + used.ru_stime, used.ru_maxrss / 1024); sys.exit(status)"
)


def measure(what: str, folder: Path, *command: str) -> None:
    """Run ``python -m`` something and print what it took."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", SMALL, sys.executable, "-m", *command], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    if done.returncode:
        sys.exit(f"{what}:\n{done.stdout[-3000:]}")
    seconds, mib = map(float, re.search(r"^used (\S+) (\S+)$", done.stdout, re.MULTILINE).groups())
    table = done.stdout.partition("Job stats:")[2]
    jobs = re.search(r"^total +(\d+)", table, re.MULTILINE)
    print(f"{what:42} {seconds:6.1f} CPU s {time.monotonic() - start:6.1f} s {mib:6.0f} MiB"
          f"{f'  {int(jobs[1]):,} jobs' if jobs else ''}", flush=True)  # fmt: skip


def fabricate(seen: Survey) -> None:
    """Indexes of a run that is complete, with the keys that it would give."""
    results = seen.config.results
    for stage, cells in seen.cells.items():
        if ALL in cells:
            write_json(results / stage / "index.json", {"status": "ok", "key": cells[ALL].key, "why": ""})
        for shard, members in seen.shards(stage).items():
            index = {row.clip: Outcome("ok", cells[row.clip].key) for row in members}
            write_index(seen.stages[stage].home(results) / f"{shard}.json", index)
    write_json(results / "evaluate" / "table.json", [])
    (results / "report").mkdir(parents=True, exist_ok=True)
    (results / "report" / "index.html").touch()


def checkout(folder: Path) -> None:
    """A copy of the workflow."""
    for part in ("Snakefile", "rules", "profiles", "envs", "config.yaml", "src"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)


def write_manifest(folder: Path, numbers: Iterable[int]) -> None:
    """big.csv and its settings big.yaml, of clips with these numbers."""
    rows = [f"clip{i:06d},{('vfhq', 'celebv')[i % 2]},videos/{i}.mp4,p{i // 3},"
            f"{'test' if i % 100 == 0 else 'train'}" for i in numbers]  # fmt: skip
    (folder / "big.csv").write_text("\n".join(["clip,dataset,source,person,split", *rows]) + "\n")
    (folder / "big.yaml").write_text(json.dumps(NO_FILES))


def plan(clips: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout(folder)
        write_manifest(folder, range(clips))
        given = ["--config", "manifest=big.csv", "results=big"]
        status = ["expportrait", "status", "--manifest", "big.csv", "--results", "big"]
        print(f"{clips:,} clips")
        measure("plan, nothing there", folder, "snakemake", "-n", *given)
        measure("status, nothing there", folder, *status)
        where = {"manifest": str(folder / "big.csv"), "results": str(folder / "big")}
        config = read_config(("benchmark", NO_FILES | where))
        fabricate(survey(config))
        # so that Snakemake has its records of all jobs as well, settings included
        measure("(Snakemake takes the files for its own)", folder, "snakemake", "--touch", "--forceall", "--cores", "1",
                *given)  # fmt: skip
        measure("plan, all there", folder, "snakemake", "-n", *given)
        measure("run, all there", folder, "snakemake", "--cores", "1", *given)
        changed = [*given, "proxy={batch: 5}"]
        measure("plan, a setting of proxy changed", folder, "snakemake", "-n", *changed)
        measure("status, all there", folder, *status)
        measure("status, a setting of proxy changed", folder, *status, "--set", "proxy.batch=5")


def disk(results: Path) -> None:
    """Of the clips of a real run, scaled to 10 s."""
    stages = [
        p.name for p in sorted(results.iterdir()) if (p / "index.json").exists() is False and any(p.glob("*.zarr"))
    ]
    whole: Counter[str] = Counter()
    print(f"{'stage, array':28} MB of 10 s of video")
    for stage in stages:
        arrays: Counter[str] = Counter()
        stores = sorted((results / stage).glob("*.zarr"))
        for path in stores:
            store = Store(path)
            crop = results / "crop" / path.name
            source = crop if crop.exists() else results / "crop" / f"{store.attrs.get('driver', '')}.zarr"
            times = Store(source)["timestamps"]
            seconds = len(times) / 25
            for name in store.names():
                size = sum(f.stat().st_size for f in (path / name).rglob("*") if f.is_file())
                arrays[name] += size / seconds * 10 / 1e6 / len(stores)
        for name, size in arrays.most_common():
            if size > 0.05:
                print(f"{stage + ' ' + name:28} {size:8.1f}")
        whole[stage] = sum(arrays.values())
    print("\n".join(f"{stage:28} {size:8.1f}" for stage, size in whole.items()))
    print(f"{'all':28} {sum(whole.values()):8.1f}")
    for stage, name in (("crop", "frames"), ("control", "normals"), ("control", "coverage")):
        store = Store(next((results / stage).glob("*.zarr")))
        array = store.lazy(name)
        array[:1]
        start = time.process_time()
        array[...]
        block = array.shape[0] / (time.process_time() - start)
        order = np.random.default_rng(0).permutation(array.shape[0])
        start = time.process_time()
        for t in order:
            array[t]
        single = len(order) / (time.process_time() - start)
        print(f"read {stage} {name:10} {block:6.0f} frames a CPU s in one go, {single:6.0f} one by one")
    paths = [path for stage in stages for path in (results / stage).glob("*.zarr")]
    size = sum(f.stat().st_size for path in paths for f in path.rglob("*") if f.is_file()) / 1e6
    for what, look in (
        ("by checksums, as `status --deep`", verify),
        ("unpacked", lambda store: store.check(read=True)),
    ):
        start = time.process_time()
        for path in paths:
            look(Store(path))
        seconds = time.process_time() - start
        print(f"all {len(paths)} stores, {size:.0f} MB, read {what}: {seconds:.2f} CPU s, {size / seconds:.0f} MB/s")


class WanShaped:
    """Latents of the shape of Wan's: 16 channels, 4 frames and 8 x 8 px each, independent unit normals. Nothing of that
    variance is harder to pack."""

    channels, time, space = 16, 4, 8

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        _, _, count, height, width = frames.shape
        shape = 1, self.channels, 1 + (count - 1) // self.time, height // self.space, width // self.space
        return torch.randn(shape, generator=self.random)

    def describe(self) -> dict[str, object]:
        return {"codec": "wan-shaped noise", "channels": self.channels, "time": self.time, "space": self.space}


def training(results: Path, frames: int = 250) -> None:
    """A clip of 10 s, made of a real one forwards and backwards, through the stage latents at the shipped settings;
    then what the two trainings read of it, and of the fitted heads, nothing held in memory."""
    config, clip = Config(), next((results / "control").glob("*.zarr")).stem
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stage, qp in (("crop", {"frames": videocodec.COLOURS}),
                          ("control", {"normals": videocodec.VECTORS, "coverage": None})):  # fmt: skip
            with StoreWriter(folder / stage / f"{clip}.zarr", {"key": stage}) as out:
                for array, packing in qp.items():
                    seen = Store(results / stage / f"{clip}.zarr")[array]
                    there_and_back = np.concatenate([seen, seen[::-1]])
                    stream = out.stream(array, frames, seen.shape[1:], seen.dtype, packing)
                    stream.append(there_and_back[np.arange(frames) % len(there_and_back)])
        stage = replace(with_code("latents"), load=lambda settings, device: WanShaped())
        outcomes = run(stage, [Row(clip, "bench", clip, "")], config.model_copy(update={"results": folder}))
        assert outcomes[clip].status == "ok", outcomes
        path = folder / "latents" / f"{clip}.zarr"
        for array in Store(path).names():
            size = sum(f.stat().st_size for f in (path / array).rglob("*") if f.is_file()) / 1e6
            print(f"latents {array:20} {Store(path).lazy(array).shape!s:22} {size:6.2f} MB")
        stores = ({clip: folder / stage / f"{clip}.zarr"} for stage in ("latents", "control"))
        windows = Windows(*stores, config.generator.maps)
        windows._held = None  # as for a data set that does not fit into memory
        window, taken = windows.made_by["window"], []
        for index in [*range(len(windows))] * 3:
            clock = [time.process_time()]
            windows.sample(index, index)
            clock.append(time.process_time())
            batch = windows.batch([index], torch.zeros(1), [torch.Generator()], [index], torch.ones(1, 2))
            clock.append(time.process_time())
            _ = batch.given
            taken.append(np.diff([*clock, time.process_time()]))
        print(f"generator, samples of {window} frames at {config.latents.size} px, frames a CPU s (median, best):")
        for what, seconds in zip(("read", "read, with the noise, as a batch", "the batch's control maps as floats"),
                                 np.transpose(taken), strict=True):  # fmt: skip
            print(f"  {what:36} {window / np.median(seconds):6.0f} {window / seconds.min():6.0f}")
    fitted = [Store(path) for path in (results / "proxy").glob("*.zarr")]
    start = time.process_time()
    count = sum(len(store["dynamic_offset"]) for store in fitted * 3)
    print(f"transfer:  {count / (time.process_time() - start):6.0f} frames a CPU s, D_t of whole clips")


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or [""]
    if command == "plan":
        plan(int(rest[0]) if rest else 36000)
    elif command == "disk":
        disk(Path(rest[0]) if rest else Config().results)
    elif command == "training":
        training(Path(rest[0]) if rest else Config().results)
    else:
        sys.exit(__doc__)
