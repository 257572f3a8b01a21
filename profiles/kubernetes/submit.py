#!/usr/bin/env python3
"""Start Snakemake's job script as a Kubernetes Job and print its name. GPUs are Nvidia's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

GPU = "nvidia.com/gpu"


def main(script: Path) -> None:
    job = yaml.safe_load(Path(__file__).with_name("job.yaml").read_text("utf-8"))
    fill(job, json.loads(re.search(r"^# properties = (.*)$", script.read_text("utf-8"), re.MULTILINE)[1]))
    job["spec"]["template"]["spec"]["containers"][0] |= {
        "command": ["sh", str(script.resolve())],
        "workingDir": os.getcwd(),
    }
    command = ["kubectl", "create", "--filename", "-", "--output", "name"]
    done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout.strip().rpartition("/")[2])


def fill(job: dict, properties: dict) -> None:
    """What the rule asks for, into ``job``. Memory is a limit, so that a retry can help a job that wants more."""
    asked = properties["resources"]
    job["metadata"]["generateName"] = f"expportrait-{properties['rule']}-"
    job["spec"]["activeDeadlineSeconds"] = 60 * asked["runtime"]
    limits = {"memory": f"{asked['mem_mb']}M"} | ({GPU: str(asked["gpu"])} if asked.get("gpu") else {})
    resources = {"requests": limits | {"cpu": str(properties["threads"])}, "limits": limits}
    job["spec"]["template"]["spec"]["containers"][0]["resources"] = resources


if __name__ == "__main__":
    main(Path(sys.argv[1]))
