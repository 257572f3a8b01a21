"""The proxy's fit against rendered heads whose every part is known, beside three baselines in the same run:
the coarse model alone, D_t alone, and both fields without what keeps them apart. Definitions: benchmarks/README.md.

    python benchmarks/proxy_truth.py --json out.json      8 people x 2 clips x 60 frames, clean and noisy: an hour
    python benchmarks/proxy_truth.py --quick              4 x 2 x 16 frames, coarse baseline alone: minutes
    python benchmarks/proxy_truth.py --methods fit,coarse --variants clean --set dynamic_passes=12 --each
    python benchmarks/proxy_truth.py --variants noisy,hair      the same people, every other one with long hair
    python benchmarks/proxy_truth.py --truth mixed        a third of D_t's energy is no function of the expression
"""

import argparse
import contextlib
import gc
import hashlib
import json
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations, product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and in every worker
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from benchmarks.truth_clips import SIZE, Clip, cached, load_clip, population_mean
from benchmarks.truth_mixed import KINDS
from benchmarks.truth_observe import observe
from benchmarks.truth_pictures import save_picture
from benchmarks.truth_scores import SEEN, fitted_neutral, identity_correlation, pooled, score_clip, skin

from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import VIEWS, fit_proxy
from expportrait.fit.solvers.polish import steps
from expportrait.head import Head
from expportrait.options import layered
from expportrait.progress import progress
from expportrait.settings.config import Proxy

METHODS = {
    "fit": "the fit as configured",
    "coarse": "the same, no offset fields",
    "dynamic": "D_t alone",
    "joint": "both fields, no disentanglement",
    "oracle": "the fit from the true camera, shape, expression and poses (not a default)",
}
VARIANTS = {
    "clean": "exact estimates",
    "noisy": "with errors of their kinds",
    "rough": "noisy, with normals twice as wrong (not a default)",
    "hair": "noisy, and people of odd numbers have hair to the shoulders (not a default)",
}
# Read at once, so that a run during which the code changes keeps to the files of its own.
HERE = Path(__file__).resolve().parent
FIT_SOURCES = hashlib.sha256(
    b"".join(
        file.read_bytes()
        for folder in ("fit", "head", "render")
        for file in sorted((HERE.parent / "src/expportrait" / folder).rglob("*.py"))
    )
    + b"".join((HERE / f"{name}.py").read_bytes() for name in ("proxy_truth", "truth_observe", "truth_scores"))
).hexdigest()
BALD = ("coarse", "dynamic")  # methods without D_s
RATIOS = {
    "surface_face_ratio": "surface_face_mm",
    "surface_rest_ratio": "surface_rest_mm",
    "normal_ratio": "normal_deg",
}
GOALS = {  # of the fit on clean truth: worst acceptable, and whether more is better
    "surface_face_ratio": "<= 0.5", "surface_rest_ratio": "<= 0.5", "normal_deg": "<= 4", "normal_ratio": "<= 0.4",
    "static_same": ">= 0.9", "static_other": "<= 0.4", "leakage": "<= 0.05", "mean_dynamic": "<= 0.1",
    "gaze_deg": "<= 4", "jitter_ratio": "0.8..1.2",
}  # fmt: skip
ROWS = (
    "surface_face_mm", "surface_face_ratio", "surface_rest_mm", "surface_rest_ratio", "vertex_face_mm",
    "vertex_rest_mm", "normal_deg", "normal_ratio", "normal_face_deg", "normal_missed", "landmark_iod",
    "static_same", "static_other", "static_same_hair", "static_other_hair", "static_truth", "leakage", "mean_dynamic",
    "dynamic_truth", "dynamic_truth_plain", "dynamic_size", "dynamic_normal", "gaze_deg",
    "lid_iod", "jitter_ratio", "seconds_per_frame",
    "ms_per_iteration_frame", "peak_mib",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One fit of one clip."""

    variant: str
    method: str
    person: int
    clip: int
    frames: int
    cache: Path | None
    pictures: Path | None
    settings: Proxy
    truth: str


def settings_of(method: str, s: Proxy) -> Proxy:
    """The settings of a baseline, from those of the fit."""
    changes = {
        "fit": {},
        "coarse": {"offsets": "none"},
        "oracle": {"coarse_passes": 0.0},
        "dynamic": {"offsets": "dynamic"},
        "joint": {
            "disentangle": False,
            "weights": s.weights.model_copy(update={"static_magnitude": 0.0, "dynamic_magnitude": 0.0}),
            "static_passes": 0.0,
            "dynamic_passes": s.static_passes + s.dynamic_passes,
            "dynamic_steps": 1,
        },
    }
    return s.model_copy(update=changes[method])


def looks(s: Proxy, frames: int) -> float:
    """How often a fit's dense stages look at a frame, all frames together: once in a pass."""
    views, both = min(VIEWS, frames), s.offsets == "both"
    count = s.coarse_passes * frames
    count += s.static_passes * (views + frames) if both else 0
    if s.offsets != "none":
        count += s.dynamic_passes * (s.dynamic_steps * frames + (views if both else 0))
        count += steps(s.final_passes, frames, s.batch, s.min_steps) * min(s.batch, frames)
    return count


class Meter:
    """CPU seconds of this process and its peak memory, over one fit."""

    def __init__(self) -> None:
        self.dense = 0.0
        gc.collect()
        with contextlib.suppress(OSError):  # start the peak anew: what made the observations is not the fit's
            Path("/proc/self/clear_refs").write_text("5")
        self.start = self.last = time.process_time()

    def track(self, stage: str, loss: float) -> None:
        now = time.process_time()
        if stage not in ("rigid", "landmarks"):
            self.dense += now - self.last
        self.last = now

    def figures(self, s: Proxy, frames: int) -> dict[str, float]:
        seconds = (time.process_time() - self.start) / frames
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        status = Path("/proc/self/status")
        if status.exists():
            peak = next(
                int(row.split()[1]) / 1024 for row in status.read_text().splitlines() if row.startswith("VmHWM")
            )
        each = 1e3 * self.dense / max(looks(s, frames), 1)
        return {"seconds_per_frame": seconds, "ms_per_iteration_frame": each, "peak_mib": peak}


@cache
def shared_head() -> Head:
    return load_head()


@lru_cache(maxsize=1)
def known_clip(person: int, clip: int, frames: int, folder: Path | None, truth: str) -> Clip:
    """What a worker's next fits look at too: the methods and variants of one clip follow each other."""
    return load_clip(shared_head(), person, clip, frames, folder, kind=truth)


def population(folder: Path | None) -> np.ndarray:
    torch.set_num_threads(1)
    return population_mean(shared_head(), folder)


def true_start(head: Head, clip: Clip) -> HeadParameters:
    """The true coarse unknowns, to tell their errors from those of the offset fields."""
    parameters = HeadParameters.neutral(head, len(clip.mask), SIZE, float(clip.focal))
    parameters.shape, parameters.expression = torch.from_numpy(clip.shape), torch.from_numpy(clip.expression)
    parameters.set_pose(torch.from_numpy(clip.pose), torch.from_numpy(clip.place))
    return parameters


def run(job: Job) -> tuple[Job, dict[str, float], dict[str, np.ndarray]]:
    """Fit one clip; its figures, and the arrays that the identity figures need. Where there is a cache, a fit that the
    same code made before is taken from there."""
    key = "fit", FIT_SOURCES, repr(replace(job, cache=None, pictures=None))
    arrays = cached(lambda: fitted(job), None if job.pictures else job.cache, *key)
    scores = {name: float(arrays.pop(name)) for name in list(arrays) if arrays[name].ndim == 0}
    return job, scores, arrays


def fitted(job: Job) -> dict[str, np.ndarray]:
    """Figures as arrays without axes, and what the identity figures need."""
    torch.set_num_threads(1)
    head = shared_head()
    clip = known_clip(job.person, job.clip, job.frames, job.cache, job.truth)
    settings = settings_of(job.method, job.settings)
    shown = clip
    if job.variant == "hair" and job.person % 2:  # figures are those of the head below it
        shown = load_clip(head, job.person, job.clip, job.frames, job.cache, long_hair=True, kind=job.truth)
    targets, points, confidence = observe(
        shown, (job.person, job.clip), job.variant != "clean", 2 if job.variant == "rough" else 1
    )
    meter = Meter()
    start = true_start(head, clip) if job.method == "oracle" else None
    fit = fit_proxy(head, targets, points, confidence, settings, start, meter.track)
    scores = meter.figures(settings, job.frames) | score_clip(head, fit, clip)
    if job.pictures:
        name = f"{job.variant}_{job.person}_{job.clip}_{job.method}.jpg"
        save_picture(job.pictures / name, head, fit, clip, targets)
    arrays = {"fitted": fitted_neutral(head, fit), "true": clip.neutral, "seen": clip.visible.mean(0) > SEEN}
    return arrays | {name: np.float64(value) for name, value in scores.items()}


def identity(results: dict[tuple[int, int], dict[str, np.ndarray]], mean: np.ndarray, where: np.ndarray, which: str):
    """Mean correlation of the neutral heads of one person's clips, and of two people's."""
    same, other = [], []
    for (a, left), (b, right) in combinations(sorted(results.items()), 2):
        both = left["seen"] & right["seen"] & where
        found = identity_correlation(left[which], right[which], mean, both)
        (same if a[0] == b[0] else other).append(found)
    return {"static_same": _mean(same), "static_other": _mean(other)}


def _mean(values: list[float]) -> float | None:
    values = [x for x in values if np.isfinite(x)]
    return float(np.mean(values)) if values else None


def summary(done: dict[str, dict], mean: np.ndarray, bare: np.ndarray, where: np.ndarray) -> dict:
    """One variant's object: the fit's figures, and in ``baselines`` the others' and the truth's own. ``mean``, ``bare``
    (n_d,3): the population's with hair and clothes, and without."""
    out = {}
    for method, clips in done.items():
        scored = [scores for scores, _ in clips.values()]
        figures = {name: _mean([x[name] for x in scored]) for name in scored[0] if not name.startswith("sum_")}
        figures |= {"dynamic_truth_plain": figures["dynamic_truth"]} | pooled(scored)
        arrays = {key: value for key, (_, value) in clips.items()}
        # What all heads of a method share is nobody's identity: without D_s they lack the hair that the population has.
        with_hair = identity(arrays, mean, where, "fitted")
        figures |= identity(arrays, bare, where, "fitted") if method in BALD else with_hair
        figures |= {f"{name}_hair": value for name, value in with_hair.items()}
        figures["static_truth"] = _mean(
            [identity_correlation(x["fitted"], x["true"], mean, x["seen"] & where) for x in arrays.values()]
        )
        out[method] = figures
    for ratio, name in RATIOS.items():
        for figures in out.values() if "coarse" in out else ():
            figures[ratio] = figures[name] / out["coarse"][name]
    truth = identity(arrays, mean, where, "true")
    return out.pop("fit", {}) | {"baselines": out | {"truth": truth}}


def table(variant: str, figures: dict) -> str:
    """The figures as rows, one column a method."""
    columns = {"fit": figures} | figures["baselines"]
    lines = [f"{variant:24}" + "".join(f"{name:>10}" for name in columns) + "  goal (clean)"]
    for row in ROWS:
        cells = [column.get(row) for column in columns.values()]
        if any(cell is not None for cell in cells):
            text = "".join(f"{'' if cell is None else format(cell, '.3f'):>10}" for cell in cells)
            lines.append(f"{row:24}{text}  {GOALS.get(row, '')}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 people x 2 clips x 16 frames, coarse baseline alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--people", type=int)
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--clips", type=int, default=2, help="clips a person")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--truth", choices=KINDS, default="pattern", help="D_t of the truth; default %(default)s")
    parser.add_argument("--variants", default="clean,noisy", help=f"of {', '.join(VARIANTS)}; default %(default)s")
    parser.add_argument("--methods", help=f"of {', '.join(METHODS)}; default all but oracle")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the section proxy")
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder that keeps the rendered truth (100 MB a clip of 60 frames) and finished fits, to go on from",
    )
    parser.add_argument("--pictures", type=Path, help="folder for a sheet of error maps of every fit")
    parser.add_argument("--each", action="store_true", help="print every clip's figures too")
    parser.add_argument("--jobs", type=int, default=2, help="clips fitted at once, one thread each")
    options = parser.parse_args()
    options.people = options.people or (4 if options.quick else 8)
    options.frames = options.frames or (16 if options.quick else 60)
    options.methods = (options.methods or ("fit,coarse" if options.quick else "fit,coarse,dynamic,joint")).split(",")
    options.variants = options.variants.split(",")
    for name, known in (("methods", METHODS), ("variants", VARIANTS)):
        if unknown := set(getattr(options, name)) - set(known):
            parser.error(f"--{name}: {', '.join(sorted(unknown))}: not one of {', '.join(known)}")
    if options.frames < 4:
        parser.error("--frames: at least 4, because drop-outs need neighbours and jitter needs three frames")
    options.settings = layered([], [f"proxy.{item}" for item in options.set], {}).proxy
    return options


def main() -> None:
    o = arguments()
    head, clock = shared_head(), time.perf_counter()
    people = range(o.first, o.first + o.people)
    jobs = [
        Job(variant, method, person, clip, o.frames, o.cache, o.pictures, o.settings, o.truth)
        for person, clip, variant, method in product(people, range(o.clips), o.variants, o.methods)
    ]
    done = {variant: {method: {} for method in o.methods} for variant in o.variants}
    with ProcessPoolExecutor(o.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        mean = pool.submit(population, o.cache)
        waiting = [pool.submit(run, job) for job in jobs]
        for future in progress(as_completed(waiting), len(waiting), "fits"):
            job, scores, arrays = future.result()
            done[job.variant][job.method][job.person, job.clip] = scores, arrays
            if o.each:
                text = "  ".join(f"{name} {scores[name]:.3f}" for name in ROWS if name in scores)
                print(f"{job.variant} {job.method} person {job.person} clip {job.clip}: {text}", flush=True)
        mean = mean.result()
    where = skin(head)
    figures = {variant: summary(done[variant], mean, head.dense.template.numpy(), where) for variant in o.variants}
    run_time = time.perf_counter() - clock
    print(f"{o.people} people x {o.clips} clips x {o.frames} frames, truth {o.truth}, {run_time:.0f} s")
    for variant in o.variants:
        print("\n" + table(variant, figures[variant]))
    if o.json:
        o.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
