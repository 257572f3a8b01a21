"""What the transfer learns from fitted fields of rendered people, by how many people train: the share explained on
clips and people never seen, beside baselines.

    python benchmarks/transfer_truth.py                    6 and 12 people x 2 clips x 16 frames: 20 CPU minutes
    python benchmarks/transfer_truth.py --cache truth      keeps the truth and the fits, so that a second curve is cheap
    python benchmarks/transfer_truth.py --people 12 --clips 1 --set steps=300

The people of proxy_truth.py, fitted. Clips 0 and 1 of the first people, and of the first that train, are never seen;
the next ``--clips`` clips of each person train, as many that talk as make faces. Fields:

    fitted    as the fit has them
    true      the true ones, on the same fitted heads and expressions
    known     the true ones, on the true heads and expressions

Shares are 1 - error / error without any offsets, of the mean-free offsets of all frames and vertices, and in brackets
of their squares; against the fields of their own kind, or against the true ones (``of the truth``).
"""

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and in every worker
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from benchmarks.proxy_truth import FIT_SOURCES, shared_head, true_start
from benchmarks.transfer import SIZES
from benchmarks.truth_clips import SOURCES, load_clip
from benchmarks.truth_mixed import KINDS
from benchmarks.truth_motion import make_motion
from benchmarks.truth_observe import observe
from benchmarks.truth_person import activations, make_person
from torch import Tensor

from benchmarks import made_people as make
from expportrait.fit.displacement import Offsets
from expportrait.fit.proxy import fit_proxy
from expportrait.fit.store import save_proxy
from expportrait.head import Head
from expportrait.options import layered
from expportrait.progress import progress
from expportrait.settings.config import Transfer as Settings
from expportrait.store import StoreWriter
from expportrait.transfer.data import FittedClips
from expportrait.transfer.model import Transfer, TransferConfig, face_rows
from expportrait.transfer.train import mean_free, train

FIELDS = ("fitted", "true", "known")
WEIGHTS = [10.0**power for power in range(-2, 5)]  # of the ridge regression, per squared unit of its input
Seed = tuple[int, int]  # person, clip
Made = Callable[[FittedClips, str], Tensor]  # offsets (T, V, 3) m of a clip by its name, "person-clip"


def fit_one(seed: Seed, frames: int, variant: str, truth: str, folder: Path, cache: Path | None) -> None:
    """Stores of a clip's fit, with each kind of fields, where they are not there yet."""
    if place(folder, FIELDS[-1], seed).exists():
        return
    torch.set_num_threads(1)
    head = shared_head()
    clip = load_clip(head, *seed, frames, cache, kind=truth)
    fit = fit_proxy(head, *observe(clip, seed, variant == "noisy"))
    true = torch.from_numpy(clip.dynamic[:, fit.dynamic_vertices.numpy()])
    on_fitted = replace(fit, dynamic=Offsets(frames, lambda of: true[of]))
    known = replace(on_fitted, parameters=true_start(head, clip), static=torch.from_numpy(clip.static))
    for name, made in zip(FIELDS, (fit, on_fitted, known), strict=True):
        with StoreWriter(place(folder, name, seed), {"key": f"{name}-{seed}", "settings": {"head": {}}}) as out:
            save_proxy(out, made, head)


def place(folder: Path, kind: str, seed: Seed) -> Path:
    """Where a clip's store lies."""
    return folder / kind / f"p{seed[0]}-{seed[1]}.zarr"


def fits_folder(cache: Path | None, *key: object) -> Path:
    """Where the stores of fits lie that the same code made from the same truth with the same ``key``."""
    if cache is None:
        return Path(tempfile.mkdtemp())
    made = hashlib.sha256(FIT_SOURCES.encode() + SOURCES + repr(key).encode())
    return cache / f"transfer-{made.hexdigest()[:20]}"


def clips_of(head: Head, folder: Path, kind: str, seeds: list[Seed]) -> FittedClips:
    """Those of ``seeds``."""
    return FittedClips({f"{p}-{c}": place(folder, kind, (p, c)) for p, c in seeds}, head)


def trained(head: Head, clips: FittedClips, settings: Settings, folder: Path) -> Transfer:
    """The module after training; ``folder`` is for its checkpoints."""
    torch.manual_seed(settings.seed)
    features = clips.features(clips.names[0]).shape[1]
    sizes = settings.encoder_width, settings.code, settings.vertex_width
    model = Transfer(TransferConfig(head.n_expression, features, *sizes, clips.scale()))
    train(model, clips, settings, folder, "cpu")
    return model


def ridge(clips: FittedClips) -> Tensor:
    """(C, 3 V) m: offsets linear in the encoder's input, the same for all people. The weight that leaves the least
    error on people left out, a third at a time."""
    people = sorted({name.split("-")[0] for name in clips.names}, key=int)
    fold = {name: people.index(name.split("-")[0]) % 3 for name in clips.names}
    x = {name: motion - motion.mean(0) for name, motion in ((n, clips.clips[n].motion) for n in clips.names)}
    y = {name: mean_free(clips.offsets(name)).flatten(1) for name in clips.names}

    def solved(names: list[str], weight: float) -> Tensor:
        left, right = torch.cat([x[name] for name in names]), torch.cat([y[name] for name in names])
        return torch.linalg.solve(left.T @ left + weight * torch.eye(left.shape[1]), left.T @ right)

    def error(weight: float) -> float:
        total = 0.0
        for k in range(3):
            found = solved([name for name in clips.names if fold[name] != k], weight)
            total += sum(float((x[n] @ found - y[n]).abs().sum()) for n in clips.names if fold[n] == k)
        return total

    return solved(clips.names, min(WEIGHTS, key=error))


def predictions(
    head: Head, folder: Path, kind: str, seeds: list[Seed], settings: Settings, frames: int
) -> dict[str, Made]:
    """What is made of clips by name: by the truth, by others' wrinkles, and by what learns from ``seeds``."""
    clips = clips_of(head, folder, kind, seeds)
    linear = ridge(clips)
    with tempfile.TemporaryDirectory() as work:
        model = trained(head, clips, settings, Path(work))
    made: dict[str, Made] = {"average wrinkles": average(head, sorted({person for person, _ in seeds}), frames)}
    if kind == "fitted":
        made["true fields"] = lambda of, name: clips_of(head, folder, "true", [seed_of(name)]).offsets(name)
        for name in [*made]:
            made[f"{name}, smaller"] = smaller(made[name], clips)
    made["ridge"] = lambda of, name: (of.clips[name].motion @ linear).unflatten(1, (-1, 3))
    made["module"] = lambda of, name: of.mask * model(of.clips[name].motion[None], of.features(name)[None])[0]
    return made


def seed_of(name: str) -> Seed:
    person, clip = map(int, name.split("-"))
    return person, clip


def smaller(made: Made, clips: FittedClips) -> Made:
    """The multiple, in tenths, that explains most of ``clips``: a fit leaves a part of the wrinkles to the rest."""

    def times(factor: float) -> Made:
        return lambda of, name: factor * made(of, name)

    return times(max((k / 10 for k in range(11)), key=lambda factor: shares(clips, times(factor))[0]))


def average(head: Head, people: list[int], frames: int) -> Made:
    """The wrinkles of ``people`` on average, out as the clip's own are in truth: what can be explained of people never
    seen, whose own wrinkles no feature tells."""
    patterns = sum(make_person(head, person).patterns[:, face_rows(head)] for person in people) / len(people)

    def offsets(of: FittedClips, name: str) -> Tensor:
        motion = make_motion(seed_of(name), frames)
        return torch.from_numpy(np.einsum("tp,pnd->tnd", activations(motion.units, motion.jaw), patterns)).float()

    return offsets


@torch.no_grad()
def shares(clips: FittedClips, made: Made) -> tuple[float, float]:
    """What is explained of the lengths of the offsets, as the stage says it, and of their squares."""
    sums = torch.zeros(2, 2)
    for name in clips.names:
        target = mean_free(clips.offsets(name))
        error = mean_free(made(clips, name)) - target
        sums += torch.stack([torch.stack([x.abs().sum(), x.square().sum()]) for x in (error, target)])
    return tuple((1 - sums[0] / sums[1]).tolist())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", default="6,12", help="that train, a point of the curve each; default %(default)s")
    parser.add_argument("--held", type=int, default=4, help="people never seen, and known ones with unseen clips")
    parser.add_argument("--clips", type=int, default=2, help="of a person that train")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--fields", default=",".join(FIELDS), help="default %(default)s")
    parser.add_argument("--variant", choices=("clean", "noisy"), default="clean")
    parser.add_argument("--truth", choices=KINDS, default="pattern")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the section transfer")
    parser.add_argument("--cache", type=Path, help="folder that keeps the rendered truth and the fits")
    parser.add_argument("--jobs", type=int, default=2, help="clips fitted at once, one thread each")
    options = parser.parse_args()
    options.people = [int(count) for count in options.people.split(",")]
    if unknown := set(options.fields.split(",")) - {*FIELDS}:
        parser.error(f"--fields: {', '.join(sorted(unknown))}: not one of {', '.join(FIELDS)}")
    sizes = {"transfer": make.TRANSFER | SIZES}
    options.settings = layered([("sizes", sizes)], [f"transfer.{item}" for item in options.set], {}).transfer
    return options


def main() -> None:
    o = arguments()
    torch.set_num_threads(1)
    head, held = shared_head(), range(o.held)
    known = [range(o.held, o.held + count) for count in o.people]
    train_on = [[(p, c) for p in people for c in range(2, 2 + o.clips)] for people in known]
    unseen = [[(p, c) for p in people[: o.held] for c in (0, 1)] for people in known]
    never = [(p, c) for p in held for c in (0, 1)]
    folder = fits_folder(o.cache, head.sha256, o.frames, o.variant, o.truth)
    seeds = sorted({*never, *(seed for of in train_on + unseen for seed in of)})
    job = partial(fit_one, frames=o.frames, variant=o.variant, truth=o.truth, folder=folder, cache=o.cache)
    with ProcessPoolExecutor(o.jobs) as pool:
        for _ in progress(pool.map(job, seeds), len(seeds), f"fits, {o.variant}"):
            pass
    print(f"{'':44}{'trained on':>16}{'unseen clips':>16}{'unseen people':>16}")
    for people, *parts in zip(known, train_on, unseen, repeat(never)):
        for kind in o.fields.split(","):
            made = predictions(head, folder, kind, parts[0], o.settings, o.frames)
            for against in dict.fromkeys((kind, "true") if kind == "fitted" else (kind,)):
                clips = [clips_of(head, folder, against, seeds) for seeds in parts]
                for name in made if against == kind else ("ridge", "module"):
                    label = f"{len(people)}, {kind}: {name}{', of the truth' if against != kind else ''}"
                    cells = ("{:.0%} ({:.0%})".format(*shares(of, made[name])) for of in clips)
                    print(f"{label:44}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
