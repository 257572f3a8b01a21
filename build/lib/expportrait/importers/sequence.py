"""Whether images that are numbered are the frames of a clip, or portraits: by how neighbours differ."""

from itertools import combinations
from pathlib import Path

import numpy as np

PAIRS = 8  # of neighbours that are looked at, spread over all
SIZE = 32  # px; images are compared as squares of this side
ALIKE = 4.0  # mean difference of two of these, of 255, up to which they show the same scene
# of the difference of any two: from here on neighbours differ as much as those. Six real clips at 25 frames a second:
# up to 0.5 (14 frames and more) and 0.7 (3 to 5 frames, all of them alike); in random order, and portraits: from 0.72
AS_ANY = 0.7


def is_sequence(files: list[Path]) -> bool:
    """Whether neighbours in the natural order of ``files`` are alike, or more so than others. False where the sizes
    differ; True where fewer than two neighbours can be read."""
    from expportrait.video.images import natural

    files = sorted(files, key=natural)
    first = sorted({int(n) for n in np.linspace(0, len(files) - 2, PAIRS)})
    images = {n: image for n in {*first, *(n + 1 for n in first)} if (image := _small(files[n])) is not None}
    if len({size for size, _ in images.values()}) > 1:
        return False
    near = [_difference(images, n, n + 1) for n in first if n in images and n + 1 in images]
    far = [_difference(images, a, b) for a, b in combinations(sorted(images), 2) if b > a + 1]
    if not near or np.median(near) <= ALIKE:
        return True
    return bool(far) and bool(np.median(near) < AS_ANY * np.median(far))


def _small(file: Path) -> tuple[tuple[int, int], np.ndarray] | None:
    """The image's size, and a small copy (SIZE,SIZE,3) f32; None where it cannot be read."""
    import cv2

    from expportrait.errors import ClipError
    from expportrait.video.images import read_image

    try:
        image = read_image(file)
    except ClipError:
        return None
    return image.shape[:2], cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)


def _difference(images: dict[int, tuple[tuple[int, int], np.ndarray]], a: int, b: int) -> float:
    return float(np.abs(images[a][1] - images[b][1]).mean())
