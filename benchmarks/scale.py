"""What 36,000 clips cost to plan and to look at, and what a clip costs on the disk.

python benchmarks/scale.py plan [clips]           CPU seconds and MiB of plans and of `expportrait status`
python benchmarks/scale.py disk [results]         MB a second of video, and frames read a second
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from expportrait.config import Config
from expportrait.configfile import read_config
from expportrait.stage import Outcome, write_index, write_json
from expportrait.stages.contracts import home_of
from expportrait.status.survey import ALL, Survey, survey
from expportrait.store import Store

ROOT = Path(__file__).parents[1]
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
    """Indexes of a run that is complete, with the keys that it would give, without Snakemake's records of its jobs."""
    results = seen.config.results
    for stage, cells in seen.cells.items():
        if ALL in cells:
            write_json(results / stage / "index.json", {"status": "ok", "key": cells[ALL].key, "why": ""})
        for shard, members in seen.shards(stage).items():
            index = {row.clip: Outcome("ok", cells[row.clip].key) for row in members}
            write_index(home_of(results, stage) / f"{shard}.json", index)
    write_json(results / "evaluate" / "table.json", [])
    (results / "report").mkdir(parents=True, exist_ok=True)
    (results / "report" / "index.html").touch()


def plan(clips: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("Snakefile", "rules", "profiles", "envs", "config.yaml", "src"):
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)
        rows = [f"clip{i:06d},{('vfhq', 'celebv')[i % 2]},videos/{i}.mp4,p{i // 3},"
                f"{'test' if i % 100 == 0 else 'train'}" for i in range(clips)]  # fmt: skip
        (folder / "big.csv").write_text("\n".join(["clip,dataset,source,person,split", *rows]) + "\n")
        no_files = {"geometry": {"estimator": "embedded"}, "latents": {"codec": "linear"}}
        (folder / "big.yaml").write_text(json.dumps(no_files))
        given = ["--config", "manifest=big.csv", "results=big"]
        status = ["expportrait", "status", "--manifest", "big.csv", "--results", "big"]
        print(f"{clips:,} clips")
        measure("plan, nothing there", folder, "snakemake", "-n", *given)
        measure("status, nothing there", folder, *status)
        where = {"manifest": str(folder / "big.csv"), "results": str(folder / "big")}
        config = read_config(("benchmark", no_files | where))
        fabricate(survey(config))
        measure("(Snakemake takes the files for its own)", folder, "snakemake", "--touch", "--cores", "1", *given)
        measure("plan, all there", folder, "snakemake", "-n", *given)
        measure("run, all there", folder, "snakemake", "--cores", "1", *given)
        measure("plan, proxy and all after it", folder, "snakemake", "-n", "--forcerun", "proxy", *given)
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


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or [""]
    if command == "plan":
        plan(int(rest[0]) if rest else 36000)
    elif command == "disk":
        disk(Path(rest[0]) if rest else Config().results)
    else:
        sys.exit(__doc__)
