"""Faces of finished crops, recognised: a few frames a clip, kept a shard at a time, so that they are read once."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from expportrait.estimators.arcface import SIDE as FACE
from expportrait.estimators.landmarks.gaps import places
from expportrait.estimators.recognition import SIDE, WIDTH, Recogniser
from expportrait.files import replace_file
from expportrait.machine import machine_fault, writing
from expportrait.manifest.clips import Row
from expportrait.store import Store, StoreError

LOOKS = 6  # frames a clip


@dataclass
class Shard:
    """Faces of the clips of a shard that have a crop. ``frames`` (N, LOOKS): numbers of the frames looked at, -1 beyond
    a short clip's end; ``rows`` (N, LOOKS, 128) f16 of length 1, NaN where no face is found."""

    clips: list[str]
    keys: list[str]
    frames: np.ndarray
    rows: np.ndarray


class Reader(Recogniser):
    """Of a clip's crop, the faces in some of its frames."""

    @property
    def version(self) -> str:
        """Changes with whatever may change the rows."""
        return f"{self.about()['weights']} {LOOKS} {SIDE}"

    def look(self, crop: Store) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of frames spread over a clip, (LOOKS,), and its face's rows in them, as in ``Shard``. Raises
        StoreError where the store is damaged."""
        numbers, rows = np.full(LOOKS, -1), np.full((LOOKS, WIDTH), np.nan, np.float16)
        frames = crop.lazy("frames")
        chosen = spread(len(frames))
        numbers[: len(chosen)] = chosen
        at = places(crop["track"], len(frames))[chosen]
        rows[: len(chosen)] = self.embed([frames[t] for t in chosen.tolist()], at)
        return numbers, rows

    def picture(self, file: Path, frame: int | None = None) -> np.ndarray:
        """The face of a crop, as the network gets it, (112, 112, 3) u8: of a frame, or of the first one looked at, from
        the middle on, that has one; black where none has. Raises StoreError where the store is damaged."""
        crop = Store(file)
        frames = crop.lazy("frames")
        chosen = spread(len(frames)) if frame is None else np.array([frame])
        at = places(crop["track"], len(frames))
        for t in np.roll(chosen, -(len(chosen) // 2)).tolist():
            if (face := self.aligned(frames[t], at[t])) is not None:
                return face
        return np.zeros((FACE, FACE, 3), np.uint8)


def spread(count: int) -> np.ndarray:
    """Numbers of at most LOOKS frames of ``count``, the middles of equal parts."""
    return np.unique(((np.arange(LOOKS) + 0.5) / LOOKS * count).astype(int))


def read_shard(file: Path, rows: list[Row], crops: Path, reader: Reader) -> tuple[Shard, int, list[str]]:
    """The faces of the clips of a shard, what ``file`` has of them taken from there, and the file brought up to date.
    Also how many were looked at now, and what is wrong with the clips that cannot be read."""
    known = dict(_known(file, reader.version))
    names, keys, frames, found, new, faults = [], [], [], [], 0, []
    for row in rows:
        try:
            store = Store(crops / f"{row.clip}.zarr")
            key = store.attrs["key"]
            if known.get(row.clip, ("",))[0] == key:
                _, numbers, values = known[row.clip]
            else:
                numbers, values = reader.look(store)
                new += 1
        except (StoreError, KeyError) as error:
            if machine_fault(error):
                raise
            if (crops / f"{row.clip}.zarr").exists():
                faults.append(str(error) if isinstance(error, StoreError) else f"{row.clip}: its crop has no key")
            continue
        names.append(row.clip), keys.append(key), frames.append(numbers), found.append(values)
    shard = Shard(names, keys, np.reshape(frames, (-1, LOOKS)).astype(int),
                  np.reshape(found, (-1, LOOKS, WIDTH)).astype(np.float16))  # fmt: skip
    if new or len(known) != len(names):
        _write(file, shard, reader.version)
    return shard, new, faults


def _known(file: Path, version: str) -> Iterator[tuple[str, tuple[str, np.ndarray, np.ndarray]]]:
    """Clip -> key, frames, rows of a file of these networks; nothing where there is none."""
    try:
        with np.load(file, allow_pickle=False) as data:
            if str(data["networks"]) == version:
                lines = zip(data["clips"].tolist(), data["keys"].tolist(), data["frames"], data["rows"], strict=True)
                yield from ((clip, (key, frames, rows)) for clip, key, frames, rows in lines)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        if machine_fault(error):
            raise


def _write(file: Path, shard: Shard, version: str) -> None:
    packed = BytesIO()
    np.savez(packed, networks=version, clips=np.array(shard.clips, str), keys=np.array(shard.keys, str),
             frames=shard.frames, rows=shard.rows)  # fmt: skip
    with writing(file):
        replace_file(file, packed.getvalue())
