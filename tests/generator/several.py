"""Trainings on several processes, started as torchrun starts them; what each of the processes runs stands below."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import expportrait

ROOT, SRC = Path(__file__).parents[2], Path(expportrait.__file__).parents[1]


def together(count: int, *arguments: object) -> list[tuple[int, str]]:
    """Status and stderr of ``count`` processes of this module with these arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"PYTHONPATH": f"{SRC}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count),
                           "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    processes = []
    try:
        for rank in map(str, range(count)):
            command = [sys.executable, "-m", "tests.generator.several", *map(str, arguments)]
            processes.append(subprocess.Popen(command, env=shared | {"RANK": rank, "LOCAL_RANK": rank}, text=True,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))  # fmt: skip
        told = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def main(results: str, micro: str, until: str) -> None:
    """Train the generator; each process is killed when it has done ``until`` steps."""
    import torch

    from expportrait.engine.heartbeat import Heartbeat
    from tests.generator.test_several import run_stage

    torch.set_num_threads(1)
    go_on = Heartbeat.trained

    def trained(beat: Heartbeat, done: int, *rest: object) -> None:
        go_on(beat, done, *rest)
        if done == int(until):
            os.kill(os.getpid(), signal.SIGKILL)

    Heartbeat.trained = trained
    run_stage(Path(results), micro=int(micro))


if __name__ == "__main__":
    main(*sys.argv[1:])
