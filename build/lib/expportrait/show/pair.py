"""A pair's film: what was made of it, panel beside panel and frame by frame, from its stores."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from expportrait.engine.record import state
from expportrait.errors import UserError
from expportrait.manifest.clips import Row
from expportrait.progress import progress
from expportrait.render.picture import normals_to_rgb
from expportrait.show.panels import grid, labelled, marked, resize, save
from expportrait.store import Store, StoreError, decode_normals
from expportrait.store.frames import Frames
from expportrait.video.mark import Mark, moved
from expportrait.video.sound import Sound
from expportrait.video.write import write_mp4

STAGES = ("drive", "appearance", "reenact")
SIZE, STRIP, KEYS = 384, 192, 12  # px of a panel in the film, in the strip; frames from key frame to key frame


class PairFilm:
    """A pair's frames as panels: reference, driver, control map; of the stage ``appearance`` the moved portrait, and
    the same with what the reference never showed in magenta; of ``reenact`` the generated frame.

    Stores are read a few chunks at a time. Raises StoreError where one is missing or damaged.
    """

    def __init__(self, pair: Row, results: Path, made: Collection[str]):
        """``made``: the pair's stages that are done, ``drive`` among them."""
        crops = {name: Store(results / "crop" / f"{pair.extra[name]}.zarr") for name in ("target", "driver")}
        self.stores = {name: Store(results / name / f"{pair.clip}.zarr") for name in STAGES if name in made}
        drive = self.stores["drive"]
        reference = crops["target"].lazy("frames")[drive.attrs["reference"]]

        def read(store: Store, name: str) -> Frames:
            return Frames(store, name, kept=0)

        driver, normals, coverage = read(crops["driver"], "frames"), read(drive, "normals"), read(drive, "coverage")
        self.fps = float(crops["driver"].attrs.get("fps") or 25)
        self.pair, self.crop = pair, crops["driver"]
        self.panels: dict[str, Callable[[int, int], np.ndarray]] = {  # of a frame, at a size in px
            "reference": lambda _, size: resize(reference, size),
            "driver": lambda t, size: resize(driver[t], size),
            "control map": lambda t, size: resize(normals_to_rgb(decode_normals(normals[t]), coverage[t] / 255), size),
        }
        lengths = [len(driver), len(normals)]
        if "appearance" in self.stores:
            moved, seen = (read(self.stores["appearance"], name) for name in ("appearance", "seen"))
            self.panels |= {
                "appearance": lambda t, size: resize(moved[t], size),
                "unseen": lambda t, size: marked(resize(moved[t], size), resize(seen[t], size)),
            }
            lengths.append(len(moved))
        if "reenact" in self.stores:
            generated = read(self.stores["reenact"], "frames")
            self.panels["generated"] = lambda t, size: resize(generated[t], size)
            lengths.append(len(generated))
        self.frames = min(lengths)

    @property
    def mark(self) -> Mark:
        """What a film of these panels says of itself."""
        return moved(*(self.pair.extra[name] for name in ("target", "driver")), "reenact" in self.stores, alone=False)

    def sound(self) -> Sound:
        """What is heard in the driver's source."""
        return Sound.of(self.pair.path, self.crop, self.frames)

    def at(self, t: int, size: int) -> list[np.ndarray]:
        """The panels of frame ``t``, (size, size, 3) u8 RGB each."""
        return [panel(t, size) for panel in self.panels.values()]


def show_pair(pair: Row, results: Path, out: Path, strip: int = 6, size: int = SIZE) -> list[Path]:
    """Write ``out/PAIR.mp4``, the film, and ``out/PAIR.jpg``, ``strip`` of its frames from left to right with a row a
    panel. Returns both. Raises UserError where the pair has no control maps yet, or a store is damaged."""
    found = {stage: state(results / stage, pair.clip) for stage in STAGES}
    if found["drive"].status != "ok":
        raise UserError(f"{results} has no drive of {pair.clip}: {found['drive'].why}")
    try:
        film = PairFilm(pair, results, [stage for stage in STAGES if found[stage].status == "ok"])
        out.mkdir(parents=True, exist_ok=True)
        count = film.frames
        pictures = (grid(film.at(t, size)) for t in progress(range(count), count, f"show {pair.clip}"))
        write_mp4(out / f"{pair.clip}.mp4", pictures, film.fps, keys=KEYS, times=film.crop["timestamps"][:count],
                  sound=film.sound(), mark=film.mark)  # fmt: skip
        save(_strip(film, strip), out / f"{pair.clip}.jpg")
    except StoreError as error:
        raise UserError(f"{error}; run its stage again") from None
    return [out / f"{pair.clip}.mp4", out / f"{pair.clip}.jpg"]


def _strip(film: PairFilm, count: int) -> np.ndarray:
    """Frames spread over the film as columns, a row a panel; the reference, which does not move, stands once, first."""
    picked = np.linspace(0, film.frames - 1, min(count, film.frames)).round().astype(int)
    columns = [film.at(int(t), STRIP) for t in picked]
    names = list(film.panels)
    rows = [np.hstack([labelled(columns[0][k], names[k]), *(column[k] for column in columns[1:])])
            for k in range(1, len(names))]  # fmt: skip
    reference = np.full((len(rows) * STRIP, STRIP, 3), 255, np.uint8)
    reference[:STRIP] = labelled(columns[0][0], names[0])
    return np.hstack([reference, np.vstack(rows)])
