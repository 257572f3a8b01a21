"""How well a fitted head agrees with the landmarks, the normals and the mask."""

import torch
from torch import Tensor

from expportrait.fit.evidence.points import landmark_error
from expportrait.fit.evidence.visibility import places
from expportrait.fit.model import ClipModel, singly


@torch.no_grad()
def evaluate(model: ClipModel, size: int, dense: bool, frames: Tensor | None = None) -> dict[str, Tensor]:
    """Measure ``frames`` (None: all), (B,): errors of landmarks in inter-ocular distances and of normals in degrees,
    overlap with the mask, share of the mask that is set aside. Of the mesh drawn, (n,): evidence, the mean trust in
    what the estimates say of a vertex, 0 where it never shows."""
    frames, evidence = torch.arange(model.frames) if frames is None else frames, 0.0
    found: dict[str, list[Tensor]] = {name: [] for name in ("landmark", "normal_deg", "overlap", "set_aside")}
    for one in singly(frames):
        figures, shown = one_frame(model, one, size, dense)
        for name, value in figures.items():
            found[name].append(value)
        evidence = evidence + shown
    return {name: torch.cat(values) for name, values in found.items()} | {"evidence": evidence / len(frames)}


def one_frame(model: ClipModel, one: slice, size: int, dense: bool) -> tuple[dict[str, Tensor], Tensor]:
    """(1,) each of the figures of ``one`` frame, and the trust (n,) in what it says of the vertices."""
    problem, camera = model.problem, model.camera(size)
    targets, vertices = problem.targets[size][one], model.vertices(one, dense)
    projected = model.camera(problem.size).project(model.landmarks(vertices))
    rendered = model.rendered(vertices, size, dense)
    sure = targets.confidence * targets.mask
    at = places(vertices[0], rendered, camera)
    evidence = model.judged.trust[one] * at.shown * sure[0, at.row, at.column]
    weight = sure.flatten()[rendered.index]
    cosine = (rendered.normals * targets.normals.reshape(-1, 3)[rendered.index]).sum(-1).clamp(-1, 1)
    normal = torch.rad2deg((weight * cosine.acos()).sum() / weight.sum().clamp_min(1e-6))
    valid = model.valid(one, vertices, targets)
    mask, covered = targets.mask * valid, rendered.image(torch.ones_like(rendered.depth)) * valid
    overlap = torch.minimum(mask, covered).sum() / torch.maximum(mask, covered).sum().clamp_min(1)
    shown = targets.mask * problem.targets[size].inside
    aside = 1 - (shown * model.kept(one, targets)).sum() / shown.sum().clamp_min(1)
    return {
        "landmark": landmark_error(model.head, projected, problem.detected[one]),
        "normal_deg": normal[None],
        "overlap": overlap[None],
        "set_aside": aside[None],
    }, evidence
