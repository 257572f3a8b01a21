"""What is handed over of a clip, part by part: which store it comes from, and how it becomes a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expportrait.export import films
from expportrait.store import Lazy, Store, decode_normals
from expportrait.video.rates import Clock
from expportrait.video.write import write_mp4


@dataclass(frozen=True)
class Making:
    """What parts are made of and with. ``stores``: by stage. ``times``: s, of the clip's frames. ``crf``: of the films
    that are encoded."""

    stores: Mapping[str, Store]
    folder: Path
    fps: float
    times: Sequence[float]
    crf: int

    @property
    def clock(self) -> Clock:
        return Clock(self.fps, self.times)


Make = Callable[["Part", Making], str]


@dataclass(frozen=True)
class Part:
    """``array``: of the store of ``stage``; empty where the part is several arrays. ``about``: what it is, for whoever
    reads the data card. ``make`` writes its file into ``Making.folder`` and returns the file's name."""

    name: str
    stage: str
    array: str
    about: str
    make: Make

    def of(self, making: Making) -> Lazy:
        return making.stores[self.stage].lazy(self.array)


def _colours(part: Part, making: Making) -> str:
    return _film(part, making, lambda frame: frame)


def _normals(part: Part, making: Making) -> str:
    from expportrait.render.picture import normals_to_rgb  # loads torch, which nothing else here needs

    return _film(part, making, lambda codes: normals_to_rgb(decode_normals(codes), background=0))


def _film(part: Part, making: Making, colours: Callable[[np.ndarray], np.ndarray]) -> str:
    """H.264 as every reader takes it, 4:2:0 in BT.709; a clip of one frame is a PNG, as trainers have images."""
    array = part.of(making)
    if len(array) == 1:
        return _png(making.folder / f"{part.name}.png", colours(array[0]))
    path = making.folder / f"{part.name}.mp4"
    frames = map(colours, films.blocks(array))
    write_mp4(path, frames, making.fps, making.crf, repeatable=True, times=making.times)
    return path.name


def _map(part: Part, making: Making) -> str:
    array = part.of(making)
    path = making.folder / f"{part.name}.mp4"
    if films.copied(array, path, making.clock):
        return path.name
    path = path.with_suffix(".mkv")
    films.exact(films.blocks(array), path, making.clock)
    return path.name


def _reference(part: Part, making: Making) -> str:
    """The frame whose landmarks are the surest, the first of several."""
    chosen = 0
    if "landmarks" in making.stores:
        chosen = int(making.stores["landmarks"]["confidence"].astype(np.float64).mean(1).argmax())
    return _png(making.folder / f"{part.name}.png", part.of(making)[chosen])


def _png(path: Path, image: np.ndarray) -> str:
    _, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    path.write_bytes(data.tobytes())
    return path.name


def _arrays(part: Part, making: Making) -> str:
    """All arrays of the store but those of frames' size and the fit's losses, as they are; its numbers beside them."""
    store, path = making.stores[part.stage], making.folder / f"{part.name}.npz"
    names = [name for name in store.names() if name not in ("loss", "reference_images")]
    numbers = {name: store.attrs[name] for name in ("focal", "size", "starts", "references") if name in store.attrs}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: store[name] for name in names}, **numbers)
    return path.name


_NORMALS = "as colours, (n + 1) / 2 of x to the right, y up, z to the viewer; background black"
# in the order in which they are written; docs/export.md has them as a table
PARTS = {part.name: part for part in (
    Part("frames", "crop", "frames", "the cropped frames", _colours),
    Part("reference", "crop", "frames", "the frame whose landmarks are the surest", _reference),
    Part("control", "control", "normals", f"normals of the fitted head, {_NORMALS}", _normals),
    Part("coverage", "control", "coverage", "255 where the fitted head is", _map),
    Part("head_depth", "control", "depth", "depth of the fitted head, m, half floats' bits; 0 outside", _map),
    Part("region", "control", "region", "regions of the fitted head, by number", _map),
    Part("eyes", "control", "eyes", "255 on the eyeballs", _map),
    Part("normals", "geometry", "normals", f"estimated normals, {_NORMALS}", _normals),
    Part("depth", "geometry", "depth", "estimated depth or disparity, up to scale and shift, half floats' bits", _map),
    Part("mask", "geometry", "mask", "255: head and shoulders", _map),
    Part("confidence", "geometry", "confidence", "trust in the estimates, an order", _map),
    Part("appearance", "appearance", "appearance", "the clip's own portrait moved by its fitted head", _colours),
    Part("seen", "appearance", "seen", "255 where the portrait shows it, 0 where it is a guess", _map),
    Part("landmarks", "landmarks", "", "478 points, px; confidence; which frames are interpolated", _arrays),
    Part("head", "proxy", "", "shape, expression, pose, offset fields, camera, figures of each frame", _arrays),
    Part("latents", "latents", "", "latents of windows and reference portraits, their first frames", _arrays),
)}  # fmt: skip


def there(part: Part, stores: Mapping[str, Store]) -> bool:
    """Whether the store has it: some maps are made only where settings ask for them."""
    return part.stage in stores and (not part.array or part.array in stores[part.stage])
