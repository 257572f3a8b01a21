"""Trainings on several processes, started as torchrun starts them; what each of the processes runs stands below."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import expportrait

ROOT, SRC = Path(__file__).parents[2], Path(expportrait.__file__).parents[1]
STAND_IN = Path(__file__).with_name("stand_in")  # for packages that are not here


def together(count: int, *runs: dict) -> list[tuple[int, str]]:
    """Status and stderr of ``count`` processes that go through ``runs`` (``train``'s arguments) one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    places = os.pathsep.join(map(str, (SRC, ROOT)))
    shared = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count),
                           "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    command = [sys.executable, "-m", "tests.generator.several", json.dumps(runs, default=str)]
    processes = []
    try:
        for rank in map(str, range(count)):
            processes.append(subprocess.Popen(command, env=shared | {"RANK": rank, "LOCAL_RANK": rank}, text=True,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))  # fmt: skip
        told = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def train(
    results: str, until: int = 0, how: int = signal.SIGKILL, last: bool = False, share: float = 0.05, **settings: object
) -> None:  # fmt: skip
    """Train the generator. Where it has done ``until`` steps, the process gets the signal ``how``: each of them, or
    only the ``last`` one. ``share``: of the time that looks may take."""
    from expportrait.engine.heartbeat import Heartbeat
    from expportrait.generator import look
    from tests.generator.test_several import run_stage

    look.SHARE, go_on = share, Heartbeat.trained
    signalled = not last or int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1

    def trained(beat: Heartbeat, done: int, *rest: object) -> None:
        go_on(beat, done, *rest)
        if done == until and signalled:
            os.kill(os.getpid(), how)

    Heartbeat.trained = trained
    if settings.get("optimizer") == "adamw8bit":  # of other runs, peft would ask whether there is more in the package
        sys.path.insert(0, str(STAND_IN))
    try:
        run_stage(Path(results), **settings)
    finally:
        Heartbeat.trained = go_on
        sys.path[:] = [place for place in sys.path if place != str(STAND_IN)]


def main(runs: str) -> None:
    import torch

    torch.set_num_threads(1)
    for run in json.loads(runs):
        with suppress(SystemExit):
            train(**run)


if __name__ == "__main__":
    main(*sys.argv[1:])
