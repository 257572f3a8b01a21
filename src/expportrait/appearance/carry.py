"""A portrait's colours, carried by its head's surface to other poses and expressions."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from expportrait.appearance import mouth
from expportrait.appearance.body import FOLLOWS, drift, head_share
from expportrait.appearance.outline import beyond
from expportrait.appearance.portrait import MOUTH, SCALP, Portrait, inward
from expportrait.appearance.pyramid import fill
from expportrait.fit.store import FittedHead
from expportrait.head.regions import smoothstep
from expportrait.render import Camera, Maps, at_pixels, render

OUTLINE = 2.0  # px of 512: how far the outline of a fitted head may be off
TORN, BRIGHT = 6.0, 24.0  # px of the portrait, grey values: neighbours that far apart lie on two surfaces
SOFT = 1.2  # px of 512: over which what the surface shows passes over into what lies beyond it
PAST = (4.0, 24.0)  # px of 512 beyond the picture's edge: from its edge repeated to the colours of the surface
REACH = (9.0, 60.0)  # px of 512 beyond the head: from moving with it to staying where the portrait has it
WAY = 4.0  # times the head's way over which that passes at least
BLOCK = 4  # frames rendered at once
ASTRAY = (1.5, 5.0)  # px of 512 from where the skull has it: what a smile shows there is not what the surface takes
KNOWN = 0.98  # what shows that well is not asked about
STRETCH = (0.2, 0.6)  # what was seen at an angle is smeared where it turns to the viewer: unseen to seen


@torch.no_grad()
def carried(
    shown: Portrait,
    made: FittedHead,
    rim: float = 9.0,
    still: float = 8.0,
    body: float = 0.0,
    backend: str = "auto",
    frames: slice = slice(None),
    body_follows: bool = True,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (appearance (B, H, W, 3) u8 RGB, seen (B, H, W) u8) of these ``frames`` of ``made``.

    ``made``: the portrait's own head in other poses, seen by the same camera; ``body``: the share of its motion that
    the body below the neck takes where that is small; where it is large it takes all of it if ``body_follows``.
    ``seen`` is 255 where a pixel shows what the portrait showed, 0 where its colour is a guess.
    """
    attributes = {"at": torch.cat([shown.pixels, shown.shown, shown.facing, shown.colours], 1)}
    head, size = made.head, made.camera.width / 512
    rays, share = _rays(made.camera), head_share(head)
    start, stop, _ = frames.indices(made.frames)
    for first in range(start, stop, BLOCK):
        vertices = made.vertices(slice(first, min(first + BLOCK, stop)))
        pixels = made.camera.project(vertices)
        follows = smoothstep(*FOLLOWS, drift(head, pixels, shown.pixels, ("body",)) / size)
        takes = share + (1 - share) * (body + (1 - body) * body_follows * follows[:, None, None])
        away = (drift(head, pixels, shown.pixels, ("face", "scalp")) / size).tolist()
        vertices = shown.vertices + takes * (vertices - shown.vertices)
        maps = render(vertices, head.dense_faces, made.camera, attributes, backend=backend, cull=True)
        covered, at = maps.coverage.cpu().numpy() > 0.5, maps.attributes["at"].cpu().numpy()
        facing = -(maps.normals.cpu().numpy() * rays).sum(-1)
        straight = np.maximum(at[..., 3], 0.02) / np.maximum(facing, 0.02)
        known = np.where(covered, at[..., 2] * smoothstep(*STRETCH, straight), 1).astype(np.float32)
        asked = _asked(shown, made.camera, vertices, maps, facing, known, pixels, backend)
        frames_of = zip(covered, at, known, away, asked, strict=True)
        pairs = [_frame(shown, *one, rim, still) for one in frames_of]
        yield np.stack([one for one, _ in pairs]), np.stack([one for _, one in pairs])


def _rays(camera: Camera) -> np.ndarray:
    """(H, W, 3): the unit directions from the camera through its pixels."""
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float32) + 0.5
    focal = float(camera.focal)
    rays = np.dstack([(columns - camera.width / 2) / focal, (camera.height / 2 - rows) / focal, -np.ones_like(rows)])
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Asked:
    """What vertices' colours do not say, of one frame."""

    inside: np.ndarray  # (H, W) bool: the mouth's inside
    shading: np.ndarray  # (P, 3): factors of its colours
    scalp: np.ndarray  # (H, W) bool: hair or hat that the portrait shows not well or not at all
    beside: np.ndarray  # (Q, 3): where its texture is taken from, ``scalp.lookups``
    skull: np.ndarray | None  # (2, 3): px of the frame to px of the portrait, as its upper teeth go; None: no smile


def _asked(
    shown: Portrait,
    camera: Camera,
    vertices: Tensor,
    maps: Maps,
    facing: np.ndarray,
    known: np.ndarray,
    pixels: Tensor,
    backend: str,
) -> list[Asked]:
    """Of each of the B frames with these ``vertices`` (B, n_d, 3) at ``pixels`` (B, n_d, 2) and their maps; ``facing``,
    ``known`` (B, H, W)."""  # fmt: skip
    part = torch.where(maps.face_id >= 0, shown.parts[maps.face_id.clamp_min(0)], 0)
    part = torch.where((part == SCALP) & (torch.from_numpy(known).to(part.device) > KNOWN), 0, part)
    values = at_pixels(vertices, shown.faces, camera, shown.unseen, maps.face_id, part > 0, backend).cpu().numpy()
    part, found = part.cpu().numpy(), []
    counts = np.cumsum(np.count_nonzero(part, axis=(1, 2)))[:-1]
    teeth = mouth.upper(shown.unseen)
    front, before = pixels[:, teeth].cpu().numpy(), shown.pixels[teeth].cpu().numpy()
    frames_of = zip(part, np.split(values, counts), maps.depth, facing, front, strict=True)
    for kind, of, depth, turned, now in frames_of:
        inside, scalp, chosen = kind == MOUTH, kind == SCALP, kind[kind > 0]
        shading = np.ones((0, 3), np.float32)
        if inside.any():
            pixel = 1000 * float(depth.cpu().numpy()[inside].mean()) / float(camera.focal)
            shading = mouth.shading(of[chosen == MOUTH, :4], inside, pixel, turned[inside])
        skull = None
        if shown.smile is not None and inside.any():
            skull = np.linalg.lstsq(np.c_[now, np.ones(len(now))], before, rcond=None)[0].T
        found.append(Asked(inside, shading, scalp, of[chosen == SCALP, 4:], skull))
    return found


def _frame(
    shown: Portrait, covered: np.ndarray, at: np.ndarray, known: np.ndarray, away: float, asked: Asked, rim: float,
    still: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    height, width = covered.shape
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    here = np.stack(np.broadcast_arrays(columns + 0.5, rows + 0.5), -1)
    flow = np.where(covered[..., None], at[..., :2] - here, 0).astype(np.float32)
    around = fill(flow[::2, ::2], covered[::2, ::2].astype(np.float32))  # it is smooth: half the size will do
    around = cv2.resize(around, (width, height), interpolation=cv2.INTER_LINEAR)
    source = here + np.where(covered[..., None], flow, around) - 0.5
    outer, counts = shown.outline.followed(covered, flow)
    held = source + counts * (here + outer - 0.5 - source)
    soft = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), SOFT * width / 512)[..., None]
    source = held + soft * (source - held)
    # the farther from the head, the less is known of how it moves: long hair and clothes rather stay; but over the
    # length of its way and more, or what it left would be seen twice
    low, high = REACH[0], max(REACH[1], WAY * away)
    goes = 1 - smoothstep(low * width / 512, high * width / 512, beyond(covered))[..., None]
    source = here - 0.5 + goes * (source - here + 0.5)
    across, down = cv2.split(source)
    sampled = cv2.remap(shown.person, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    layers = cv2.remap(shown.rest_and_matte, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rest, matte = layers[..., :3], layers[..., 3:]

    if asked.skull is not None:
        known = _smiling(shown, asked, source, sampled, known)
    known = known[..., None]
    guess = np.where(covered[..., None], at[..., 4:], sampled)
    past = _beyond_picture(across, down)[..., None]
    near = known * (1 - smoothstep(*(d * width / 512 for d in PAST), past))
    moved = cv2.magnitude(across - columns, down - rows) * (512 / width)
    edge = _edges(across, down, known, guess) & (cv2.dilate(moved, np.ones((3, 3), np.uint8)) > 2)
    guess[asked.inside] *= asked.shading
    if len(asked.beside):
        _textured(guess, known, shown, asked)
    colour = guess + near * (sampled - guess)
    # what the portrait showed there, it showed as person or as background; what it did not is the head's
    alpha = np.maximum(matte, inward(covered, OUTLINE, rim)[..., None] * (1 - known))
    known = known * (past <= 0)
    image = shown.background + alpha * (colour - shown.background)
    image += (1 - smoothstep(1.0, still, moved))[..., None] * rest
    seen = alpha * known + (1 - alpha) * shown.open[..., None]
    image[edge] = cv2.GaussianBlur(image, (3, 3), 0)[edge]
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8), np.rint(255 * seen[..., 0]).astype(np.uint8)


def _smiling(shown: Portrait, asked: Asked, source: np.ndarray, sampled: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A smile's own teeth, put into ``sampled`` (H, W, 3) where the skull has them now; what is known with them.

    The fitted head does not know an upper tooth from a tongue behind it. So what the portrait shows of a mouth that is
    hardly open goes with the skull, and where the surface would take it elsewhere, it shows nothing.
    """
    rows, columns = np.nonzero(asked.inside)
    at = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], 1) @ asked.skull.T - 0.5
    across, down = (np.float32(one)[None] for one in at.T)
    own, picture = (cv2.remap(one, across, down, cv2.INTER_LINEAR)[0] for one in (shown.smile, shown.person))
    apart = np.linalg.norm(source[asked.inside] - at, axis=1) * (512 / known.shape[1])
    here = known[asked.inside] * (1 - smoothstep(*ASTRAY, apart))
    known = known.copy()
    known[asked.inside] = both = np.maximum(own, here)
    share = (own / np.maximum(both, 1e-6))[:, None]
    sampled[asked.inside] += share * (picture - sampled[asked.inside])
    return known


def _textured(guess: np.ndarray, known: np.ndarray, shown: Portrait, asked: Asked) -> None:
    """Put the texture of the scalp's seen side over the guessed colours (H, W, 3) of its unseen one, as far as that is
    not ``known`` (H, W, 1)."""
    rows, columns = (np.flatnonzero(asked.scalp.any(axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    there, guess = asked.scalp[part], guess[part]
    at = np.zeros((*there.shape, 3), np.float32)
    at[there] = asked.beside
    across, down, weight = cv2.split(at)
    taken, share = (cv2.remap(one, across - 0.5, down - 0.5, cv2.INTER_LINEAR) for one in (shown.person, shown.hair))
    guess += (1 - known[part]) * (share * weight)[..., None] * (taken - guess)


def _beyond_picture(across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """(H, W) px: how far places (H, W), x and y, of a picture of that size lie beyond its edge."""
    middle = [np.float32((side - 1) / 2) for side in across.shape[::-1]]
    return np.maximum(*(np.abs(at - half) - half for at, half in zip((across, down), middle, strict=True)))


def _edges(across: np.ndarray, down: np.ndarray, known: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels beside an edge of the surface, where one part of the portrait, or one guess, ends at another
    within a pixel."""
    bright = cv2.cvtColor(guess.astype(np.float32), cv2.COLOR_RGB2GRAY) * (1 - known[..., 0])
    across, down, guessed = (
        cv2.morphologyEx(one, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) for one in (across, down, bright)
    )
    return (cv2.max(across, down) > TORN) | (guessed > BRIGHT)
