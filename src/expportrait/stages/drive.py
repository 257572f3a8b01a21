"""Stage ``drive``: control maps of each pair, the driver's expression on the target's head (docs/drive.md)."""

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch

from expportrait.engine.record import whole_state
from expportrait.engine.stage import Clip
from expportrait.errors import ClipError, UserError
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.store import FittedHead, load_proxy
from expportrait.head import Head
from expportrait.stages.control import BLOCK, render_maps
from expportrait.store import StoreWriter, videocodec
from expportrait.transfer.drive import driven, motion, still, transferred
from expportrait.transfer.model import Transfer


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

    ``clip``: a pair with the parents ``target`` and ``driver``, the section ``drive``, and the head as its tools.
    Raises ClipError where the reference frame is not there.
    """
    s, head, names = clip.settings.drive, clip.tools, clip.row.extra
    target, driver = (load_proxy(clip.parents[name], head) for name in ("target", "driver"))
    frame = s.reference if s.target_proxy == "clip" else 0  # of the target's proxy
    check_frame(frame, target.frames)
    own = names["target"] == names["driver"]
    if own:
        check_frame(s.reference, driver.frames)
    moves = motion(driver)
    dynamic = driver.dynamic if s.offsets == "copy" else None
    if s.offsets == "transfer":
        home = clip.parents["driver"].path.parents[1] / "transfer"
        model = trained(home / "model", whole_state(home).key, head.sha256)
        dynamic = transferred(target, moves, model.to(clip.device))
    plain = s.offsets == "none"
    # a clip drives itself from the frame that the target was fitted to, where both heads are the same
    anchor = s.reference if own else {"first": 0, "mean": None}[s.anchor]
    made = driven(target, frame, moves, dynamic, anchor, own or s.pose == "relative", plain)
    return made, still(target, frame, plain)


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
    out.attrs(
        target=names["target"],
        driver=names["driver"],
        reference=s.reference,
        focal=float(made.camera.focal),
        normals="int8, n * 127; camera space: x right, y up, z to the viewer",
        registered_to="the target's reference frame; order and number of frames: the driver's",
        regions=["", *head.REGIONS],
    )
