"""A real Slurm on this machine: installed by apt, started in a folder of its own on private ports, always stopped."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")
# The plugin takes every SLURM_* variable from its jobs, SLURM_CONF too, so that they look here.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")


class Unavailable(Exception):
    """Why no Slurm can be started here."""


def install() -> None:
    """Raises Unavailable where it cannot, or must not because the machine has a Slurm of its own."""
    if os.geteuid() != 0:
        raise Unavailable("only root can install and start Slurm")
    if SYSTEM_CONF.exists():
        raise Unavailable(f"this machine has a Slurm of its own ({SYSTEM_CONF})")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise Unavailable("Slurm is not installed, and there is no apt-get to install it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, text=True)
    if done.returncode or not all(map(shutil.which, PROGRAMS)):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"apt-get install {' '.join(PACKAGES)} failed: {reason}")


@contextmanager
def slurm(folder: Path, cpus: int) -> Iterator[None]:
    """One node with ``cpus`` and two make-believe GPUs, in the partitions cpu and gpu. Raises Unavailable."""
    folder.mkdir(mode=0o700)
    _configure(folder, cpus)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")  # nothing here must ever reach another Slurm
    try:
        _start(folder)
        yield
    finally:
        _stop(folder)


def jobs() -> list[dict[str, str]]:
    """What Slurm knows of every job since its start, by the names of ``scontrol show job``."""
    text = _run("scontrol", "--oneliner", "show", "job").stdout
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if line.startswith("JobId=")]


def _configure(folder: Path, cpus: int) -> None:
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    host = socket.gethostname().partition(".")[0]
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = {"controller_port": one.getsockname()[1], "node_port": two.getsockname()[1]}
    template = Path(__file__).with_name("slurm.conf").read_text("utf-8")
    (folder / "slurm.conf").write_text(template.format(host=host, folder=folder, cpus=cpus, **ports), "utf-8")
    # Any device file passes for a GPU; a bare count does not.
    (folder / "gres.conf").write_text(
        f"NodeName={host} Name=gpu File=/dev/zero\nNodeName={host} Name=gpu File=/dev/null\n"
    )


def _start(folder: Path) -> None:
    SYSTEM_CONF.parent.mkdir(parents=True, exist_ok=True)
    SYSTEM_CONF.unlink(missing_ok=True)  # at most the dangling link of a run that was killed
    SYSTEM_CONF.symlink_to(folder / "slurm.conf")
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log",
             "seed-file": "munge.seed"}  # fmt: skip
    _begin("munged", "--force", *(f"--{option}={folder / file}" for option, file in files.items()))
    _begin("slurmctld", "-f", str(folder / "slurm.conf"))
    _begin("slurmd", "-f", str(folder / "slurm.conf"))
    for _ in range(60):
        if _run("sinfo", "--noheader", "--partition=cpu", "--format=%T").stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise Unavailable(f"Slurm's node does not come up: {_run('sinfo', '--list-reasons').stdout.strip()}")


def _begin(*command: str) -> None:
    done = _run(*command)
    if done.returncode:
        raise Unavailable(f"{command[0]} does not start: {(done.stderr or done.stdout).strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _stop(folder: Path) -> None:
    """Jobs first, then what runs them."""
    with suppress(subprocess.TimeoutExpired):
        _run("scancel", "--full", "--signal=KILL", "--user=root")
    for name in ("slurmd", "slurmctld", "munged"):
        _end(folder / f"{name}.pid")
    if SYSTEM_CONF.is_symlink() and SYSTEM_CONF.readlink() == folder / "slurm.conf":
        SYSTEM_CONF.unlink()


def _end(pid_file: Path) -> None:
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.1)
            os.kill(pid, 0)  # raises once it has ended
        os.kill(pid, signal.SIGKILL)
