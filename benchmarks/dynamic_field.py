"""Where the dynamic field D_t loses its truth: by direction, place, size of detail and frame, and what it could reach.

    python benchmarks/dynamic_field.py                         2 people x 2 clips x 16 frames, clean: minutes
    python benchmarks/dynamic_field.py --start truth           D_t by itself, all else true: the ceiling
    python benchmarks/dynamic_field.py --variant noisy --truth mixed --set weights.dynamic_strain=0.3

The people and clips of proxy_truth.py, whose cache it shares. Correlations and sizes (root mean squares over the
truth's) are of all clips together, over the face's skin seen in a quarter of the frames, means over the clip taken out.
"""

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from benchmarks.proxy_truth import settings_of, shared_head, true_start
from benchmarks.truth_clips import Clip, load_clip
from benchmarks.truth_mixed import KINDS
from benchmarks.truth_observe import observe
from benchmarks.truth_scores import SEEN, facial

from expportrait.fit import judge
from expportrait.fit.problem import detail_size
from expportrait.fit.proxy import ProxyFitter
from expportrait.fit.solvers.integrate import Integrator
from expportrait.head import Head
from expportrait.head.areas import areas
from expportrait.options import layered
from expportrait.progress import progress
from expportrait.render import vertex_normals
from expportrait.settings.config import Proxy

STARTS = {
    "fit": "the whole fit",
    "oracle": "from the true camera, shape, expression and poses, which stay",
    "truth": "D_s true as well: the linear steps of D_t, and nothing after them",
}
ROUNDS = (2, 8, 30)  # of averaging over the mesh's neighbours: details of some 4, 8, 15 mm go
HOT = 0.1  # share of the vertices that move most


def fitted(head: Head, clip: Clip, seed: tuple[int, int], noisy: bool, start: str, s: Proxy) -> np.ndarray:
    """(T,n_d,3) m: m_d D_t."""
    targets, points, confidence = observe(clip, seed, noisy)
    method = "fit" if start == "fit" else "oracle"
    fitter = ProxyFitter(head, targets, points, confidence, settings_of(method, s))
    model, problem = fitter.model, fitter.model.problem
    moved = np.zeros((len(clip.mask), len(head.dense.template), 3), np.float32)
    if start == "truth":
        model.unknowns.parameters = true_start(head, clip)
        judge.anchor_depth(model)
        judge.start_static(model, fitter.settings.fine_size)
        free = problem.static_mask
        model.unknowns.static = torch.from_numpy(clip.static.astype(np.float32)) * (free > 0) / free.clamp_min(1e-3)
        solver = Integrator(model, detail_size(fitter.settings, problem.size))
        for _ in range(fitter.settings.dynamic_steps):
            solver.dynamic_step()
    else:
        fitter.run(None if start == "fit" else true_start(head, clip))
    moved[:, problem.dynamic_vertices.numpy()] = problem.dynamic_mask * model.unknowns.dynamic[:]
    return moved


def smooth(head: Head, field: np.ndarray, rounds: int) -> np.ndarray:
    """(T,n_d,3) averaged over the dense mesh's neighbours."""
    edges = head.dense_faces.numpy()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    flat = torch.from_numpy(field).transpose(0, 1).flatten(1)
    i, j = torch.from_numpy(np.concatenate([edges, edges[:, ::-1]])).long().t()
    count = torch.zeros(len(flat)).index_add_(0, i, torch.ones(len(i)))[:, None].clamp_min(1)
    for _ in range(rounds):
        flat = 0.5 * flat + 0.5 * torch.zeros_like(flat).index_add_(0, i, flat[j]) / count
    return flat.view(field.shape[1], -1, 3).transpose(0, 1).numpy()


def parts(head: Head, fit: np.ndarray, clip: Clip) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pairs of a part of the fitted field and the same part of the true one, by name."""
    face = facial(head) & (clip.visible.mean(0) > SEEN)
    fit, true = fit - fit.mean(0), clip.dynamic - clip.dynamic.mean(0)
    normals = vertex_normals(head.dense.template[None], head.dense_faces)[0].numpy()
    along = [(x * normals).sum(-1, keepdims=True) for x in (fit, true)]
    found = {"all": (fit[:, face], true[:, face]), "along normals": (along[0][:, face], along[1][:, face])}
    across = [x - a * normals for x, a in zip((fit, true), along, strict=True)]
    found["along the surface"] = across[0][:, face], across[1][:, face]
    strength = (true**2).sum((0, 2))
    hot = face & (strength > np.quantile(strength[face], 1 - HOT))
    clear = face & (clip.visible.mean(0) > 0.95)
    places = {"seen in all frames": clear, "tenth that moves most": hot, "the rest": face & ~hot}
    mask = {name: value.numpy() > 0.5 for name, value in areas(head).items()}
    places |= {name: face & value for name, value in mask.items()}
    places["cheeks, forehead, chin"] = face & ~np.any(list(mask.values()), axis=0)
    found |= {name: (fit[:, where], true[:, where]) for name, where in places.items()}
    before = fit, true
    for rounds in ROUNDS:
        after = smooth(head, before[0], rounds), smooth(head, before[1], rounds)
        found[f"detail gone in {rounds} rounds"] = tuple((b - a)[:, face] for b, a in zip(before, after, strict=True))
        before = after
    found[f"left after {sum(ROUNDS)} rounds"] = before[0][:, face], before[1][:, face]
    size = np.linalg.norm(true[:, face], axis=(1, 2))
    for name, frames in {
        "frames near the mean": size < np.median(size),
        "frames far off": size >= np.median(size),
    }.items():
        found[name] = fit[frames][:, face], true[frames][:, face]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--clips", type=int, default=2, help="clips a person")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--variant", choices=("clean", "noisy"), default="clean")
    parser.add_argument("--truth", choices=KINDS, default="pattern")
    parser.add_argument("--start", choices=STARTS, default="fit")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the section proxy")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered truth")
    o = parser.parse_args()
    settings = layered([], [f"proxy.{item}" for item in o.set], {}).proxy
    torch.set_num_threads(1)
    head, sums = shared_head(), defaultdict(lambda: np.zeros(3))
    seeds = [(person, clip) for person in range(o.first, o.first + o.people) for clip in range(o.clips)]
    for seed in progress(seeds, len(seeds), "clips"):
        clip = load_clip(head, *seed, o.frames, o.cache, kind=o.truth)
        fit = fitted(head, clip, seed, o.variant == "noisy", o.start, settings)
        for name, (a, b) in parts(head, fit, clip).items():
            sums[name] += 1e6 * np.array([(a * b).sum(), (a * a).sum(), (b * b).sum()], np.float64)
    whole = sums["all"][2]
    print(f"{len(seeds)} clips x {o.frames} frames, {o.variant}, truth {o.truth}, start {o.start}: {STARTS[o.start]}")
    print(f"{'':28}{'correlation':>12}{'size':>8}{'share of the truth':>20}")
    for name, (product, fit, true) in sums.items():
        correlation = product / np.sqrt(fit * true) if fit * true > 0 else 0.0
        print(f"{name:28}{correlation:12.3f}{np.sqrt(fit / max(true, 1e-12)):8.2f}{true / whole:20.2f}")


if __name__ == "__main__":
    main()
