"""What computes: Python and its packages, processor, memory, GPU, rasteriser, and the encoder of videos."""

import io
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import expportrait
from expportrait.doctor.finding import Finding, Said, findings, reason, size
from expportrait.machine import threads
from expportrait.settings.config import Config

PACKAGES = ("torch", "numpy", "scipy", "zarr", "numcodecs", "av", "mediapipe", "onnxruntime", "scikit-image",
            "scenedetect", "diffusers", "transformers", "accelerate", "peft", "safetensors", "pydantic",
            "snakemake")  # fmt: skip
OPENCV = ("opencv-contrib-python", "opencv-python")  # either has what is used
ATTENTION = {"flash": "flash-attn", "xformers": "xformers", "sage": "sageattention"}  # generator.attention -> package
BUILDING = 600  # s that nvdiffrast may take to build
_CONTEXT = "import nvdiffrast.torch as nvdiffrast; nvdiffrast.RasterizeCudaContext(device='cuda')"


def software(config: Config) -> Iterator[Finding]:
    """Versions, and where they differ from requirements.txt."""
    yield from findings("software", [("python", _python), ("expportrait", _expportrait)])
    pins = _pins()
    yield from findings("software", [(name, lambda name=name: _package(name, pins)) for name in PACKAGES])
    yield from findings("software", [("opencv", lambda: _opencv(pins))])
    asked = [(name, lambda name=name, why=why: _asked(name, why)) for name, why in _by_settings(config).items()]
    yield from findings("software", asked)


def machine() -> Iterator[Finding]:
    """Processor, memory, GPU, and what depends on them."""
    looks = [
        ("system", lambda: f"{platform.platform()}, host {platform.node()}"),
        ("processor", _processor), ("threads", _threads), ("memory", _memory), ("GPU", _gpu),
        ("nvdiffrast", _nvdiffrast), ("video", _video),
    ]  # fmt: skip
    yield from findings("machine", looks)


def _python() -> Said:
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return f"{platform.python_version()}, {sys.executable}" + ("" if fits else "; 3.11 or 3.12 is needed"), not fits


def _expportrait() -> Said:
    return f"{expportrait.__version__}, {Path(expportrait.__file__).parent}"


def _pins() -> dict[str, str]:
    """The tested versions, where requirements.txt is at hand."""
    for file in (Path("requirements.txt"), Path(expportrait.__file__).parents[2] / "requirements.txt"):
        if file.is_file():
            return dict(re.findall(r"^([\w.-]+)==(\S+)", file.read_text("utf-8"), re.MULTILINE))
    return {}


def _package(name: str, pins: dict[str, str]) -> Said:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed: run make setup", True
    pinned = pins.get(name, found)
    return found if found.partition("+")[0] == pinned else f"{found} (tested: {pinned})"


def _opencv(pins: dict[str, str]) -> Said:
    for name in OPENCV:
        said = _package(name, pins)
        if isinstance(said, str):
            return f"{said}, {name}"
    return said


def _by_settings(config: Config) -> dict[str, str]:
    """Packages that nobody needs unless a setting names them -> that setting."""
    asked = {}
    if config.evaluate.lpips:
        asked |= {"lpips": f"evaluate.lpips is {config.evaluate.lpips}"}
    for prefix, package in ATTENTION.items():
        if config.generator.attention.strip("_").startswith(prefix):
            asked[package] = f"generator.attention is {config.generator.attention}"
    return asked


def _asked(name: str, why: str) -> Said:
    try:
        return f"{metadata.version(name)}; {why}"
    except metadata.PackageNotFoundError:
        return f"{why}, and it is not installed", True


def _processor() -> Said:
    found = re.search(r"^model name\s*: (.*)$", _text("/proc/cpuinfo"), re.MULTILINE)
    model = found[1] if found else platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {len(os.sched_getaffinity(0))} for this process{_quota()}"


def _quota() -> str:
    """Of a container or a job: the cores that it may keep busy."""
    quota, _, period = _limit("cpu.max").partition(" ")
    return f", limited to {int(quota) / int(period):g}" if quota.isdigit() and period.isdigit() else ""


def _threads() -> Said:
    told = os.getenv("OMP_NUM_THREADS")
    return f"{threads()} a job, by {'OMP_NUM_THREADS' if told else 'the cores'}; under Snakemake by the rules"


def _memory() -> Said:
    kinds = {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", _text("/proc/meminfo"), re.M)}
    limit = _limit("memory.max")
    limited = f", limited to {size(int(limit))}" if limit.isdigit() else ""
    return f"{size(kinds['MemTotal'])}, {size(kinds['MemAvailable'])} of it free{limited}"


def _limit(name: str) -> str:
    """What control groups say of this process, or of all of its container."""
    own = re.search(r"^0::(/.*)$", _text("/proc/self/cgroup"), re.MULTILINE)
    return (_text(f"/sys/fs/cgroup{own[1]}/{name}") if own else "").strip() or _text(f"/sys/fs/cgroup/{name}").strip()


def _text(file: str) -> str:
    try:
        return Path(file).read_text("utf-8", "replace")
    except OSError:
        return ""


def _gpu() -> Said:
    import torch

    wanted = os.getenv("EXPPORTRAIT_DEVICE", "").startswith("cuda")
    insists = "; EXPPORTRAIT_DEVICE insists on one" if wanted else ""
    if not torch.cuda.is_available():
        return f"none usable: {_why_no_gpu()}{insists}", wanted
    driver = re.search(r"Kernel Module\D*([\d.]+)", _text("/proc/driver/nvidia/version"))
    names = []
    for number in range(torch.cuda.device_count()):
        free, whole = torch.cuda.mem_get_info(number)
        names.append(f"{torch.cuda.get_device_name(number)} with {size(whole)}, {size(free)} of it free")
    return f"{'; '.join(names)}; driver {driver[1] if driver else 'unknown'}, CUDA {torch.version.cuda} in torch"


def _why_no_gpu() -> str:
    import torch

    visible = os.getenv("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for processors only"
    if not Path("/proc/driver/nvidia/version").exists():
        return "there is no driver of Nvidia's on this machine, or the container has no access to it"
    if visible is not None and not visible.strip("-1 "):
        return "CUDA_VISIBLE_DEVICES hides all"
    try:
        torch.cuda.init()
    except Exception as error:
        return reason(error)
    return "the driver shows none"


def _nvdiffrast() -> Said:
    """It is built when it is first used, which is tried in a process of its own."""
    import torch

    wanted = os.getenv("EXPPORTRAIT_BACKEND") == "nvdiffrast"
    if find_spec("nvdiffrast") is None:
        insists = "EXPPORTRAIT_BACKEND insists on it (docs/render.md)" if wanted else "the built-in rasteriser is used"
        return f"not installed; {insists}", wanted
    if not torch.cuda.is_available():
        return "installed; without a GPU it cannot be used", wanted
    done = subprocess.run([sys.executable, "-c", _CONTEXT], capture_output=True, text=True, timeout=BUILDING)
    if done.returncode:
        return f"installed, but it does not build or load: {(done.stderr.strip().splitlines() or ['?'])[-1]}", wanted
    return "installed, loads, and draws on the GPU"


def _video() -> Said:
    """A film of two frames is packed and unpacked by libx264, which the stores and the MP4 files need."""
    import av
    import numpy as np

    try:
        with av.open(io.BytesIO(), "w", format="matroska") as film:
            stream = film.add_stream("libx264", rate=25)
            stream.width = stream.height = 32
            stream.pix_fmt = "yuv444p"
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            packed = [packet for frame in (picture, None) for packet in stream.encode(frame)]
    except Exception as error:
        return f"PyAV {av.__version__} cannot pack H.264: {reason(error)}; its wheel from PyPI can", True
    versions = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} packs H.264 by libx264 (libavcodec {versions})", not packed
