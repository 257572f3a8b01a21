"""A user's SMPL-X file without the file: the open head re-meshed to exactly its sizes, with its keys and nothing of
ours. 10,475 vertices (skin 9,383, each eyeball 546), 20,908 faces, 300 + 100 directions, dense pose correctives."""

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from expportrait.head.topology import clip, compact, components

VERTICES, FACES, SKIN, EYEBALL = 10475, 20908, 9383, 546
OURS = ("landmark_", "unit_", "vertex_part")


def user_arrays(exported: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``exported``: the open head as smplx_arrays writes it."""
    template, part = exported["v_template"], exported["vertex_part"]
    faces, rows = remesh(template, exported["f"].astype(np.int64), part)
    rng = np.random.default_rng(0)
    order, turn = rng.permutation(VERTICES), rng.permutation(FACES)
    rows, faces = rows[order], np.argsort(order)[faces[turn]]

    def carried(array: np.ndarray) -> np.ndarray:
        return (rows @ array.reshape(len(array), -1)).reshape(VERTICES, *array.shape[1:])

    directions = carried(exported["shapedirs"]).astype(np.float32)
    known = directions[:, :, np.flatnonzero(directions.any((0, 1)))].reshape(3 * VERTICES, -1)
    empty = ~directions.any((0, 1))  # the real file has no empty ones; mixtures of the others stay smooth
    directions[:, :, empty] = mixtures(known, empty.sum(), 0.1, rng)
    regressor = np.zeros((55, VERTICES))
    whole = np.diff(rows.indptr) == 1  # vertices of the open head that are still there
    regressor[:, whole] = exported["J_regressor"][:, rows.indices[rows.indptr[:-1][whole]]]
    lost = np.abs(regressor.sum(1) - 1) > 1e-3  # joints of the legs
    regressor[lost] = 1 / VERTICES
    centres = cKDTree((rows @ template)[faces].mean(1))
    lmk = {}
    for name in ("lmk", "dynamic_lmk"):
        corners = template[exported["f"][exported[f"{name}_faces_idx"]]]
        spots = (corners * exported[f"{name}_bary_coords"][..., None]).sum(-2)
        lmk |= {f"{name}_faces_idx": centres.query(spots)[1], f"{name}_bary_coords": np.full((*spots.shape,), 1 / 3)}
    arrays = {key: value for key, value in exported.items() if not key.startswith(OURS)} | lmk
    return arrays | {
        "v_template": rows @ template,
        "f": faces.astype(np.uint32),
        "shapedirs": directions,
        "posedirs": mixtures(known, 486, 0.03, rng),
        "weights": carried(exported["weights"]),
        "J_regressor": regressor,
        "vt": rng.random((11313, 2)),
        "ft": rng.integers(0, 11313, (FACES, 3)).astype(np.uint32),
        "hands_coeffsl": np.zeros((1554, 45)), "hands_coeffsr": np.zeros((1554, 45)),
        "joint2num": np.array({"Pelvis": 0, "Neck": 12}, dtype=object),  # the real file holds pickled tables, too
        "part2num": np.array({"Global": 0}, dtype=object),
    }  # fmt: skip


def mixtures(known: np.ndarray, count: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """Random combinations (N,3,count) of the smooth fields ``known`` (3N,C)."""
    mixed = known @ (size / np.sqrt(known.shape[1]) * rng.normal(size=(known.shape[1], count))).astype(np.float32)
    return mixed.reshape(-1, 3, count)


def remesh(template: np.ndarray, faces: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Faces (20908,3) and the matrix (10475,N): no teeth, no tongue, no legs; finer eyeballs."""
    faces = faces[part[faces[:, 0]] <= 1]
    skin = part == 0
    height = np.sort(template[skin, 1])[::-1][SKIN - 400]  # the cut adds vertices of its own
    inside = np.where(skin, template[:, 1] - height, 1.0)
    faces, rows = clip(faces, inside)
    faces, rows = compact(faces, rows)
    # ears over the rims of the cut, until the count of faces can come out
    spare = 2 * rows.shape[0] - len(faces) - (2 * VERTICES - FACES)
    assert spare >= 0, f"the cut's rim is {-spare} edges too short"
    faces = close_ears(faces, spare)
    for name, goal in ((0, SKIN), (1, EYEBALL), (2, EYEBALL)):  # part by part, biggest first
        while True:
            label = components(faces, rows.shape[0])
            sizes = np.bincount(label)
            chosen = label == np.argsort(-sizes, kind="stable")[name]
            missing = goal - chosen.sum()
            if missing == 0:
                break
            assert missing > 0
            faces, rows = insert_centres(faces, rows, template, chosen, missing)
    return faces, rows


def close_ears(faces: np.ndarray, count: int) -> np.ndarray:
    """Add ``count`` faces, each over two neighbouring edges of a rim, all around and then again."""
    while count:
        halves = {(a, b) for face in faces.tolist() for a, b in zip(face, face[1:] + face[:1], strict=True)}
        after = {b: a for a, b in halves if (b, a) not in halves}  # around the rim, as a face that closes it runs
        new: list[tuple[int, int, int]] = []
        used: set[int] = set()
        for a, b in sorted(after.items()):
            c = after[b]
            if len(new) < count and not {a, b, c} & used and not {(a, c), (c, a)} & halves:
                new.append((a, b, c))
                used |= {a, b, c}
        assert new, "no room for more faces"
        faces, count = np.concatenate([faces, np.array(new)]), count - len(new)
    return faces


def insert_centres(
    faces: np.ndarray, rows: sparse.csr_matrix, template: np.ndarray, chosen: np.ndarray, count: int
) -> tuple[np.ndarray, sparse.csr_matrix]:
    """A vertex in the middle of each of the ``count`` largest faces (or of all there are) of the ``chosen`` part."""
    corners = (rows @ template)[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area[~chosen[faces[:, 0]]] = -1
    split = np.argsort(-area, kind="stable")[: min(count, (area >= 0).sum())]
    n, (a, b, c) = rows.shape[0], faces[split].T
    new = n + np.arange(len(split))
    third = sparse.csr_matrix(
        (np.full(3 * len(split), 1 / 3), (np.repeat(new - n, 3), faces[split].ravel())), (len(split), n)
    )
    pieces = [np.delete(faces, split, axis=0), *(np.stack(t, 1) for t in ((a, b, new), (b, c, new), (c, a, new)))]
    return np.concatenate(pieces), sparse.vstack([rows, third @ rows]).tocsr()
