"""Who is who in the clips of many videos, as far as their faces tell."""

import numpy as np

from expportrait.people.compare import SAME, alike, groups


def persons(rows: list[list[np.ndarray | None]]) -> list[list[tuple[int, int] | None]]:
    """Of each video's clips, in their order, their faces' mean rows (D,) of length 1 -> the person of each: number of
    the first video that shows them, and number of the person there, counted in the order in which they come. None where
    no face is recognised.

    Within a video, clips are one person's whose rows have a mean cosine of ``SAME`` or more; then the persons of all
    videos are compared in the same way.
    """
    within: list[dict[int, list[int]]] = []  # of each video: person -> clips
    for of_video in rows:
        known = [n for n, row in enumerate(of_video) if row is not None]
        label = groups(np.array([of_video[n] for n in known]), SAME) if known else []
        found: dict[int, list[int]] = {}
        for n, group in zip(known, label, strict=True):
            found.setdefault(int(group), []).append(n)
        within.append(dict(enumerate(found.values())))
    everybody = [(video, person) for video, found in enumerate(within) for person in found]
    result: list[list[tuple[int, int] | None]] = [[None] * len(of_video) for of_video in rows]
    if not everybody:
        return result
    means = np.array([np.mean([rows[video][n] for n in within[video][person]], 0) for video, person in everybody])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    group = alike(means, np.arange(len(means)), SAME).group
    first = {int(g): everybody[int(np.flatnonzero(group == g)[0])] for g in np.unique(group)}
    for (video, person), g in zip(everybody, group, strict=True):
        for n in within[video][person]:
            result[video][n] = first[int(g)]
    return result
