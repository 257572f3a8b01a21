"""What the transfer learns from fitted fields of rendered people: the share explained on clips and people never seen.

    python benchmarks/transfer_truth.py                    8 people x 2 clips x 24 frames, clean and noisy

The people of proxy_truth.py, fitted. Clip 0 of all but the last two people and clip 1 of half of these train; clip 1 of
the others and both clips of the last two are never seen. Beside the fields fitted, the true ones on the same fitted
heads. Shares are 1 - error / error without any offsets, of the mean-free offsets of all frames and vertices, against
the fields of their own kind; ``of the truth`` always against the true ones.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and in every worker
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from benchmarks.proxy_truth import shared_head
from benchmarks.transfer import SIZES
from benchmarks.truth_clips import load_clip
from benchmarks.truth_mixed import KINDS
from benchmarks.truth_observe import observe

from benchmarks import made_people as make
from expportrait.fit.displacement import Offsets
from expportrait.fit.proxy import fit_proxy
from expportrait.fit.store import save_proxy
from expportrait.head import Head
from expportrait.progress import progress
from expportrait.store import StoreWriter
from expportrait.transfer.data import FittedClips
from expportrait.transfer.model import Transfer, TransferConfig
from expportrait.transfer.train import evaluate, train

Seed = tuple[int, int]  # person, clip


def fit_one(seed: Seed, frames: int, variant: str, truth: str, folder: Path, cache: Path | None) -> None:
    """Stores of a clip's fit, with the fields fitted and with the true ones."""
    torch.set_num_threads(1)
    head = shared_head()
    clip = load_clip(head, *seed, frames, cache, kind=truth)
    fit = fit_proxy(head, *observe(clip, seed, variant == "noisy"))
    rows = fit.dynamic_vertices.numpy()
    true = torch.from_numpy(clip.dynamic[:, rows])
    for name, made in {"fitted": fit, "true": replace(fit, dynamic=Offsets(frames, lambda of: true[of]))}.items():
        with StoreWriter(place(folder, name, seed), {"key": f"{name}-{seed}", "settings": {"head": {}}}) as out:
            save_proxy(out, made, head)


def place(folder: Path, kind: str, seed: Seed) -> Path:
    """Where a clip's store lies."""
    return folder / kind / f"p{seed[0]}-{seed[1]}.zarr"


def clips_of(head: Head, folder: Path, kind: str, seeds: list[Seed]) -> FittedClips:
    """Those of ``seeds``."""
    return FittedClips({f"p{p}-{c}": place(folder, kind, (p, c)) for p, c in seeds}, head)


def trained(head: Head, clips: FittedClips, folder: Path) -> Transfer:
    """The module of transfer.py's sizes."""
    settings = make.config(folder, transfer=SIZES).transfer
    torch.manual_seed(0)
    features = clips.features(clips.names[0]).shape[1]
    sizes = settings.encoder_width, settings.code, settings.vertex_width
    model = Transfer(TransferConfig(head.n_expression, features, *sizes, clips.scale()))
    train(model, clips, settings, folder / f"work-{clips.scale()}", "cpu")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--variants", default="clean,noisy")
    parser.add_argument("--truth", choices=KINDS, default="pattern")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered truth")
    parser.add_argument("--jobs", type=int, default=2)
    o = parser.parse_args()
    torch.set_num_threads(1)
    head, known = shared_head(), o.people - 2
    parts = {
        "trained on": [(p, c) for p in range(known) for c in (0, 1) if not c or p < known // 2],
        "unseen clips": [(p, 1) for p in range(known // 2, known)],
        "unseen people": [(p, c) for p in range(known, o.people) for c in (0, 1)],
    }
    print(f"{'':24}" + "".join(f"{name:>16}" for name in parts))
    for variant in o.variants.split(","):
        folder, seeds = Path(tempfile.mkdtemp()), [seed for of in parts.values() for seed in of]
        job = partial(fit_one, frames=o.frames, variant=variant, truth=o.truth, folder=folder, cache=o.cache)
        with ProcessPoolExecutor(o.jobs) as pool:
            for _ in progress(pool.map(job, seeds), len(seeds), f"fits, {variant}"):
                pass
        for kind in ("fitted", "true"):
            model = trained(head, clips_of(head, folder, kind, parts["trained on"]), folder)
            for against in dict.fromkeys((kind, "true")):
                shares = [evaluate(model, clips_of(head, folder, against, of))["explained"] for of in parts.values()]
                label = f"{variant}, {kind}{', of the truth' if against != kind else ''}"
                print(f"{label:24}" + "".join(f"{share:16.0%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
