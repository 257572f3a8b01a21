"""Stage ``drive``: control maps of each pair, the driver's expression on the target's head (docs/drive.md)."""

from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from expportrait.engine.record import whole_state
from expportrait.engine.stage import Clip
from expportrait.errors import ClipError, UserError
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import Head
from expportrait.manifest.pairs import FROM
from expportrait.stages.control import BLOCK, render_maps
from expportrait.store import StoreWriter, videocodec
from expportrait.transfer.drive import steered, still, transferred
from expportrait.transfer.model import Transfer
from expportrait.transfer.motion import Motion, Part, motion
from expportrait.transfer.timing import resampled, smoothed


def load(settings: SimpleNamespace, device: str) -> Head:
    return load_head(settings.head).to(device)


def check_frame(frame: int, frames: int) -> None:
    if frame >= frames:
        raise ClipError(f"drive.reference is frame {frame}, but the clip has {frames} frames")


@lru_cache(1)
def trained(folder: Path, key: str, head_sha256: str) -> Transfer:
    """The transfer module in ``folder``; ``key`` only tells one training from the next."""
    model = Transfer.from_pretrained(folder)
    if model.config.head_sha256 != head_sha256:
        raise UserError(f"{folder} was trained with another head file: run the stage transfer again")
    return model


@torch.no_grad()
def driven_head(clip: Clip) -> tuple[FittedHead, FittedHead]:
    """The target's head with its driver's motion, T frames, and as it is in its reference frame, T = 1.

    ``clip``: a pair with the parents ``target`` and ``driver``, ``pose_from`` and ``expression_from`` where it has
    them, the section ``drive``, and the head as its tools. Raises ClipError where the reference frame is not there.
    """
    s, names = clip.settings.drive, clip.row.extra
    target = load_proxy(clip.parents["target"], clip.tools)
    frame = s.reference if s.target_proxy == "clip" else 0  # of the target's proxy
    check_frame(frame, target.frames)

    @cache
    def moves(name: str) -> Motion:
        return _moves(clip, name, target)

    def part(of: str, relative: bool) -> Part:
        name = of if of in names else "driver"
        made = taken = moves(name)
        if name != "driver":
            made = resampled(taken, _times(clip, name), _times(clip, "driver"))
        if names[name] != names["target"]:
            return Part(made, {"first": 0, "mean": None}[s.anchor], relative, taken)
        # a clip drives itself from the frame that the target was fitted to, where both heads are the same
        check_frame(s.reference, taken.frames)
        return Part(made, s.reference, relative or of == "pose_from", taken)

    plain = s.offsets == "none"
    face, pose = part("expression_from", s.expression == "relative"), part("pose_from", s.pose == "relative")
    return steered(target, frame, face, pose, s, plain), still(target, frame, plain)


def _moves(clip: Clip, name: str, target: FittedHead) -> Motion:
    """What the clip ``name`` among the parents gives, at its own times."""
    s, driver = clip.settings.drive, load_proxy(clip.parents[name], clip.tools)
    made = motion(driver)
    if s.offsets == "copy":
        made = replace(made, dynamic=driver.dynamic)
    if s.smooth:
        made = smoothed(made, _times(clip, name), s.smooth)
    if s.offsets == "transfer" and name != "pose_from":
        home = clip.parents[name].path.parents[1] / "transfer"
        model = trained(home / "model", whole_state(home).key, clip.tools.sha256)
        made = replace(made, dynamic=transferred(target, made, model.to(clip.device)))
    return made


def _times(clip: Clip, name: str) -> Tensor:
    """(T,) s: when the frames of the clip ``name`` among the parents are."""
    times, frames = clip.parents[f"times of {name}"]["timestamps"], clip.parents[name].lazy("expression").shape[0]
    if len(times) != frames:
        raise ClipError(f"{clip.row.extra[name]} has {len(times)} frames, its head {frames}: run crop and proxy again")
    return torch.from_numpy(times)


@torch.no_grad()
def process(clip: Clip, out: StoreWriter) -> None:
    s, head, names = clip.settings.drive, clip.tools, clip.row.extra
    made, reference = driven_head(clip)
    wanted = clip.settings.control.maps
    streams = {}
    for block in clip.progress(clip.computed(render_maps(made, wanted)), -(-made.frames // BLOCK), "render"):
        for name, maps in block.items():
            if name not in streams:
                qp = videocodec.VECTORS if name == "normals" else None
                streams[name] = out.stream(name, made.frames, maps.shape[1:], maps.dtype, qp)
            streams[name].append(maps)
    for name, maps in next(render_maps(reference, wanted)).items():
        out.array(f"reference_{name}", maps)
    # what was rendered, for who wants the head itself
    out.array("expression", made.expression.cpu().numpy())
    out.array("pose", made.pose.cpu().numpy(), unit="rad", joints=list(head.JOINTS))
    out.array("translation", made.translation.cpu().numpy(), unit="m", pivot="neck joint")
    if made.weight is not None:
        out.array("weight", made.weight.cpu().numpy(), meaning="share of the expression from start on, by vertex")
        out.array("start", made.start.cpu().numpy(), meaning="expression from which weight counts")
    out.attrs(
        target=names["target"],
        driver=names["driver"],
        **{name: names[name] for name in FROM if name in names},
        reference=s.reference,
        focal=float(made.camera.focal),
        normals="int8, n * 127; camera space: x right, y up, z to the viewer",
        registered_to="the target's reference frame; order and number of frames: the driver's",
        regions=["", *head.REGIONS],
    )
