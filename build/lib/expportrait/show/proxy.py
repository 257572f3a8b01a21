"""``expportrait show proxy``: a fitted head as a film and as mesh files (docs/show.md)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from expportrait.engine.record import state
from expportrait.errors import ClipError, UserError
from expportrait.fit.store import FittedHead
from expportrait.head import Head
from expportrait.progress import progress
from expportrait.render import vertex_normals
from expportrait.show import panels
from expportrait.show.film import Film
from expportrait.show.meshfile import Mesh, write_glb, write_ply
from expportrait.store import Store, StoreError
from expportrait.video.write import write_mp4

STAGES = ("crop", "landmarks", "geometry", "proxy")
MOST = 100  # keyframes of one glTF file: half a megabyte each, and viewers hold them all
COLOURS = {
    "face": (224, 186, 164), "lips": (196, 112, 108), "scalp": (122, 96, 80), "neck": (212, 172, 150),
    "body": (110, 128, 150), "eye": (245, 245, 245), "teeth": (240, 232, 210), "tongue": (190, 96, 100),
    "mouth": (140, 60, 62),
}  # fmt: skip


def show_proxy(
    clip: str,
    results: Path,
    out: Path,
    frames: str = ":",
    mesh: str = "glb",
    sequence: bool = False,
    every: int = 1,
    backend: str = "auto",
) -> list[Path]:
    """Write ``out/CLIP.mp4`` (.png where there is one frame), and as ``mesh`` says the person's neutral head as
    ``out/CLIP.glb`` or ``.ply``; with ``sequence`` also the chosen frames, each ``every``-th of them. Returns what
    was written. Raises UserError.
    """
    if mesh not in ("glb", "ply", "none"):
        raise UserError(f"--mesh {mesh}: glb, ply or none is expected")
    if sequence and mesh == "none":
        raise UserError("--sequence writes meshes: it does not go with --mesh none")
    for stage in STAGES:
        found = state(results / stage, clip)
        if found.status != "ok":
            raise UserError(f"{results} has no {stage} of {clip}: {found.why}")
    try:
        stores = {stage: Store(results / stage / f"{clip}.zarr") for stage in STAGES}
        fitted = panels.load_fitted(stores["proxy"])
        first, end = parse_frames(frames, fitted.frames)
        keys = range(first, end, every)
        if sequence and mesh == "glb" and len(keys) > MOST:
            raise UserError(
                f"--sequence: {len(keys)} keyframes are too many for a glTF file, {MOST} are the most; "
                f"add --every {-(-(end - first) // MOST)}, choose fewer --frames, or write --mesh ply"
            )
        film = Film(clip, stores, fitted, first, end, backend)
        written = [_film(film, out)]
        if mesh != "none":
            written.append(_neutral(fitted, out / f"{clip}.{mesh}"))
        if sequence:
            written.append(_sequence(film, keys, out, mesh))
    except StoreError as error:
        raise UserError(f"{error}; run its stage again") from None
    except ClipError as error:
        raise UserError(error.reason) from None
    return written


def parse_frames(text: str, count: int) -> tuple[int, int]:
    """``a:b`` -> first frame and the one after the last; either may be left out, ``a`` alone is one frame."""
    start, colon, stop = text.partition(":")
    try:
        first = int(start or 0)
        end = int(stop or count) if colon else first + 1
    except ValueError:
        raise UserError(f"--frames {text}: write it as a:b, such as 10:50, b not included") from None
    if not 0 <= first < min(end, count):
        raise UserError(f"--frames {text}: the clip has the frames 0 to {count - 1}")
    return first, min(end, count)


def _film(film: Film, out: Path) -> Path:
    count = film.end - film.first
    pictures = progress(film, count, f"show {film.clip}")
    out.mkdir(parents=True, exist_ok=True)
    if count > 1:
        file = out / f"{film.clip}.mp4"
        write_mp4(file, pictures, film.fps)
        return file
    file = out / f"{film.clip}.png"
    for picture in pictures:
        if not cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{file} could not be written")
    return file


@torch.no_grad()
def _neutral(fitted: FittedHead, file: Path) -> Path:
    mesh = _mesh(fitted.head, fitted.neutral())
    if file.suffix == ".ply":
        write_ply(file, mesh)
    else:
        write_glb(file, mesh, name=file.stem)
    return file


@torch.no_grad()
def _sequence(film: Film, keys: range, out: Path, kind: str) -> Path:
    """The posed head in camera space: one glTF file with the camera, or a folder of PLY files by frame."""
    fitted, clip = film.fitted, film.clip
    meshes: Iterator[Mesh] = (_mesh(fitted.head, fitted.vertices(slice(t, t + 1))[0]) for t in keys)
    meshes = iter(progress(meshes, len(keys), f"show {clip}: meshes"))
    if kind == "ply":
        folder = out / f"{clip}-sequence"
        for t, mesh in zip(keys, meshes, strict=True):
            write_ply(folder / f"{t:06d}.ply", mesh)
        return folder
    file = out / f"{clip}-sequence.glb"
    first, *others = meshes
    write_glb(file, first, others, [(t - keys[0]) / film.fps for t in keys], fitted.camera, clip)
    return file


def _mesh(head: Head, vertices: torch.Tensor) -> Mesh:
    normals = vertex_normals(vertices[None], head.dense_faces)[0]
    colours = np.array([COLOURS[name] for name in head.REGIONS], np.uint8)[head.regions.numpy()]
    return Mesh(vertices.numpy(), head.dense_faces.numpy(), normals.numpy(), colours)
