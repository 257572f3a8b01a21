"""Decode a source, turn it upright, find its longest shot with a usable face, and cut one fixed square box around that
face."""

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.estimators.yunet import YuNet
from expportrait.settings.config import Crop
from expportrait.stages.looking import Looked, fault, leading, look
from expportrait.store import StoreWriter, videocodec
from expportrait.video.framing import Box, cut_out, face_box, given_box, outside
from expportrait.video.quality import Looks, company
from expportrait.video.reader import open_source
from expportrait.video.shots import rate
from expportrait.video.tracks import Track
from expportrait.video.turning import Turned, turned_box

if TYPE_CHECKING:  # it loads torch
    from expportrait.estimators.recognition import Recogniser

WAITING = 8  # frames read ahead


class Tools:
    """MediaPipe's face detectors and landmark model; the other networks are loaded where they are needed."""

    def __init__(self) -> None:
        self.detector = LandmarkDetector()

    @cached_property
    def recogniser(self) -> "Recogniser":
        """Whose face it is."""
        from expportrait.estimators.recognition import Recogniser  # loads torch

        return Recogniser()

    @cached_property
    def third(self) -> YuNet:
        """A detector for faces that MediaPipe's two miss."""
        return YuNet()


def load(settings: SimpleNamespace, device: str) -> Tools:
    return Tools()


def process(clip: Clip, out: StoreWriter) -> None:
    options, row = clip.settings.crop, clip.row
    plain = open_source(row.path, row.start, row.end, row.fps or options.folder_fps)
    looked = look(clip, plain)
    if not len(looked.times):
        raise ClipError(f"{row.path} has no frames between {row.start or 0:g} s and "
                        f"{'its end' if row.end is None else f'{row.end:g} s'}; check start and end")  # fmt: skip
    source = Turned(plain, looked.turn)
    usable = _usable(clip, source, looked)
    track = usable[0] if len(usable) == 1 else _first_well_seen(clip, source, usable, looked.faces)

    box, image = _box(clip, source, track), source.size(track.start)
    count, scale = track.end - track.start, options.size / (box[2] - box[0])
    frames = out.stream("frames", count, (options.size, options.size, 3), np.uint8, videocodec.COLOURS, color="RGB")
    looks = Looks(track)

    def cut() -> Iterator[np.ndarray]:
        for number, (_, frame) in enumerate(islice(source.frames(), track.start, track.end), track.start):
            looks.add(number, frame)
            yield cut_out(frame, box, options.size)

    for picture in clip.progress(clip.ahead(cut(), WAITING), total=count, desc="cropping"):
        frames.append(picture[None])
    figures = looks.figures() | company(track, looked.faces, box)
    if why := _poor(figures, options):
        raise ClipError(f"{row.path}{looked.which()}: {why}", quality=_seen(track) | figures)

    times = looked.times[track.start : track.end]
    out.array("timestamps", times, unit="s")
    places = (track.boxes - [*box[:2], *box[:2]]) * scale
    out.array("track", np.column_stack([np.array(track.frames) - track.start, places]),
              columns="frame, x0 y0 x1 y1 px: where the face was found")  # fmt: skip
    out.attrs(
        source=row.source, source_size=list(plain.size(track.start)[::-1]), truncated=plain.truncated,
        fps=rate(times) if count > 1 else plain.fps,
        box=list(turned_box(box, -looked.turn, *image)), box_unit="px of the source before it is turned, x0 y0 x1 y1",
        rotated=looked.turn, rotated_unit="degrees clockwise", scale=scale,
        padding="edge", padded=[round(side * scale) for side in outside(box, *image)],  # left, top, right, bottom
        shots=[list(shot) for shot in looked.shots], shot=[track.start, track.end],  # frames between start and end
        **_seen(track), **figures, **looked.asked(track),
    )  # fmt: skip


def _box(clip: Clip, source: Turned, track: Track) -> Box:
    """The square to be cut out for a track, px of the turned source."""
    options, image = clip.settings.crop, source.size(track.start)
    if clip.row.box:
        return given_box(source.place(clip.row.box, track.start), *image)
    return face_box(track.boxes, options.scale, options.lift, options.min_scale, *image)


def _usable(clip: Clip, source: Turned, looked: Looked) -> list[Track]:
    """The most prominent usable face of each shot, longest first; ClipError if there is none."""
    box, file, options, count = clip.row.box, clip.row.path, clip.settings.crop, len(looked.times)
    tracks = leading(looked.tracks, count, options)
    if not tracks:
        where = f" inside the box {' '.join(f'{v:g}' for v in box)}" if box else ""
        where += f" that is first seen at {' '.join(f'{v:g}' for v in clip.row.face)}" if clip.row.face else ""
        raise ClipError(f"no face{where} in {file}: {len(looked.faces)} of {count} frames were looked at",
                        quality={"face_coverage": 0.0})  # fmt: skip
    usable = [track for track in tracks if not fault(track, count, options)]
    if usable:
        return usable
    damaged = "; the file is damaged or cut off" if source.plain.truncated else ""
    raise ClipError(f"{file}{looked.which()}: {fault(tracks[0], count, options)}{damaged}",
                    quality=_seen(tracks[0]) | {"frames": tracks[0].end - tracks[0].start})  # fmt: skip


def _first_well_seen(clip: Clip, source: Turned, tracks: list[Track], faces: dict[int, np.ndarray]) -> Track:
    """The first track that is neither blurred nor dark, after one more pass over the source; the first if all are."""
    looks = [Looks(track) for track in tracks]
    for number, (_, frame) in enumerate(clip.progress(source.frames(), desc="looking at the shots")):
        for one in looks:
            one.add(number, frame)
    for track, one in zip(tracks, looks, strict=True):
        if not _poor(one.figures() | company(track, faces, _box(clip, source, track)), clip.settings.crop):
            return track
    return tracks[0]


def _seen(track: Track) -> dict[str, float]:
    return {"face": track.size, "face_coverage": track.coverage}


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
