"""Where results and temporary files go: room, kind of file system, and whether it does what a run needs."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from expportrait.doctor.finding import Finding, Said, findings, reason, size
from expportrait.files import beside

SHARED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "cifs", "smb", "panfs", "afs", "orangefs", "9p",
          "virtiofs", "fuse.sshfs", "fuse.gcsfuse", "fuse.s3fs", "fuse.glusterfs", "fuse.ceph",
          "fuse.juicefs")  # fmt: skip


def places(results: Path) -> Iterator[Finding]:
    """The folder of the results and the temporary one. What is tried there is removed again."""
    where = existing(results)
    looks = [
        ("folder", lambda: _folder(results, where)), ("room", lambda: _room(where)),
        ("file system", lambda: file_system(where)), ("writing", lambda: _works(where)),
    ]  # fmt: skip
    yield from findings("results", looks)
    yield from findings("temporary files", [("folder", _temporary), ("room", lambda: _room(_temporary_folder()))])


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())


def _folder(results: Path, where: Path) -> Said:
    if where != results:
        return f"{results}, not there yet; looked at {where}"
    return f"{results.absolute()}" if results.is_dir() else (f"{results} is a file, not a folder", True)


def _room(where: Path) -> Said:
    disk, files = shutil.disk_usage(where), os.statvfs(where)
    entries = f", {files.f_favail:,} more files" if files.f_files else ""
    return f"{size(disk.free)} free of {size(disk.total)}{entries}"


def file_system(folder: Path, mounts: str | None = None) -> str:
    """What kind the folder's file system is, and whether other machines see it too. ``mounts``: as
    /proc/self/mountinfo has them."""
    text = Path("/proc/self/mountinfo").read_text("utf-8") if mounts is None else mounts
    place = os.path.realpath(folder)
    best, kind, source = "", "unknown", ""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, (kind, source) = point, after.split()[:2]
    shared = any(kind == name or kind.startswith(name) for name in SHARED)
    return f"{kind} ({source}), {'shared with other machines' if shared else 'of this machine alone'}"


def _works(where: Path) -> Said:
    """Whether files can be written, renamed and locked. Without locks a run works, but bills may lose lines."""
    new, final = beside(where / "doctor"), beside(where / "doctor.moved")
    try:
        try:
            new.write_bytes(b"x")
            final.write_bytes(b"y")
            new.replace(final)
            with final.open("r+b") as file:
                read = file.read()
                locks = _locks(file.fileno())
        finally:
            new.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
    except OSError as error:
        return f"{where} cannot be written: {error.strerror or reason(error)}", True
    if read != b"x":
        return f"a file that was renamed in {where} has other content", True
    return f"files are written, renamed and {'locked' if locks else 'not locked: bills may lose lines'}"


def _locks(number: int) -> bool:
    try:
        fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _temporary_folder() -> Path:
    return Path(tempfile.gettempdir())


def _temporary() -> Said:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    except OSError as error:
        return f"none can be written ({error.strerror or reason(error)}): name another one in TMPDIR", True
    folder = _temporary_folder()
    return f"{folder}, {file_system(folder)}"
