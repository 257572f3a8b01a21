"""Frames of a clip in which the landmarks are missing, or another face's: which ones they are, and what stands in."""

import numpy as np

from expportrait.points478 import OUTER_EYES

STEP = 0.5  # of the face's size: farthest that it moves from one frame to the next
GROWTH = 1.5  # factor on its size
TURN = np.radians(60)  # in the image plane
AWAY, DRIFT = 0.5, 0.1  # of the face's side: how far it may lie from where its track has it; more for each frame
PATIENCE = 5  # frames; over longer gaps a face may not have moved farther than over this


def same_face(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Which frames (T,) bool show the clip's face, from points (T,478,3) px and found (T,) bool.

    The longest run of frames without a jump in place, size or roll is the clip's face; from there outwards, frames that
    lie too far from the last good one are left out: glitches, and other people.
    """
    low, high = points[..., :2].min(1), points[..., :2].max(1)
    centre, size = (low + high) / 2, np.maximum((high - low).max(1), 1e-3)
    eyes = points[:, OUTER_EYES[1], :2] - points[:, OUTER_EYES[0], :2]
    roll = np.arctan2(eyes[:, 1], eyes[:, 0])

    def close(a: int, b: int) -> bool:
        turn = abs((roll[a] - roll[b] + np.pi) % (2 * np.pi) - np.pi)
        far = STEP * min(size[a], size[b]) * min(abs(a - b), PATIENCE)
        grown = max(size[a], size[b]) / min(size[a], size[b])
        return bool(np.linalg.norm(centre[a] - centre[b]) <= far and grown <= GROWTH and turn <= TURN)

    seen = np.zeros(len(found), bool)
    runs: list[list[int]] = []
    for t in np.flatnonzero(found):
        if runs and runs[-1][-1] == t - 1 and close(t - 1, t):
            runs[-1].append(t)
        else:
            runs.append([t])
    if not runs:
        return seen
    run = max(runs, key=len)
    seen[run] = True
    for ahead in (range(run[-1] + 1, len(found)), range(run[0] - 1, -1, -1)):
        last = run[-1] if ahead.step > 0 else run[0]
        for t in ahead:
            if found[t] and close(last, t):
                seen[t], last = True, t
    return seen


def places(track: np.ndarray, count: int) -> np.ndarray:
    """Where a face is in ``count`` frames, (count,5), from a track (k,5) of some of them: frame, x0 y0 x1 y1 px.

    The box goes straight from one to the next and stands still before the first and after the last; then how far the
    face may be off, in the box's larger side: the more, the farther the nearest frame of the track.
    """
    t, known = np.arange(count), track[:, 0]
    boxes = [np.interp(t, known, side) for side in track[:, 1:].T]
    after = np.searchsorted(known, t).clip(max=len(known) - 1)
    away = np.minimum(np.abs(known[after] - t), np.abs(known[np.maximum(after - 1, 0)] - t))
    return np.stack([*boxes, AWAY + DRIFT * away], 1)


def fill(points: np.ndarray, confidence: np.ndarray, seen: np.ndarray, max_gap: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (T,478,3) and confidence (T,478) with the frames that are not ``seen`` (T,) replaced.

    The points go straight from the last frame seen to the next; before the first and after the last they stand still.
    Confidence there: the neighbours' over 1 + distance to the nearest frame seen; 0 in gaps above ``max_gap`` frames.
    """
    known, t = np.flatnonzero(seen), np.flatnonzero(~seen)
    after = known[np.minimum(np.searchsorted(known, t), len(known) - 1)]
    before = known[np.maximum(np.searchsorted(known, t, side="right") - 1, 0)]
    outer_before, outer_after = np.where(before > t, -1, before), np.where(after < t, len(seen), after)
    gap = outer_after - outer_before - 1
    share = ((t - before) / np.maximum(after - before, 1)).clip(0, 1)[:, None]
    weight = np.where(gap > max_gap, 0, 1 / (1 + np.minimum(np.abs(t - before), np.abs(after - t))))[:, None]
    filled, sure = points.astype(np.float32), confidence.astype(np.float32)
    filled[t] = points[before] * (1 - share[..., None]) + points[after] * share[..., None]
    sure[t] = (confidence[before] * (1 - share) + confidence[after] * share) * weight
    return filled, sure
