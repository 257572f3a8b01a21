"""Trainings on several processes, with what torchrun tells each; what each of the processes runs stands below."""

import json
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

PATIENCE = 1200  # s
STAND_IN = Path(__file__).with_name("stand_in")  # for packages that are not here
# processes are forked from one that has loaded what they need, which takes longer than most of these trainings
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["expportrait.stages.generator", "torch.distributed.checkpoint", "tests.generator.make"])


def together(count: int, *runs: dict) -> list[tuple[int, str]]:
    """Status and stderr of ``count`` processes that go through ``runs`` (``train``'s arguments) one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder) / f"{rank}.txt" for rank in range(count)]
        processes = [
            FORKED.Process(target=go_through, args=(json.dumps(runs, default=str), file, shared | {"RANK": str(rank),
                           "LOCAL_RANK": str(rank)})) for rank, file in enumerate(said)]  # fmt: skip
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(PATIENCE)
        finally:
            for process in processes:
                process.kill()
        return [(process.exitcode, file.read_text()) for process, file in zip(processes, said, strict=True)]


def go_through(runs: str, said: Path, environment: dict[str, str]) -> None:
    """One process: what it says goes into the file ``said``."""
    import torch

    os.environ.update(environment)
    with said.open("w") as text, open(os.devnull, "w") as nowhere:
        os.dup2(text.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    torch.set_num_threads(1)
    for run in json.loads(runs):
        with suppress(SystemExit):
            train(**run)


def train(
    results: str, until: int = 0, how: int = signal.SIGKILL, last: bool = False, share: float = 0.05, **settings: object
) -> None:  # fmt: skip
    """Train the generator. Where it has done ``until`` steps, the process gets the signal ``how``: each of them, or
    only the ``last`` one. ``share``: of the time that looks may take."""
    from expportrait.engine.heartbeat import Heartbeat
    from expportrait.generator import look
    from tests.generator.test_several import run_stage

    if settings.get("compile") == "inductor":
        import torch

        torch._inductor.config.compile_threads = 1  # in here: other processes of its own would outlive this one
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
