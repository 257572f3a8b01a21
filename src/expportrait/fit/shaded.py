"""What the frames themselves say of the face where its maps are those of another head that was fitted to landmarks.

Such maps hold that head's own expression, frame by frame, and it is as wrong as this one's: D_t would become the
difference of the two, a noise as large as wrinkles. What the picture shows beyond either is its shading.
"""

import cv2
import torch
import torch.nn.functional as F

from expportrait.face_areas import inner_face
from expportrait.fit.bias import unbiased
from expportrait.fit.evidence.shading import face_relief
from expportrait.fit.evidence.targets import HIDDEN, TargetFile
from expportrait.fit.model import ClipModel, singly
from expportrait.fit.terms.depth import scale_and_shift
from expportrait.points478 import face_height


@torch.no_grad()
def shaded_maps(model: ClipModel, sizes: set[int]) -> dict[int, TargetFile]:
    """The clip's maps at ``sizes`` px, on the face those of ``model`` with the relief that each picture's shading gives
    them; without relief where there are no pictures, and in frames whose landmarks are not believed."""
    problem, size, oval = model.problem, max(sizes), model.head.landmark_oval
    maps, out = problem.targets[size], {each: problem.targets[each].other_surface() for each in sizes}
    points = problem.detected.cpu().numpy() * (size / problem.size)
    heights, focal = face_height(points), model.camera(size).focal
    share = torch.zeros(len(model.head.dense.template), 1, device=model.device)
    share[problem.dynamic_vertices] = problem.dynamic_mask
    for one in singly(torch.arange(model.frames)):
        t, targets = one.start, maps[one]
        rendered, bias = model.rendered(model.vertices(one, True), size, True), model.unknowns.bias.at(len(share))
        face = rendered.image(rendered.interpolate(share)[:, 0])[0] > 0
        normals = rendered.image(unbiased(rendered.normals, -rendered.interpolate(bias)))[0]
        depth = rendered.image(rendered.depth)[0]
        if problem.pictures is not None and not model.judged.aside[t]:
            frame = cv2.resize(problem.pictures[t], (size, size), interpolation=cv2.INTER_AREA)
            inside = inner_face(points[t], oval, heights[t], size) & face.cpu().numpy()
            shown = ((targets.mask[0] > 0.5) & (targets.confidence[0] >= HIDDEN)).cpu().numpy()
            relief = face_relief(frame, normals.cpu().numpy(), inside, shown, points[t], heights[t])
            tilt, raised = (torch.from_numpy(x).to(depth) for x in relief)
            normals = normals + F.pad(tilt, (0, 1))
            depth = depth * (1 - raised / focal)
        index = rendered.index[face.flatten()[rendered.index]]
        value = 1 / depth if maps.disparity else depth
        sure = (targets.confidence * targets.mask).flatten()[index]
        told = value.flatten()[index], targets.depth.flatten()[index], sure, torch.zeros_like(index), 1
        anchored = None if targets.anchored is None else targets.anchored.to(depth.device)
        scale, shift = scale_and_shift(*told, anchored)
        targets.normals[0] = torch.where(face[..., None], F.normalize(normals, dim=-1), targets.normals[0])
        targets.depth[0] = torch.where(face, (value - shift) / scale, targets.depth[0])
        for each, file in out.items():
            file.tell_surface(one, targets.resized(each))
    return out
