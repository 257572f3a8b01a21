"""Stage ``proxy``: fit the personalised head of each clip (docs/proxy.md)."""

import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.blendshapes import units_of_points
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.evidence.targets import StoredTargets
from expportrait.fit.proxy import ProxyFitter
from expportrait.fit.store import save_proxy
from expportrait.fit.tracked import read_tracked
from expportrait.head import Head
from expportrait.settings.config import Proxy
from expportrait.store import Store, StoreWriter
from expportrait.store.frames import Frames


def load(settings: SimpleNamespace, device: str) -> Head:
    return load_head(settings.head).to(device)


def process(clip: Clip, out: StoreWriter) -> None:
    s, head = clip.settings.proxy, clip.tools
    landmarks = clip.parents["landmarks"]
    targets = StoredTargets(clip.parents["geometry"])
    points = torch.from_numpy(landmarks["points"])
    confidence = torch.from_numpy(landmarks["confidence"])
    start = None
    if s.init == "file":
        start = read_tracked(Path(s.init_dir) / f"{clip.row.clip}.npz", head, targets.frames, targets.size)

    pictures = Frames(clip.parents["crop"], "frames", 0)
    units = told_units(head, s, landmarks, targets.size)
    fitter = ProxyFitter(head, targets, points, confidence, s, clip.backend, pictures, units)
    seconds: dict[str, float] = {}
    with closing(clip.progress(None, fitter.planned_steps(start), "fit")) as bar:
        clock = time.perf_counter()

        def track(stage: str, loss: float) -> None:
            nonlocal clock
            now = time.perf_counter()
            seconds[stage] = seconds.get(stage, 0.0) + now - clock
            clock = now
            bar.set_postfix_str(f"{stage}, loss {loss:.4f}", refresh=False)
            bar.update(1)

        fit = fitter.run(start, track)
    if not torch.isfinite(fit.static).all() or not fit.parameters.finite():
        raise ClipError("the fit diverged; look at the clip's landmarks and normals in the report")
    save_proxy(out, fit, head)
    out.attrs(seconds={name: round(value, 2) for name, value in seconds.items()})


def told_units(head: Head, s: Proxy, landmarks: Store, size: int, frames: slice = slice(None)) -> Tensor | None:
    """(T, U): what the package's network reads off the points of ``landmarks`` for the head's face units, NaN where no
    point is known; None where the head's expression has no units."""
    if head.activation_matrix is None or not s.weights.blendshapes:
        return None
    points = landmarks["points"][frames]
    known = landmarks["confidence"][frames].reshape(len(points), -1).any(1)
    return torch.from_numpy(units_of_points(head.unit_names, points, known, size))
