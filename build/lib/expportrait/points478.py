"""MediaPipe's 478 face landmarks: which point is where, and what a face's turn and height are by them.

The numbers are those of MediaPipe's face mesh, 468 points on the skin and five on each iris. Right and left are the
subject's.
"""

import numpy as np

POINTS, SKIN_POINTS = 478, 468
FOREHEAD, CHIN = 10, 152
EARS = (234, 454)  # points of the oval in front of the ears, right and left
OUTER_EYES, INNER_EYES = (33, 263), (133, 362)  # corners of the right and the left eye
NOSE, NOSE_TIP = 1, 4  # just below the tip, and the tip
MOUTH_CORNERS = (61, 291)  # right and left
TEMPLES = ((234, 93, 132, 33), (454, 323, 361, 263))  # outline and eye corner, right and left
RIGHT_IRIS, LEFT_IRIS = (468, 469, 470, 471, 472), (473, 474, 475, 476, 477)  # centre, then the ring
IRISES = RIGHT_IRIS + LEFT_IRIS

# Curves from corner to corner: of the eyes from the outer to the inner one, of the mouth from right to left.
RIGHT_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
RIGHT_LOWER_LID = (33, 7, 163, 144, 145, 153, 154, 155, 133)
LEFT_UPPER_LID = (263, 466, 388, 387, 386, 385, 384, 398, 362)
LEFT_LOWER_LID = (263, 249, 390, 373, 374, 380, 381, 382, 362)
UPPER_LIP_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_LIP_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
# Upper and lower edges of the brows, from the inner to the outer end.
RIGHT_BROW = ((107, 66, 105, 63, 70), (55, 65, 52, 53, 46))
LEFT_BROW = ((336, 296, 334, 293, 300), (285, 295, 282, 283, 276))


def loop(there: tuple[int, ...], back: tuple[int, ...]) -> tuple[int, ...]:
    """The closed loop of two curves with the same ends: ``there``, and ``back`` the other way round."""
    return there + back[-2:0:-1]


# Closed loops.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_EYELIDS = loop(RIGHT_LOWER_LID, RIGHT_UPPER_LID)
LEFT_EYELIDS = loop(LEFT_LOWER_LID, LEFT_UPPER_LID)
OUTER_LIPS = loop(LOWER_LIP_OUTER, UPPER_LIP_OUTER)
INNER_LIPS = loop(LOWER_LIP_INNER, UPPER_LIP_INNER)

EYELIDS, LIPS = RIGHT_EYELIDS + LEFT_EYELIDS, OUTER_LIPS + INNER_LIPS
BROWS = tuple(point for brow in (RIGHT_BROW, LEFT_BROW) for edge in brow for point in edge)
FEATURES = (RIGHT_EYELIDS, LEFT_EYELIDS, sum(RIGHT_BROW, ()), sum(LEFT_BROW, ()), OUTER_LIPS)  # what is no skin

# The landmark model flattens: a true turn of 15 degrees reads as 10 (the demo's clips, whose motion is known).
DEPTH = 1.5


def head_turn(points: np.ndarray) -> np.ndarray:
    """Yaw to the subject's left and pitch down, degrees, (T,2), from points (T,478,3) px. Rough: off by some degrees.

    Pitch is that of the line from forehead to chin, which is not 0 in everybody who looks straight ahead.
    """
    right, left = (points[:, list(side)].mean(1) for side in TEMPLES)
    down = points[:, CHIN] - points[:, FOREHEAD]
    turns = [np.arctan2(DEPTH * axis[:, 2], np.linalg.norm(axis[:, :2], axis=1)) for axis in (left - right, down)]
    return np.degrees(np.stack(turns, 1))


def head_roll(points: np.ndarray) -> np.ndarray:
    """Degrees by which faces (...,478,2+) px are rolled clockwise in the picture, -180 to 180, (...).

    From the eyes' line and the line from forehead to chin, of which the longer one counts more: the one shrinks as the
    head turns to the side, the other one as it nods.
    """
    right, left = OUTER_EYES
    across = points[..., left, :2] - points[..., right, :2]
    down = points[..., CHIN, :2] - points[..., FOREHEAD, :2]
    return np.degrees(np.arctan2(across[..., 1] - down[..., 0], across[..., 0] + down[..., 1]))


def face_height(points: np.ndarray) -> np.ndarray:
    """(T,) px, forehead to chin of points (T,478,3) px in three dimensions, so that a nod does not shorten it."""
    return np.linalg.norm(points[:, FOREHEAD] - points[:, CHIN], axis=-1)
