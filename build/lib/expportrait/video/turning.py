"""Sources that lie on their side or upside down: which way up the faces are, and the source turned upright.

Turns are clockwise, in degrees: 0, 90, 180 or 270.
"""

from collections.abc import Iterator

import numpy as np

from expportrait.video.reader import FolderReader, VideoReader
from expportrait.video.tracks import Track

TURNS = (0, 90, 180, 270)
SCORE, ROLL = 4, 5  # columns of a face: the detector's score, 0..1; degrees by which it is rolled clockwise
MOST_ROLL = 60.0  # degrees; a face that is rolled further is not upright
# Upside-down faces are taken for upright ones, with every landmark wrong and the landmark model's probability at 1.
# Only the detector's score gives them away: medians of eight real faces .85 to .97 upright, .60 to .83 turned.
LEAST_SCORE = 0.84


def turned(picture: np.ndarray, degrees: int) -> np.ndarray:
    """A picture (H,W,...), turned clockwise."""
    return np.ascontiguousarray(np.rot90(picture, -degrees // 90)) if degrees % 360 else picture


def turned_box(box: tuple, degrees: int, height: int, width: int) -> tuple:
    """Where a box x0 y0 x1 y1 of a picture of ``height`` x ``width`` lies once the picture is turned."""
    for _ in range(degrees % 360 // 90):
        box = height - box[3], box[0], height - box[1], box[2]
        height, width = width, height
    return box


class Turned:
    """A source, ``plain``, whose frames are turned."""

    def __init__(self, source: VideoReader | FolderReader, degrees: int) -> None:
        self.plain, self.degrees = source, degrees

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of a frame, px, as the source's."""
        height, width = self.plain.size(number)
        return (width, height) if self.degrees % 180 else (height, width)

    def frames(self, longest: int | None = None) -> Iterator[tuple[float, np.ndarray]]:
        """As the source's."""
        for time, frame in self.plain.frames(longest):
            yield time, turned(frame, self.degrees)

    def place(self, box: tuple[float, float, float, float], number: int) -> tuple[float, float, float, float]:
        """Where a box x0 y0 x1 y1, px of the plain source, lies in the turned frame of that number."""
        return turned_box(box, self.degrees, *self.plain.size(number))


def upright(track: Track) -> bool:
    """Whether a track's faces are, most of them, surely upright."""
    faces = np.array(track.faces)
    return bool(np.median(np.abs(faces[:, ROLL])) <= MOST_ROLL and np.median(faces[:, SCORE]) >= LEAST_SCORE)


def wanted_turn(looks: list[dict[int, np.ndarray]]) -> int:
    """The turn that brings the faces upright in more than half of the looks that show one; 0 where there is none.

    ``looks``: what was found (n,6) in one frame, by how it was turned. A face is upright as the detector likes it best.
    """
    votes = dict.fromkeys(TURNS, 0)
    for found in looks:
        best = {turn: max((face[SCORE] for face in faces if abs(face[ROLL]) <= MOST_ROLL), default=0.0)
                for turn, faces in found.items()}  # fmt: skip
        if any(best.values()):
            votes[max(best, key=best.__getitem__)] += 1
    turn = max(votes, key=votes.__getitem__)
    return turn if votes[turn] > sum(votes.values()) / 2 else 0
