"""Decode a source, find its longest shot with a usable face, and cut one fixed square box around that face."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np

from expportrait import videocodec
from expportrait.config import Crop
from expportrait.errors import ClipError
from expportrait.estimators.mediapipe import LandmarkDetector
from expportrait.overlap import ahead
from expportrait.stage import Clip
from expportrait.stages.contracts import contract
from expportrait.store import StoreWriter
from expportrait.video.framing import Box, Track, cut_out, face_box, given_box, link, outside
from expportrait.video.quality import Looks, company
from expportrait.video.reader import FolderReader, VideoReader, open_source
from expportrait.video.shots import ShotFinder, rate

LOOK_AT = 640  # px, longer side of the frames in which faces are looked for; the models reduce them further
WAITING = 8  # frames read ahead


def load(settings: SimpleNamespace, device: str) -> LandmarkDetector:
    return LandmarkDetector()


def process(clip: Clip, out: StoreWriter) -> None:
    options, row = clip.settings.crop, clip.row
    source = open_source(row.path, row.start, row.end, row.fps or options.folder_fps)
    times, shots, faces = _survey(clip, source)
    if not len(times):
        raise ClipError(f"{row.path} has no frames between {row.start or 0:g} s and "
                        f"{'its end' if row.end is None else f'{row.end:g} s'}; check start and end")  # fmt: skip
    usable = _usable(clip, source, len(times), shots, faces)
    track = usable[0] if len(usable) == 1 else _first_well_seen(clip, source, usable, faces)

    box, image = _box(clip, source, track), source.size(track.start)
    count = track.end - track.start
    frames = out.stream("frames", count, (options.size, options.size, 3), np.uint8, videocodec.COLOURS, color="RGB")
    looks = Looks(track)

    def cut() -> Iterator[np.ndarray]:
        for number, (_, frame) in enumerate(islice(source.frames(), track.start, track.end), track.start):
            looks.add(number, frame)
            yield cut_out(frame, box, options.size)

    for picture in clip.progress(ahead(cut(), clip.overlap, WAITING), total=count, desc="cropping"):
        frames.append(picture[None])
    figures = looks.figures() | company(track, faces, box)
    if fault := _poor(figures, options):
        raise ClipError(f"{row.path}{_which(shots)}: {fault}", quality=_seen(track) | figures)

    times = times[track.start : track.end]
    scale = options.size / (box[2] - box[0])
    out.array("timestamps", times, unit="s")
    out.attrs(
        source=row.source, source_size=[image[1], image[0]], truncated=source.truncated,
        fps=rate(times) if count > 1 else source.fps,
        box=list(box), box_unit="px of the source, x0 y0 x1 y1", scale=scale,
        padding="edge", padded=[round(side * scale) for side in outside(box, *image)],  # left, top, right, bottom
        shots=[list(shot) for shot in shots], shot=[track.start, track.end],  # frames between start and end of the row
        **_seen(track), **figures,
    )  # fmt: skip


def _survey(
    clip: Clip, source: VideoReader | FolderReader
) -> tuple[np.ndarray, list[tuple[int, int]], dict[int, np.ndarray]]:
    """One pass over the source: times (n,), shots, and the faces (k,5) px of every so many frames."""
    options = clip.settings.crop
    times, faces, finder = [], {}, ShotFinder(options.cut)

    def read() -> Iterator[tuple[float, np.ndarray]]:
        for time, frame in source.frames(LOOK_AT):
            finder.add(frame)
            yield time, frame

    def looked_at() -> Iterator[tuple[float, np.ndarray | None]]:
        for number, (time, frame) in enumerate(ahead(read(), clip.overlap, WAITING)):
            found = clip.tools.faces(frame) if number % options.detect_every == 0 else None
            if found is not None:
                found[:, :4] *= max(source.size(number)) / max(frame.shape[:2])
            yield time, found

    for time, found in clip.progress(clip.computed(looked_at()), desc="looking for faces"):
        if found is not None:
            faces[len(times)] = found
        times.append(time)
    return np.array(times), finder.shots(times), faces


def _box(clip: Clip, source: VideoReader | FolderReader, track: Track) -> Box:
    """The square to be cut out for a track."""
    options, image = clip.settings.crop, source.size(track.start)
    if clip.row.box:
        return given_box(clip.row.box, *image)
    return face_box(np.array(track.boxes), options.scale, options.lift, options.min_scale, *image)


def _usable(
    clip: Clip, source: VideoReader | FolderReader, count: int, shots: list[tuple[int, int]],
    faces: dict[int, np.ndarray],
) -> list[Track]:  # fmt: skip
    """The most prominent face of each shot, and of these the usable ones, longest first; ClipError if none is."""
    box, file = clip.row.box, clip.row.path
    if box:
        faces = {t: found[_inside(found, box)] for t, found in faces.items()}
    tracks = [tracks[0] for shot in shots if (tracks := link(shot, faces))]
    if not tracks:
        where = f" inside the box {' '.join(f'{v:g}' for v in box)}" if box else ""
        raise ClipError(f"no face{where} in {file}: {len(faces)} of {count} frames were looked at",
                        quality={"face_coverage": 0.0})  # fmt: skip
    tracks.sort(key=lambda track: track.start - track.end)
    usable = [track for track in tracks if not _fault(track, count, clip.settings.crop)]
    if usable:
        return usable
    damaged = "; the file is damaged or cut off" if source.truncated else ""
    raise ClipError(f"{file}{_which(shots)}: {_fault(tracks[0], count, clip.settings.crop)}{damaged}",
                    quality=_seen(tracks[0]) | {"frames": tracks[0].end - tracks[0].start})  # fmt: skip


def _first_well_seen(
    clip: Clip, source: VideoReader | FolderReader, tracks: list[Track], faces: dict[int, np.ndarray]
) -> Track:
    """The first track that is neither blurred nor dark, after one more pass over the source; the first if all are."""
    looks = [Looks(track) for track in tracks]
    for number, (_, frame) in enumerate(clip.progress(source.frames(), desc="looking at the shots")):
        for look in looks:
            look.add(number, frame)
    for track, look in zip(tracks, looks, strict=True):
        if not _poor(look.figures() | company(track, faces, _box(clip, source, track)), clip.settings.crop):
            return track
    return tracks[0]


def _seen(track: Track) -> dict[str, float]:
    return {"face": track.size, "face_coverage": track.coverage}


def _which(shots: list[tuple[int, int]]) -> str:
    return f" (the longest of {len(shots)} shots)" if len(shots) > 1 else ""


def _inside(faces: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Which of the faces (n,5) have their centre inside the box."""
    centre = (faces[:, :2] + faces[:, 2:4]) / 2
    return ((centre >= box[:2]) & (centre <= box[2:])).all(1)


def _fault(track: Track, count: int, options: Crop) -> str:
    """Why the face cannot be used, with value and threshold; empty where it can."""
    if track.size < options.min_face:
        return f"the face is too small, {track.size:.0f} px (crop.min_face: {options.min_face:g})"
    if track.coverage < options.min_coverage:
        return (f"the face is found in only {track.coverage:.0%} of the frames looked at "
                f"(crop.min_coverage: {options.min_coverage:.0%})")  # fmt: skip
    frames = track.end - track.start
    if frames < options.min_frames and count > 1:
        return f"the face is there for only {frames} frames (crop.min_frames: {options.min_frames})"
    return ""


def _poor(figures: dict[str, float], options: Crop) -> str:
    """Why the clip is of no use though its face was found, with value and threshold; empty where it is of use."""
    if (sharpness := figures.get("sharpness", options.min_sharpness)) < options.min_sharpness:
        return f"the face is blurred, sharpness {sharpness:.1f} (crop.min_sharpness: {options.min_sharpness:g})"
    brightness = figures.get("brightness", options.min_brightness)
    if brightness < options.min_brightness:
        return f"the face is too dark, {brightness:.0f} of 255 (crop.min_brightness: {options.min_brightness:g})"
    if brightness > options.max_brightness:
        return f"the face is too bright, {brightness:.0f} of 255 (crop.max_brightness: {options.max_brightness:g})"
    if figures["others"] > options.max_others:
        return (f"{figures['others']:.0%} of the frames looked at show another face in the box "
                f"(crop.max_others: {options.max_others:.0%})")  # fmt: skip
    return ""


STAGE = replace(contract("crop"), version=2, process=process, load=load, overlaps=True)
