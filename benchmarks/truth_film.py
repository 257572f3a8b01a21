"""Pictures of a rendered truth clip: painted skin, hair and clothes under one light, with a camera's blur and noise.

The light falls on the true normals, so that what shading says is there to be found; so is what misleads it: blotches,
strands, patterns and stubble that are colour and no shape, a highlight, and no knowledge of where the light is.
"""

import cv2
import numpy as np
import torch
from benchmarks.geometry_scenes import LIPS, PUPILS
from benchmarks.truth_clips import Clip, with_hair
from benchmarks.truth_hair import strands
from benchmarks.truth_person import make_person, waves
from scipy.spatial import cKDTree

from expportrait.head import Head
from expportrait.points478 import BROWS
from expportrait.render import render
from expportrait.store import decode_normals

NOISE, BLUR = 2.5, 0.7  # of 255; px
GAMMA = 2.2


def film(head: Head, clip: Clip, person: int, number: int) -> np.ndarray:
    """(T,H,W,3) u8 RGB; the same for the same numbers."""
    random = np.random.default_rng([5, person, number])
    skin = np.concatenate([paint(head, person), shine(head)[:, None]], 1)
    hanging = paint_hair(clip.hair[0], skin[make_person(head, person).hair > 0.9].mean(0), person)
    colours = torch.from_numpy(np.concatenate([skin, hanging]).astype(np.float32))
    light, behind = lights(random), background(random, clip.mask.shape[1])
    out = []
    for t, inside in enumerate(clip.mask):
        one = (torch.from_numpy(x[t : t + 1]) for x in (clip.vertices, clip.hair))
        vertices, faces = with_hair(next(one), head.dense_faces, next(one), clip.hair_faces)
        maps = render(vertices, faces, clip.camera, {"paint": colours}, cull=True)
        albedo, gloss = np.split(maps.attributes["paint"][0].numpy(), [3], axis=-1)
        lit = shade(decode_normals(clip.normals[t]), albedo, gloss, *light)
        image = 255 * np.where(inside[..., None], lit, behind).clip(0, 1) ** (1 / GAMMA)
        image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR) + NOISE * random.normal(size=image.shape)
        out.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    return np.stack(out)


def paint(head: Head, person: int) -> np.ndarray:
    """(n_d,3) linear albedo 0..1 of each vertex of one person."""
    random = np.random.default_rng([6, person])
    points, region = head.dense.template.numpy(), np.array(head.REGIONS)[head.regions.numpy()]
    skin = np.array([0.62, 0.36, 0.27]) * random.uniform(0.25, 1.1)
    blotches = 1 + 0.08 * waves(points, 0.03, random) + 0.05 * waves(points, 0.008, random)
    out = skin * blotches[:, None]
    marks = head.landmarks.template.numpy()

    def near(ids: tuple[int, ...], reach: float) -> np.ndarray:
        return np.exp(-((cKDTree(marks[list(ids)]).query(points)[0] / reach) ** 2))[:, None]

    out = out * (1 - near(LIPS, 0.006) * [0.1, 0.5, 0.4]) * (1 - 0.8 * near(BROWS, 0.005))
    out *= 1 - random.uniform(0, 0.35) * near((152, 148, 377, 17, 200), 0.03)  # stubble
    hair = make_person(head, person).hair[:, None].clip(0, 1)
    strands = 1 + 0.35 * waves(points * [1, 0.2, 1], 0.003, random)[:, None]
    out = out * (1 - hair) + hair * random.uniform(0.02, 0.3) * np.array([1, 0.7, 0.45]) * strands
    pattern = 1 + 0.4 * np.sign(waves(points, random.uniform(0.01, 0.03), random))[:, None]
    cloth = (region == "body")[:, None]
    out = np.where(cloth, random.uniform(0.05, 0.6, 3) * pattern, out)
    out[region == "eye"] = 0.75
    eyes = np.linalg.norm(points[:, None] - marks[list(PUPILS)], axis=-1).min(1) < 0.0062
    out[eyes & (region == "eye")] = 0.05
    out[region == "teeth"] = 0.7
    return out.clip(0.01, 1)


def paint_hair(points: np.ndarray, like: np.ndarray, person: int) -> np.ndarray:
    """(k,4) linear albedo and strength of the highlight of hanging hair (k,3) m, about that (4,) of the hair above."""
    random = np.random.default_rng([8, person])
    return like * np.append(np.tile(strands(points, random)[:, None], 3), np.ones((len(points), 1)), 1).clip(0.1, 3)


def shine(head: Head) -> np.ndarray:
    """(n_d,) strength of the highlight: skin and eyes."""
    region = np.array(head.REGIONS)[head.regions.numpy()]
    return np.select([region == "eye", np.isin(region, ["body", "scalp"])], [0.5, 0.03], 0.12)


def lights(random: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Direction (3,), strength, and the share of light from all around, more from above."""
    azimuth, height = random.uniform(-1.1, 1.1), random.uniform(0.1, 0.9)
    key = np.array([np.sin(azimuth), height, np.cos(azimuth)])
    return key / np.linalg.norm(key), random.uniform(0.6, 1.0), random.uniform(0.25, 0.6)


def shade(normals, albedo, gloss, key, strength, around) -> np.ndarray:
    """Linear colour (H,W,3): Lambert, a sky, and a highlight (Blinn-Phong, exponent 20)."""
    diffuse = strength * np.clip(normals @ key, 0, None) + around * (0.75 + 0.25 * normals[..., 1])
    half = key + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    return albedo * diffuse[..., None] + strength * gloss * np.clip(normals @ half, 0, None)[..., None] ** 20


def background(random: np.random.Generator, size: int) -> np.ndarray:
    """(H,W,3) linear: a blurred room."""
    room = random.uniform(0.02, 0.8, (6, 6, 3)).astype(np.float32)
    return cv2.resize(room, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)
