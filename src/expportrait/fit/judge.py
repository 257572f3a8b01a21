"""What can be judged once a head is fitted to landmarks: far turns, the depth's shift, hanging hair, D_s's start."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from expportrait.errors import ClipError
from expportrait.fit.evidence import turned
from expportrait.fit.evidence.growth import LONG, grow, hanging_hair, thickness_axes, unexplained
from expportrait.fit.evidence.hanging import hidden_pixels
from expportrait.fit.evidence.perspective import depth_shift
from expportrait.fit.evidence.points import LOST, interocular
from expportrait.fit.model import ClipModel
from expportrait.fit.problem import UNSEEN, detail_size
from expportrait.fit.shaded import shaded_maps
from expportrait.fit.spool import FrameFile

# Trust in the maps of a frame whose landmarks are not believed, where the head fits the silhouette: for what is the
# frame's own, its pose above all; where its skin was recognised, for what all frames share too.
FOUND_AGAIN = 0.5
# Weight of its own points there, over that of points of a lost face: its place and size went on from the frames beside,
# 5 % too small after some turns, and the masks know them better.
OWN = 0.1


@torch.no_grad()
def settle_turns(model: ClipModel, move: bool) -> None:
    """Weigh the landmarks of far turns by how far they are off. In frames set aside the head is found again where it
    may ``move``, and its own points stand for the detector's, with little weight. Raises ClipError where these are too
    many."""
    problem, s = model.problem, model.settings
    maps = problem.targets[s.coarse_size]

    def at(t: int) -> tuple[Tensor, Tensor, Tensor]:
        one = maps[torch.tensor([t])]
        return one.mask[0], one.normals[0], one.confidence[0]

    found = turned.settle_turns(
        model.head,
        model.parameters,
        problem.detected,
        problem.confidence,
        at,
        maps.size,
        s.max_growth,
        maps.margins,
        move,
        problem.pictures,
    )
    count = int(found.aside.sum())
    if count > s.max_aside * model.frames:
        raise ClipError(
            f"in {count} of {model.frames} frames the landmarks are guesses, as in far turns: too little is left "
            f"to fit a head to (proxy.max_aside: {s.max_aside:.0%})"
        )
    model.unknowns.parameters = found.parameters
    aside, again, likeness = (x.to(model.device) for x in (found.aside, found.found, found.likeness))
    weights = model.judged.weights
    usual = weights[~aside].mean(0) if not aside.all() else weights.mean(0)
    weights = weights * found.share.to(model.device)[:, None]
    own = LOST * problem.trust * torch.where(again, OWN, 1.0)
    weights[aside] = own[aside, None] * usual
    model.judged = replace(
        model.judged,
        points=found.points,
        unit=interocular(found.points).clamp_min(1)[:, None, None],
        weights=weights,
        aside=found.aside,
        trust=torch.where(aside, torch.where(again & (likeness > 0), FOUND_AGAIN, UNSEEN), problem.trust),
        # What the picture of the skin said, in place of what the detector did.
        held=likeness / own,
        pose_trust=torch.where(again, problem.trust.clamp_min(FOUND_AGAIN), problem.trust),
    )


@torch.no_grad()
def anchor_depth(model: ClipModel) -> None:
    """Take off the shift of every frame's depth, where the normals tell it (see perspective)."""
    targets = model.problem.targets
    maps = targets[model.settings.fine_size]
    focal = float(model.parameters.camera(maps.size).focal)
    for t in range(model.frames):
        shift = depth_shift(maps[torch.tensor([t])], focal)
        for each in targets.values():
            each.shift[t] = torch.nan if shift is None else shift


@torch.no_grad()
def hide_hanging(model: ClipModel) -> None:
    """Take confidence from what hangs past the ears and from what it hides (see hanging)."""
    size, targets = model.settings.fine_size, model.problem.targets
    hidden = hanging_hair(model.head, model.parameters, targets[size])
    if not hidden.any():
        return
    hidden = torch.from_numpy(hidden).float().to(model.device)
    for one in torch.arange(model.frames).split(1):
        rendered = model.rendered(model.vertices(one, dense=False), size, dense=False)
        covered = rendered.image(torch.ones_like(rendered.depth))[0].cpu().numpy() > 0
        share = hidden_pixels(rendered.image(rendered.interpolate(hidden))[0].cpu().numpy(), covered)
        share = torch.from_numpy(share).to(model.device)[None, None]
        for each, file in targets.items():
            file.hide(one, F.interpolate(share, (each, each), mode="area")[0])


def start_static(model: ClipModel, size: int) -> None:
    """Let D_s start as hair grown to the outline; from there its magnitude and stretch are measured."""
    head, parameters = model.head, model.parameters
    start = grow(head, parameters, model.problem.targets[size], model.settings.max_growth)
    axes = thickness_axes(head, parameters)
    along = torch.eye(3, device=model.device) - axes[:, :, None] * axes[:, None]
    model.unknowns.static = start.clone()
    model.judged = replace(model.judged, static_start=start, along=along)
    model.judged = replace(model.judged, explained=explained(model, size))


@torch.no_grad()
def explained(model: ClipModel, size: int) -> dict[int, FrameFile]:
    """The masks' parts that can be this head's surface, 255, at every size (see growth.unexplained)."""
    targets = model.problem.targets
    radius = LONG / float(model.parameters.log_scale.mean().exp()) * size / model.problem.size
    found = {each: FrameFile(model.frames, (each, each), torch.uint8) for each in targets}
    for one in torch.arange(model.frames).split(1):
        seen = model.rendered(model.vertices(one, dense=True), size, dense=True)
        coverage = seen.image(torch.ones_like(seen.depth))[0].cpu().numpy()
        mask = (targets[size].masks(one)[0] * targets[size].inside).cpu().numpy()
        kept = torch.from_numpy(~unexplained(mask, coverage, radius)).float()
        for each, file in found.items():
            file[one] = (255 * F.interpolate(kept[None, None], (each, each), mode="area")[0]).round()
    return found


def shade_faces(model: ClipModel) -> None:
    """Where the maps' face is another fitted head's, hold D_t against the shading of the pictures instead: once, as
    D_t would be taken for a part of what was shaded. Not where D_t is all that a face has."""
    problem, s = model.problem, model.settings
    alone = s.offsets != "both" or not s.disentangle or model.frames == 1
    if problem.fitted_face and not alone and not model.judged.shaded:
        shaded = shaded_maps(model, {s.fine_size, detail_size(s, problem.size)})
        model.judged = replace(model.judged, shaded=shaded)
