"""Stage ``drive``: control maps of each pair, the driver's expression on the target's head (docs/drive.md)."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch

from expportrait.engine.record import Outcome, whole_state
from expportrait.engine.stage import Clip
from expportrait.engine.stage import run as run_stage
from expportrait.errors import ClipError, UserError
from expportrait.estimators.head_landmarks import load_head
from expportrait.fit.evidence.targets import StoredTargets
from expportrait.fit.parameters import HeadParameters
from expportrait.fit.proxy import ProxyFitter
from expportrait.fit.store import load_proxy, save_proxy
from expportrait.fit.tracked import read_tracked
from expportrait.head import Head
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.stages.contracts import TARGETS, contract, contracts, settings_of
from expportrait.stages.control import BLOCK, render_maps
from expportrait.store import StoreWriter, videocodec
from expportrait.transfer.drive import driven, motion, still, transferred
from expportrait.transfer.model import Transfer


def load(settings: SimpleNamespace, device: str) -> Head:
    return load_head(*settings.head.model_dump().values()).to(device)


def run(
    pairs: list[Row], rows: list[Row], config: Config, device: str, backend: str = "auto", shard: str = ""
) -> dict[str, Outcome]:
    """Bring ``pairs`` (rows of ``pairs.read_pairs``) up to date; returns their index. ``rows``: the manifest's."""
    made = contracts(config)
    if TARGETS in made:
        names = {pair.extra["target"] for pair in pairs}
        targets = replace(made[TARGETS], process=fit_target, load=load)
        targeted = [row for row in rows if row.clip in names]
        run_stage(targets, targeted, settings_of(TARGETS, config), device, backend, shard)
    return run_stage(replace(made["drive"], process=process, load=load), pairs, config, device, backend, shard)


def fit_target(clip: Clip, out: StoreWriter) -> None:
    """The target's head from its reference frame alone: stage ``proxy`` with T = 1."""
    s, head, frame = clip.settings.proxy, clip.tools, clip.settings.drive.reference
    landmarks, targets = clip.parents["landmarks"], StoredTargets(clip.parents["geometry"])
    check_frame(frame, targets.frames)
    start = None
    if s.init == "file":
        tracked = read_tracked(Path(s.init_dir) / f"{clip.row.clip}.npz", head, targets.frames, targets.size)
        start = at(tracked, frame)
    one = slice(frame, frame + 1)
    points, confidence = (torch.from_numpy(landmarks[name][one]) for name in ("points", "confidence"))
    fitter = ProxyFitter(head, targets.block(one), points, confidence, s, clip.backend)
    with clip.bar("fit", fitter.planned_steps(start)) as bar:
        fit = fitter.run(start, lambda stage, loss: bar.update())
    save_proxy(out, fit, head)
    out.attrs(reference=frame)


def at(tracked: HeadParameters, frame: int) -> HeadParameters:
    """One frame of pre-tracked parameters."""
    per_frame = ("expression", "rotation", "place", "log_scale")
    return replace(tracked, **{name: getattr(tracked, name)[frame : frame + 1] for name in per_frame})


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
def process(clip: Clip, out: StoreWriter) -> None:
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
    wanted = clip.settings.control.maps
    streams = {}
    for block in clip.progress(clip.computed(render_maps(made, wanted)), -(-made.frames // BLOCK), "render"):
        for name, maps in block.items():
            if name not in streams:
                qp = videocodec.VECTORS if name == "normals" else None
                streams[name] = out.stream(name, made.frames, maps.shape[1:], maps.dtype, qp)
            streams[name].append(maps)
    for name, maps in next(render_maps(still(target, frame, plain), wanted)).items():
        out.array(f"reference_{name}", maps)
    # what was rendered, for who wants the head itself
    out.array("expression", made.expression.cpu().numpy())
    out.array("pose", made.pose.cpu().numpy(), unit="rad", joints=list(head.JOINTS))
    out.array("translation", made.translation.cpu().numpy(), unit="m", pivot="neck joint")
    out.attrs(
        target=names["target"],
        driver=names["driver"],
        reference=s.reference,
        focal=float(target.camera.focal),
        normals="int8, n * 127; camera space: x right, y up, z to the viewer",
        registered_to="the target's reference frame; order and number of frames: the driver's",
        regions=["", *head.REGIONS],
    )


STAGE = replace(contract("drive"), version=2, process=process, load=load)
