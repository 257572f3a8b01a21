"""A rasteriser that cannot be wrong for being clever: every pixel against every face, in float64."""

import numpy as np
import torch


def brute_force(pos: torch.Tensor, faces: torch.Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """pos (V, 4) clip space, faces (F, 3) -> ids (H, W), -1 where nothing is, row 0 at the bottom; doubtful (H, W)
    bool: pixels within 1e-5 of an edge (in barycentrics), or with two surfaces within 1e-6 in z/w, or on slivers."""
    height, width = size
    pos = pos.double().numpy()
    y, x = np.meshgrid((2 * np.arange(height) + 1) / height - 1, (2 * np.arange(width) + 1) / width - 1, indexing="ij")
    nearest, second = np.full(size, np.inf), np.full(size, np.inf)
    ids, doubtful = np.full(size, -1), np.zeros(size, bool)
    for number, face in enumerate(faces.tolist()):
        corners = pos[face]
        if (corners[:, 3] <= 0).any():
            continue
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = corners[:, :3] / corners[:, 3:]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        a = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
        b = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
        c = 1 - a - b
        margin = np.minimum(np.minimum(a, b), c)
        z = a * az + b * bz + c * cz
        thin = abs(area) * height * width / 4 < 1e-3 * max(height, width)
        doubtful |= (np.abs(margin) < 1e-5) | (thin & (margin > -1)) | ((margin >= 0) & (np.abs(np.abs(z) - 1) < 1e-6))
        hit = (margin >= 0) & (np.abs(z) <= 1)
        closer = hit & (z < nearest)
        second = np.where(closer, nearest, np.where(hit, np.minimum(second, z), second))
        nearest, ids = np.where(closer, z, nearest), np.where(closer, number, ids)
    close = np.isfinite(second)
    doubtful[close] |= second[close] - nearest[close] < 1e-6
    return ids, doubtful
