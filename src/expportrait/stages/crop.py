"""Decode a source, turn it upright, find its longest shot with a usable face, and cut one fixed square box around that
face."""

from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from expportrait.engine.stage import Clip
from expportrait.errors import ClipError
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.settings.config import Crop
from expportrait.store import StoreWriter, videocodec
from expportrait.video.framing import Box, cut_out, face_box, given_box, outside
from expportrait.video.quality import Looks, company
from expportrait.video.reader import FolderReader, VideoReader, open_source
from expportrait.video.shots import ShotFinder, rate
from expportrait.video.tracks import Track, link
from expportrait.video.turning import TURNS, Turned, turned, turned_box, upright, wanted_turn

LOOK_AT = 640  # px, longer side of the frames in which faces are looked for; the models reduce them further
WAITING = 8  # frames read ahead


class Looked(NamedTuple):
    """What a source shows. ``faces``: of every so many frames (n,6), px of the source turned by ``turn``."""

    times: np.ndarray  # s, of all frames
    shots: list[tuple[int, int]]
    faces: dict[int, np.ndarray]
    turn: int

    def which(self) -> str:
        """Of what a fault is told, as it stands behind the file's name."""
        told = [f"turned by {self.turn} degrees"] * bool(self.turn)
        told += [f"the longest of {len(self.shots)} shots"] * (len(self.shots) > 1)
        return f" ({', '.join(told)})" if told else ""


def load(settings: SimpleNamespace, device: str) -> LandmarkDetector:
    return LandmarkDetector()


def process(clip: Clip, out: StoreWriter) -> None:
    options, row = clip.settings.crop, clip.row
    plain = open_source(row.path, row.start, row.end, row.fps or options.folder_fps)
    looked = _look(clip, plain)
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
    if fault := _poor(figures, options):
        raise ClipError(f"{row.path}{looked.which()}: {fault}", quality=_seen(track) | figures)

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
        **_seen(track), **figures,
    )  # fmt: skip


def _look(clip: Clip, source: VideoReader | FolderReader) -> Looked:
    """One pass over the source; where that shows no usable face that is surely upright, another one in which faces are
    looked for in turned frames as well."""
    options, every = clip.settings.crop, clip.settings.crop.detect_every
    times, faces, finder = [], {}, ShotFinder(options.cut)
    looks: list[dict[int, np.ndarray]] = []

    def read() -> Iterator[tuple[float, np.ndarray]]:
        for time, frame in source.frames(LOOK_AT):
            finder.add(frame)
            yield time, frame

    def found(number: int, frame: np.ndarray) -> np.ndarray:
        rows = clip.tools.faces(frame)
        rows[:, :4] *= max(source.size(number)) / max(frame.shape[:2])
        return rows

    def looked_at() -> Iterator[None]:
        for number, (time, frame) in enumerate(clip.ahead(read(), WAITING)):
            if number % every == 0:
                faces[number] = found(number, frame)
            times.append(time)
            yield
        if _surely_upright(clip, Turned(source, 0), Looked(np.array(times), finder.shots(times), faces, 0)):
            return
        for number, (_, frame) in enumerate(clip.ahead(source.frames(LOOK_AT), WAITING)):
            if number % every == 0:
                looks.append({turn: found(number, turned(frame, turn)) if turn else faces[number] for turn in TURNS})
            yield

    for _ in clip.progress(clip.computed(looked_at()), desc="looking for faces"):
        pass
    turn = wanted_turn(looks)
    if turn:
        faces = {number: look[turn] for number, look in zip(faces, looks, strict=True)}
    return Looked(np.array(times), finder.shots(times), faces, turn)


def _surely_upright(clip: Clip, source: Turned, looked: Looked) -> bool:
    """Whether the face to be cropped is upright in the source as it is. False also where there is none."""
    tracks = _leading(clip, source, looked)
    return bool(tracks) and not _fault(tracks[0], len(looked.times), clip.settings.crop) and upright(tracks[0])


def _box(clip: Clip, source: Turned, track: Track) -> Box:
    """The square to be cut out for a track, px of the turned source."""
    options, image = clip.settings.crop, source.size(track.start)
    if clip.row.box:
        return given_box(source.place(clip.row.box, track.start), *image)
    return face_box(track.boxes, options.scale, options.lift, options.min_scale, *image)


def _leading(clip: Clip, source: Turned, looked: Looked) -> list[Track]:
    """Of each shot the most prominent face of the usable ones, if there is one, else of all; usable ones first, then
    longest first."""
    faces, count = looked.faces, len(looked.times)
    if clip.row.box:
        faces = {t: found[_inside(found, source.place(clip.row.box, t))] for t, found in faces.items()}

    def useless(track: Track) -> bool:
        return bool(_fault(track, count, clip.settings.crop))

    leading = [min(tracks, key=useless) for shot in looked.shots if (tracks := link(shot, faces))]
    return sorted(leading, key=lambda track: (useless(track), track.start - track.end))


def _usable(clip: Clip, source: Turned, looked: Looked) -> list[Track]:
    """The most prominent usable face of each shot, longest first; ClipError if there is none."""
    box, file, options, count = clip.row.box, clip.row.path, clip.settings.crop, len(looked.times)
    tracks = _leading(clip, source, looked)
    if not tracks:
        where = f" inside the box {' '.join(f'{v:g}' for v in box)}" if box else ""
        raise ClipError(f"no face{where} in {file}: {len(looked.faces)} of {count} frames were looked at",
                        quality={"face_coverage": 0.0})  # fmt: skip
    usable = [track for track in tracks if not _fault(track, count, options)]
    if usable:
        return usable
    damaged = "; the file is damaged or cut off" if source.plain.truncated else ""
    raise ClipError(f"{file}{looked.which()}: {_fault(tracks[0], count, options)}{damaged}",
                    quality=_seen(tracks[0]) | {"frames": tracks[0].end - tracks[0].start})  # fmt: skip


def _first_well_seen(clip: Clip, source: Turned, tracks: list[Track], faces: dict[int, np.ndarray]) -> Track:
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
