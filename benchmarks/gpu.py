"""One part of what is to be measured on a GPU, into a file of its own (benchmarks/gpu.sh takes them in turn).

    python benchmarks/gpu.py PART --out FOLDER [--tiny] [--seconds 120]

Writes FOLDER/PART.json: the machine, the versions, and what was found; where the part fails, what was found before and
why. ``--tiny``: sizes that a CPU takes in a minute. Parts are begun as long as ``--seconds`` last.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PACKAGES = ("torch", "triton", "numpy", "diffusers", "accelerate", "zarr", "av", "pydantic", "nvdiffrast", "mediapipe")
MAPS = {"normals": 3, "coverage": 1}  # of the generator, and their channels


class Found(dict[str, object]):
    """What a part found, written into ``file`` whenever it is to be kept."""

    file: Path

    def keep(self) -> None:
        self.file.write_text(json.dumps(self, indent=1) + "\n", "utf-8")


def machine() -> dict[str, object]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    about = {"device": DEVICE, "python": platform.python_version(), "versions": versions, "cuda": torch.version.cuda}
    if DEVICE == "cuda":
        card = torch.cuda.get_device_properties(0)
        about |= {"name": card.name, "memory_gib": round(card.total_memory / 2**30, 1)}
    return about


def clock() -> float:
    """Seconds, once the GPU has done all that it was asked."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_gib() -> float | None:
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if DEVICE == "cuda" else None


def reset_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """The median of ``rounds``, after two that do not count."""
    times = []
    for _ in range(rounds + 2):
        start = clock()
        run()
        times.append(1e3 * (clock() - start))
    return sorted(times[2:])[rounds // 2]


def device(found: Found, tiny: bool, _: float) -> None:
    """Which modules load, and whether operations that the package needs do there what they do on the CPU."""
    root = Path(__file__).parents[1] / "src"
    found["not_loaded"] = missing = {}
    for file in sorted(root.glob("expportrait/**/*.py")):
        name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if file.stem == "__main__":
            continue
        try:
            import_module(name)
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {error}"
    rng = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng)

    square = random(6, 6)
    square = square @ square.t() + torch.eye(6)
    index = torch.randint(9, (500,), generator=rng)
    operations: dict[str, tuple[Callable, list]] = {
        "sparse product": (lambda m, x: m @ x, [random(40, 40).relu().to_sparse_csr(), random(40, 3)]),
        "least of 64 bits": (
            lambda k, i, v: k.scatter_reduce_(0, i, v, "amin"),
            [torch.full((9,), 2**62), index, torch.randint(2**60, (500,), generator=rng)],
        ),
        "ends of repetitions": (lambda n: torch.repeat_interleave(n), [torch.randint(5, (40,), generator=rng)]),
        "search": (torch.searchsorted, [torch.arange(90), torch.randint(90, (50,), generator=rng)]),
        "cholesky, float64": (lambda a: torch.linalg.cholesky(a.double()), [square]),
        "triangular solve": (
            lambda a, b: torch.linalg.solve_triangular(a.tril(), b, upper=False),
            [square, random(6, 4)],
        ),
        "solve without a check": (lambda a, b: torch.linalg.solve_ex(a, b)[0], [square, random(6, 4)]),
        "singular values": (lambda a: torch.linalg.svdvals(a), [random(30, 3, 3)]),
        "derivatives in a batch": (torch.func.vmap(torch.func.jacfwd(torch.sin)), [random(5, 4)]),
        "sampling": (
            lambda i, g: torch.nn.functional.grid_sample(i, g, align_corners=False),
            [random(1, 6, 9, 9), random(1, 1, 30, 2)],
        ),
        "sums by index": (lambda x, i, v: x.index_add(0, i, v), [torch.zeros(9, 3), index, random(500, 3)]),
        "attention": (torch.nn.functional.scaled_dot_product_attention, [random(1, 4, 60, 32)] * 3),
    }  # fmt: skip
    found["operations"] = {}
    for name, (run, given) in operations.items():
        try:
            own = run(*(x.clone() for x in given))
            there = run(*(x.clone().to(DEVICE) for x in given)).cpu()
            off = float((there.double() - own.double()).abs().max() / own.double().abs().max().clamp_min(1e-9))
            found["operations"][name] = off
        except Exception as error:
            found["operations"][name] = f"{type(error).__name__}: {error}"


def fit(found: Found, tiny: bool, _: float) -> None:
    """The fit of one clip: seconds a frame, by stage, memory, kernels a frame and errors."""
    from benchmarks.made_heads import make_truth

    from expportrait.estimators.head_landmarks import load_head
    from expportrait.fit.proxy import ProxyFitter
    from expportrait.settings.config import Proxy

    frames, size = (3, 64) if tiny else (100, 512)
    few = {"rigid_steps": 5, "landmark_steps": 5, "min_steps": 1, "coarse_size": 48, "fine_size": 64} if tiny else {}
    head = load_head()
    clips = {count: make_truth(head, count, size) for count in (2 if tiny else 8, frames)}
    there = head.to(DEVICE)

    def fitter(count: int) -> ProxyFitter:
        truth = clips[count]
        return ProxyFitter(there, truth.targets, truth.points, torch.ones(count), Proxy(**few))

    warm, *_, longest = clips
    fitter(warm).run()
    reset_peak()
    seconds: dict[str, float] = {}
    last = start = clock()

    def track(stage: str, _: float) -> None:
        nonlocal last
        now = time.perf_counter()  # not the GPU's: to wait for it at every step would change what is measured
        seconds[stage] = seconds.get(stage, 0.0) + now - last
        last = now

    made = fitter(longest).run(track=track)
    whole = clock() - start
    found |= {"frames": frames, "size": size, "seconds_per_frame": whole / frames, "peak_gib": peak_gib()}
    found["seconds_per_frame_by_stage"] = {name: value / frames for name, value in seconds.items()}
    found["errors"] = {name: float(value.mean()) for name, value in made.errors.items()}
    found.keep()
    if DEVICE == "cuda":
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            fitter(warm).run()
        kernels = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
        found |= {
            "profiled_frames": warm,
            "kernels_per_frame": len(kernels) / warm,
            "busy_seconds_per_frame": busy / warm,
        }
    if not tiny:
        own = ProxyFitter(head, clips[warm].targets, clips[warm].points, torch.ones(warm), Proxy()).run()
        gap = (fitter(warm).run().static.cpu() - own.static).norm(dim=-1)
        found["static_off_the_cpus_mm"] = {"mean": 1e3 * float(gap.mean()), "most": 1e3 * float(gap.max())}


def raster(found: Found, tiny: bool, _: float) -> None:
    """The rasterisers and the shading, forward and backward, ms."""
    from benchmarks.render import variants

    from expportrait.render.primitives import bumpy_head

    vertices, faces = (x.to(DEVICE) for x in bumpy_head(8 if tiny else 46))
    vertices = vertices + torch.tensor([0, 0, -0.8], device=DEVICE)
    found["faces"] = len(faces)
    for size in (64,) if tiny else (512, 256):
        table = variants(vertices, faces, size, DEVICE, False)
        found[f"{size}"] = {name: milliseconds(run, 3 if tiny else 20) for name, run in table.items()}


def generator_model(tiny: bool) -> object:
    """Of random weights, made where they are used."""
    from expportrait.generator.data import control_channels
    from expportrait.generator.files import build
    from expportrait.generator.model import ModelConfig

    channels = control_channels([*MAPS])
    with torch.device(DEVICE):
        return build(ModelConfig("tiny" if tiny else "1.3B", 16, channels, 4, 8, "both", "velocity"), None)


def generator_batch(frames: int, size: int) -> object:
    """One window of noise, with all that goes with it."""
    from expportrait.generator.data import Batch

    grid = 16, (frames - 1) // 4 + 1, size // 8, size // 8

    def control(count: int) -> dict[str, torch.Tensor]:
        shapes = {name: (1, count, size, size, channels) for name, channels in MAPS.items()}
        return {name: torch.randint(-127, 127, shape, dtype=torch.int8) for name, shape in shapes.items()}

    return Batch(
        torch.randn(1, *grid), torch.randn(1, *grid), torch.rand(1), control(frames), torch.rand(1, 3, size, size),
        control(1), torch.randn(1, 16, 1, *grid[2:]), {}, torch.ones(1, 2), ["noise"], [0],
    ).to(DEVICE)  # fmt: skip


def generator(found: Found, tiny: bool, seconds: float) -> None:
    """Training steps of 1.3B at batch 1, by length, attention, recomputation and compilation."""
    from benchmarks.training_steps import on_gpu

    on_gpu(found, tiny, seconds, DEVICE)


def sampling(found: Found, tiny: bool, _: float) -> None:
    """One window from noise to latents: 20 steps, without guidance and with both scales."""
    from expportrait.generator.sample import Sampler

    frames, size, steps = (9, 64, 2) if tiny else (49, 512, 20)
    model, batch = generator_model(tiny).eval(), generator_batch(frames, size)
    found |= {"frames": frames, "size": size, "steps": steps}
    for name, scales in (("plain", (1.0, 1.0)), ("guided", (1.5, 2.0))):
        sampler = Sampler(steps, 3.0, *scales)
        with torch.autocast(DEVICE, torch.bfloat16):
            Sampler(1, 3.0, *scales).latents(model, batch.noise, batch.given)
            reset_peak()
            start = clock()
            sampler.latents(model, batch.noise, batch.given)
            found[name] = {"seconds": clock() - start, "peak_gib": peak_gib()}


def tests(found: Found, tiny: bool, seconds: float) -> None:
    """The tests marked gpu: each stage on small data against the CPU's results, backends, training."""
    report = found.file.with_name("tests.xml")
    folders = ("render",) if tiny else ("stages/test_on_gpu.py", "render", "fit", "generator")
    chosen = [f"tests/{name}" for name in folders]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not long", f"--junitxml={report}", *chosen]
    root, alone = Path(__file__).parents[1], {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the machine's may not load
    try:
        done = subprocess.run(
            command, cwd=root, env=os.environ | alone, capture_output=True, text=True, timeout=seconds, check=False
        )
        found["end"] = (done.stdout + done.stderr)[-3000:]
    except subprocess.TimeoutExpired as error:
        found["end"] = str(error)
    if not report.exists():
        raise RuntimeError(f"no test was run: {found['end']}")
    found["tests"] = [*results(report)]
    report.unlink()


def results(report: Path) -> Iterator[dict[str, object]]:
    """One a test of pytest's report."""
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        bad = next((part for part in case if part.tag in ("failure", "error", "skipped")), None)
        outcome, why = ("passed", "") if bad is None else (bad.tag, (bad.get("message") or "")[:300])
        told = {one.get("name"): float(one.get("value")) for one in case.iter("property")}
        named = f"{case.get('classname')}::{case.get('name')}"
        yield {"name": named, "outcome": outcome, "seconds": float(case.get("time", 0)), "why": why} | told


PARTS = {part.__name__: part for part in (device, fit, generator, raster, sampling, tests)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=120)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found, start = Found(part=asked.part, tiny=asked.tiny, machine=machine()), time.monotonic()
    found.file = asked.out / f"{asked.part}.json"
    found["error"] = "it was ended from outside"
    found.keep()
    try:
        PARTS[asked.part](found, asked.tiny, asked.seconds)
        del found["error"]
    except Exception:
        found["error"] = traceback.format_exc()[-3000:]
    found["whole_seconds"] = round(time.monotonic() - start, 1)
    found.keep()
    print(f"{asked.part}: {'failed' if 'error' in found else 'done'} in {found['whole_seconds']} s")
    return "error" in found


if __name__ == "__main__":
    raise SystemExit(main())
