#!/usr/bin/env python3
"""Stands in for kubectl and a cluster of one machine: a Job's command runs at once, in its folder."""

import json
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent / "cluster"


def create() -> None:
    job = json.load(sys.stdin)
    HOME.mkdir(exist_ok=True)
    name = f"{job['metadata']['generateName']}{len([*HOME.iterdir()])}"
    container = job["spec"]["template"]["spec"]["containers"][0]
    done = subprocess.run(container["command"], cwd=container["workingDir"], capture_output=True, text=True)
    (HOME / name).write_text(json.dumps(job | {"ended": done.returncode, "said": done.stdout + done.stderr}))
    print(f"job.batch/{name}")


def get(name: str) -> None:
    ended = json.loads((HOME / name).read_text())["ended"]
    print(f"{name},," + "1" if ended else f"{name},1,")


if __name__ == "__main__":
    create() if sys.argv[1] == "create" else get(sys.argv[3])
