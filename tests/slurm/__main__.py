"""``make test-slurm``: the workflow by profiles/slurm on a real Slurm, started here. One job is killed, and one of the
two processes that train the generator.

12 rows of five frames in 6 shards, a generator of 60 steps. Where no Slurm can be had: the reason, and status 0.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from expportrait.manifest.clips import read_manifest, shards
from expportrait.settings.config import Config
from expportrait.stages import PER_CLIP as ALL
from expportrait.stages import PER_PAIR, made
from tests.slurm import cluster, unbroken

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SOURCES = {"astronaut-smile": "astronaut", "astronaut-turn": "astronaut", "hopper-talk": "hopper"}
PARTS, SECONDS = 4, 0.2  # rows a demo clip, each of one window of latents
KILLED = "proxy"
PER_CLIP = made(ALL, Config())  # the maps of short.yaml's generator are the shipped ones


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-slurm: terminated"))
    try:
        cluster.install()
        with tempfile.TemporaryDirectory(prefix="expportrait-slurm-") as folder:
            project = make_project(Path(folder) / "project")
            with cluster.slurm(Path(folder) / "slurm", cpus=4):
                check(project)
    except cluster.Unavailable as reason:
        print(f"test-slurm: SKIPPED: {reason}")


def check(project: Path) -> None:
    started = time.monotonic()
    kept = run(project, kill=True)
    first = cluster.jobs()
    print(f"{len(first)} jobs in {time.monotonic() - started:.0f} s")
    everything_is_ok(project)
    jobs_got_what_the_profile_says(project, first)
    the_kills_were_healed_by_retries(first)
    unbroken.check(project)
    nothing_was_computed_twice(project, kept)
    run(project)
    assert len(cluster.jobs()) == len(first), "a second run of a finished workflow submitted jobs"
    print("test-slurm: passed; a second run had nothing to do")


def make_project(folder: Path) -> Path:
    """This checkout with a manifest of parts of the demo's clips."""
    for name in ("rules", "profiles", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    for file in (ROOT / "Snakefile", ROOT / "config.yaml", HERE / "short.yaml"):
        shutil.copy(file, folder)
    profile = folder / "profiles/slurm/profile.v9+.yaml"
    one = "  generator:\n    slurm_partition: \"'gpu'\"\n    gpu: 1\n"
    text = profile.read_text()
    assert one in text
    profile.write_text(text.replace(one, one.replace("gpu: 1", "gpu: 2")))
    (folder / "src").symlink_to(ROOT / "src")
    lines = ["clip,dataset,source,start,end,person,split"]
    for name, person in SOURCES.items():
        split = "test" if name == "astronaut-turn" else "train"
        for part in range(PARTS):
            start = part * 2.4 * SECONDS
            times = f"{start:.2f},{start + SECONDS:.2f}"
            lines.append(f"{name}-{part},short,{video(name, folder)},{times},{person},{split}")
    (folder / "short.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "pairs.csv").write_text("target,driver\nastronaut-turn-0,hopper-talk-0\nhopper-talk-1,hopper-talk-1\n")
    return folder


def video(name: str, folder: Path) -> Path:
    """The demo's clip, made where `make demo` has not."""
    found, made = ROOT / "data/demo" / f"{name}.mp4", folder / f"{name}.mp4"
    if found.exists() or made.exists():
        return found if found.exists() else made
    command = [sys.executable, "-m", "expportrait", "demo", "--manifest", ROOT / "data_manifest.csv", "--clip", name]
    subprocess.run([*command, "--out", made], check=True)
    return made


def run(project: Path, kill: bool = False) -> int:
    """Run the workflow to its end; returns how many clips of the killed job were done by then."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm",
               "--config", "manifest=short.csv", "--slurm-status-command", "squeue", "--latency-wait", "10",
               "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "EXPPORTRAIT_DEVICE": "cpu"}
    log, kept, shown, broken = project / "snakemake.log", 0, "", not kill
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None:
            if kill and not kept:
                kept = kill_one_job(project)
            broken = broken or kill_one_of_two(project)
            steps = re.findall(r"\d+ of \d+ steps", log.read_text())
            if steps and steps[-1] != shown:
                shown = steps[-1]
                print(shown, flush=True)
            time.sleep(0.2)
    finally:
        process.kill()
    if process.returncode or (kill and not kept) or not broken:
        print(*log.read_text().splitlines()[-80:], sep="\n")
        sys.exit("test-slurm: the workflow failed" if process.returncode else "test-slurm: no job could be killed")
    return kept


def kill_one_job(project: Path) -> int:
    """SIGKILL, as for want of memory, to a stage that has done one clip of its shard and not yet all; else 0."""
    sizes = {shard: len(rows) for shard, rows in shards_of(project).items()}
    for log in logs_of(project, KILLED):
        done = log.read_text().count(": done in ")
        if not 0 < done < sizes[log.stem]:
            continue
        for process in psutil.process_iter(["cmdline", "cwd"]):
            words, here = process.info["cmdline"] or [], process.info["cwd"] == str(project)
            if here and words[1:4] == ["-m", "expportrait", KILLED] and log.stem in words:
                with suppress(psutil.NoSuchProcess):  # it has just ended; there are more shards
                    process.kill()
                    process.wait(10)
                    done = log.read_text().count(": done in ")
                    print(f"killed {KILLED} {log.stem}, {done} of {sizes[log.stem]} clips done", flush=True)
                    return done
    return 0


def kill_one_of_two(project: Path) -> bool:
    """SIGKILL to the second process of the generator's training, once there are two checkpoints."""
    if len([*project.glob("results/generator/work-*/checkpoints/step-*")]) < 2:
        return False
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words, here = process.info["cmdline"] or [], process.info["cwd"] == str(project)
        with suppress(psutil.Error):
            second = here and "generator" in words and process.environ().get("RANK") == "1"
            if second:
                process.kill()
                print("killed one of the two processes that train the generator", flush=True)
                return True
    return False


def logs_of(project: Path, stage: str, which: str = "") -> list[Path]:
    """Of the last try of each shard, or of an earlier one, such as ".1"."""
    found = (project / "results/logs" / stage).glob("*.log")
    return [log for log in found if re.fullmatch(rf"[^.]+-\d+{re.escape(which)}\.log", log.name)]


def shards_of(project: Path) -> dict:
    return shards(read_manifest(project / "short.csv"), yaml.safe_load((project / "short.yaml").read_text())["shards"])


def everything_is_ok(project: Path) -> None:
    parts, results = shards_of(project), project / "results"
    assert len(parts) >= 6 and sum(map(len, parts.values())) == 12, parts.keys()
    for stage in PER_CLIP:
        for shard, rows in parts.items():
            index = json.loads((results / stage / f"{shard}.json").read_text())
            assert [*index] == [row.clip for row in rows], index
            assert all(line["status"] == "ok" for line in index.values()), index
    for stage in PER_PAIR:
        index = json.loads((results / stage / "pairs-0000.json").read_text())
        assert index and all(line["status"] == "ok" for line in index.values()), index
    for stage in ("transfer", "generator"):
        assert json.loads((results / stage / "index.json").read_text())["status"] == "ok"
    assert json.loads((results / "evaluate/table.json").read_text())
    assert "<html" in (results / "report/index.html").read_text()


def jobs_got_what_the_profile_says(project: Path, jobs: list[dict[str, str]]) -> None:
    profile = yaml.safe_load((project / "profiles/slurm/profile.v9+.yaml").read_text())
    for job in jobs:
        wanted = profile["default-resources"] | profile["set-resources"].get(rule(job), {})
        assert job["Partition"] == wanted["slurm_partition"].strip("'"), job
        assert job.get("TresPerJob") == (f"gres:gpu:{wanted['gpu']}" if wanted.get("gpu") else None), job
        if job["JobState"] == "COMPLETED" and rule(job) not in (KILLED, "generator"):
            text = (project / "rules" / f"{rule(job)}.smk").read_text()
            assert megabytes(job) == int(re.search(r"mem_mb=memory\((\d+)\)", text)[1]), job
            assert minutes(job) == int(re.search(r"runtime=(\d+)", text)[1]), job
    assert {job["Partition"] for job in jobs} == {"cpu", "gpu"}


def the_kills_were_healed_by_retries(jobs: list[dict[str, str]]) -> None:
    broken = [job for job in jobs if job["JobState"] != "COMPLETED"]
    assert sorted((rule(job), job["JobState"]) for job in broken) == [("generator", "FAILED"), (KILLED, "FAILED")], (
        broken
    )
    for failed in broken:
        again = [job for job in jobs if job["Comment"] == failed["Comment"] and job is not failed]
        assert [megabytes(job) for job in again] == [2 * megabytes(failed)], "a retry gets as much memory again"
        print(f"the retry of {rule(failed)} asked for {megabytes(again[0])} MB instead of {megabytes(failed)}")


def nothing_was_computed_twice(project: Path, kept: int) -> None:
    for stage in (*PER_CLIP, *PER_PAIR):
        clips = computed = 0
        for log in logs_of(project, stage):
            found = re.search(r"(\d+) ok, 0 failed, 0 skipped, (\d+) computed\s*$", log.read_text())
            clips, computed = clips + int(found[1]), computed + int(found[2])
        assert computed == clips - (kept if stage == KILLED else 0), f"{stage}: {computed} of {clips} computed"
        assert len(logs_of(project, stage, ".1")) == (stage == KILLED), "the log of the killed try is kept"
        if stage == KILLED:
            print(f"{stage}: {kept} clips done before the kill, {computed} after it, none of {clips} twice")


def rule(job: dict[str, str]) -> str:
    return re.match(r"rule_([a-z]+)", job["Comment"])[1]


def megabytes(job: dict[str, str]) -> int:
    number, unit = re.fullmatch(r"([\d.]+)([MG])", job["MinMemoryNode"]).groups()
    return round(float(number) * {"M": 1, "G": 1024}[unit])


def minutes(job: dict[str, str]) -> int:
    days, hours, minutes = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):00", job["TimeLimit"]).groups(default=0)
    return (int(days) * 24 + int(hours)) * 60 + int(minutes)


if __name__ == "__main__":
    main()
