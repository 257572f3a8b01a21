"""A training on several processes: this command, started anew as many times.

Torch's own launcher starts them; in a job of Slurm on several nodes, one such launcher a node, by ``srun``, which meet
on the job's first node.
"""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from expportrait.errors import UserError

PATIENCE = 600  # s in which processes that were told to end may finish their step and write their checkpoint
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
NODE = "EXPPORTRAIT_NODE"  # set where srun has started this on each node
SAID = "EXPPORTRAIT_SAID"  # the folder in which the processes of a node note what they have said


def plan(processes: int, words: list[str], environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """What is to be run, and with which arguments: ``srun``, ``torchrun``, torch's launcher, or nothing where this is
    one of the processes, or the only one. ``words`` are the command line's.

    ``processes`` are those of all nodes together. Raises UserError where nodes do not have equally many.
    """
    if processes <= 1 or "RANK" in environment:
        return "", []
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    if processes % nodes:
        raise UserError(
            f"{processes} processes do not divide among the job's {nodes} nodes: let gpu be a multiple of nodes"
        )
    if nodes > 1 and NODE not in environment:
        cores = re.match(r"\d+", environment.get("SLURM_JOB_CPUS_PER_NODE", "1"))[0]
        placed = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={cores}"]
        if "SLURM_GPUS_ON_NODE" in environment:
            placed.append(f"--gpus-per-node={processes // nodes}")
        return "srun", ["--overlap", *placed, "--cpu-bind=none", sys.executable, "-m", "expportrait", *words]
    meet = ["--standalone"]
    if nodes > 1:
        job = environment["SLURM_JOB_ID"]
        host = f"{first_node(environment['SLURM_JOB_NODELIST'])}:{20000 + int(job) % 20000}"
        meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint={host}", f"--rdzv-id={job}"]
    ending = [f"--signals-to-handle={','.join(SIGNALS)}", f"--shutdown-timeout={PATIENCE}"]
    each = f"--nproc-per-node={processes // nodes}"
    return "torchrun", [*meet, f"--nnodes={nodes}", each, *ending, "-m", "expportrait", *words]


def first_node(names: str) -> str:
    """Of a list as Slurm writes it, such as ``gpu[03-05,08],big1``."""
    stem, number = re.match(r"([^,\[]+)(?:\[([^],-]+))?", names).groups(default="")
    return stem + number


def first_to_say(text: str) -> bool:
    """Whether no other process of this job and node has said it: of several that end for one reason, one tells."""
    folder = os.getenv(SAID)
    try:
        if folder:
            (Path(folder) / hashlib.sha256(text.encode()).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # rather twice than not at all
        pass
    return True


def launch(processes: int) -> None:
    """Start the command that this process is on so many, and leave with their exit status; return where it is one of
    them, or the only one."""
    program, arguments = plan(processes, sys.argv[1:], os.environ)
    if program == "srun":
        os.environ[NODE] = "1"
        os.execvp("srun", ["srun", *arguments])
    if program == "torchrun":
        with tempfile.TemporaryDirectory(prefix="expportrait-") as folder:
            os.environ[SAID] = folder
            sys.exit(torchrun(arguments))


def torchrun(arguments: list[str]) -> int:
    """The exit status of the first process that failed, 0 where none did; torch's own account of it is left out."""
    import logging

    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    told = parse_args(arguments)
    # a job's threads are shared by its processes
    threads = int(os.getenv("OMP_NUM_THREADS", "1")) // int(told.nproc_per_node)
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads))
    logging.disable()  # the processes themselves say what happens
    try:
        run(told)
    except ChildFailedError as failed:
        status = failed.get_first_failure()[1].exitcode
        return status if status > 0 else 128 - status
    except SignalException as ended:
        return 128 + int(ended.sigval)
    return 0
