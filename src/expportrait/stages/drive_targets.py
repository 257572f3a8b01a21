"""``drive/targets``, made by the jobs of drive: the head of each target, from one frame of it (docs/drive.md)."""

from dataclasses import replace
from pathlib import Path

import torch

from expportrait.engine.stage import Clip
from expportrait.fit.evidence.targets import StoredTargets
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import ProxyFitter
from expportrait.fit.store import save_proxy
from expportrait.fit.tracked import read_tracked
from expportrait.manifest.pairs import clip_of
from expportrait.stages.drive import check_frame, load
from expportrait.stages.proxy import told_units
from expportrait.store import StoreWriter

__all__ = ["load", "process"]


def process(clip: Clip, out: StoreWriter) -> None:
    """The target's head from its reference frame alone: stage ``proxy`` with T = 1."""
    s, head, frame = clip.settings.proxy, clip.tools, clip.settings.drive.reference
    landmarks, targets = clip.parents["landmarks"], StoredTargets(clip.parents["geometry"])
    check_frame(frame, targets.frames)
    start = None
    if s.init == "file":
        tracked = read_tracked(Path(s.init_dir) / f"{clip_of(clip.row.clip)}.npz", head, targets.frames, targets.size)
        start = at(tracked, frame)
    one = slice(frame, frame + 1)
    points, confidence = (torch.from_numpy(landmarks[name][one]) for name in ("points", "confidence"))
    units = told_units(head, s, landmarks, targets.size, one)
    fitter = ProxyFitter(head, targets.block(one), points, confidence, s, clip.backend, units=units)
    with clip.bar("fit", fitter.planned_steps(start)) as bar:
        fit = fitter.run(start, lambda stage, loss: bar.update())
    save_proxy(out, fit, head)
    out.attrs(reference=frame)


def at(tracked: HeadParameters, frame: int) -> HeadParameters:
    """One frame of pre-tracked parameters."""
    per_frame = ("expression", "rotation", "place", "log_scale")
    return replace(tracked, **{name: getattr(tracked, name)[frame : frame + 1] for name in per_frame})
