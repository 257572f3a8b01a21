"""The noise floor: frames that were encoded again as a film, against themselves. A difference below it is none."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from expportrait.files import in_temporary_folder
from expportrait.video.reader import open_source
from expportrait.video.write import write_mp4

CRF, FPS = 23, 25.0  # x264's own quality, 0 to 51, where none is asked for


class Again:
    """The frames of a film, decoded anew each time that they are gone through: (height, width, 3) u8 RGB."""

    def __init__(self, file: Path, height: int, width: int):
        self._file, self._height, self._width = file, height, width

    def __iter__(self) -> Iterator[np.ndarray]:
        return (frame[: self._height, : self._width] for _, frame in open_source(self._file).frames())


@contextmanager
def encoded_again(frames: Iterable[np.ndarray], crf: int = CRF) -> Iterator[Again]:
    """``frames`` (H, W, 3) u8 RGB, one at least, as H.264 gives them back: as many, of the same size. They lie in the
    temporary folder for as long as the block lasts. Raises MachineFault where nothing can be written there."""
    with in_temporary_folder():
        folder = tempfile.TemporaryDirectory(prefix="expportrait-")
    with folder:
        file, shape = Path(folder.name) / "again.mp4", [0, 0]

        def seen() -> Iterator[np.ndarray]:
            for frame in frames:
                shape[:] = frame.shape[:2]
                yield frame

        write_mp4(file, seen(), FPS, crf, repeatable=True)
        yield Again(file, *shape)
