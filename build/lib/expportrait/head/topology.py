"""Mesh connectivity: the bust cut out of the body, midpoint subdivision. Every new vertex is a fixed combination of old
ones, so a topology is a sparse matrix, applied once to template, bases and weights alike."""

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from expportrait.head.layout import HEAD, JAW, LEFT_EYE, NECK, RIGHT_EYE, BodyModel

LEFT_SHOULDER, RIGHT_SHOULDER = 16, 17


def edges_of(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique edges (E,2), ids ascending, and each face's three edges (F,3): of its corners 01, 12, 20."""
    low, high = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1).T.astype(np.int64)
    n = faces.max(initial=0) + 1
    keys, inverse = np.unique(low * n + high, return_inverse=True)  # one number an edge: 10x faster than pairs
    return np.stack(np.divmod(keys, n), 1), inverse.reshape(-1, 3)


def faces_with(faces: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Ids (k,) of the faces that have these corners (k,3), in the faces' own order of corners."""
    n = faces.max() + 1
    order = np.argsort(faces @ [n * n, n, 1])
    at = np.searchsorted(faces @ [n * n, n, 1], corners @ [n * n, n, 1], sorter=order)
    return order[at]


def components(faces: np.ndarray, n: int) -> np.ndarray:
    """(n,) label of the connected part that a vertex belongs to."""
    edges, _ = edges_of(faces)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (n, n))
    return csgraph.connected_components(graph, directed=False)[1]


def subdivide(faces: np.ndarray, n: int, times: int = 1) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Midpoint subdivision: faces (4^times F,3) and the matrix (n_new, n), whose first n rows are the identity."""
    upsample = sparse.identity(n, format="csr")
    for _ in range(times):
        n = upsample.shape[0]
        edges, of_face = edges_of(faces)
        m = len(edges)
        halves = sparse.coo_matrix((np.full(2 * m, 0.5), (np.repeat(np.arange(m), 2), edges.ravel())), (m, n))
        (a, b, c), (ab, bc, ca) = faces.T, n + of_face.T
        faces = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        upsample = (sparse.vstack([sparse.identity(n), halves]) @ upsample).tocsr()
    return faces, upsample


def clip(faces: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Keep the part of a mesh where the vertex field ``inside`` (n,) interpolates to above 0, cutting the triangles
    that cross. Returns faces and the matrix (n_new, n), whose rows are kept vertices first, then those of the cut.

    Cuts keep 5 % of an edge away from its ends: no sliver triangles.
    """
    n = len(inside)
    edges, of_face = edges_of(faces)
    crossing = (inside[edges] > 0).sum(1) == 1
    cut_id = np.full(len(edges), -1)
    cut_id[crossing] = n + np.arange(crossing.sum())
    a, b = edges[crossing].T
    t = np.clip(inside[a] / (inside[a] - inside[b]), 0.05, 0.95)
    rows = np.arange(len(a))
    cut = sparse.coo_matrix((np.concatenate([1 - t, t]), (np.tile(rows, 2), np.concatenate([a, b]))), (len(a), n))

    count = (inside[faces] > 0).sum(1)
    pieces = [faces[count == 3]]
    for inner in (1, 2):
        corners, sides = faces[count == inner], of_face[count == inner]
        odd = (inside[corners] > 0) == (inner == 1)  # the corner that is alone on its side of the cut
        turn = (odd.argmax(1)[:, None] + np.arange(3)) % 3
        (p, q, r), (pq, _, rp) = (np.take_along_axis(x, turn, 1).T for x in (corners, sides))
        pq, rp = cut_id[pq], cut_id[rp]
        pieces += [np.stack([p, pq, rp], 1)] if inner == 1 else [np.stack([pq, q, r], 1), np.stack([pq, r, rp], 1)]
    return compact(np.concatenate(pieces), sparse.vstack([sparse.identity(n), cut]).tocsr())


def compact(faces: np.ndarray, matrix: sparse.csr_matrix) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Drop the rows that no face uses."""
    used, faces = np.unique(faces, return_inverse=True)
    return faces.reshape(-1, 3), matrix[used]


def bust(model: BodyModel) -> tuple[np.ndarray, sparse.csr_matrix]:
    """Head, neck and shoulders of a body: faces (F_c,3) and the matrix (n_c, N) over the body's vertices.

    The skin is cut along one smooth loop, a superellipse about the neck joint in units of the shoulder width w: 0.64 w
    to each side, 0.5 w down, above the armpits. Parts that hang on head, jaw or eyes (eyeballs, teeth, tongue) are
    kept whole.
    """
    joints = model.joint_regressor @ model.template
    width = np.linalg.norm(joints[LEFT_SHOULDER] - joints[RIGHT_SHOULDER])
    from_neck = (model.template - joints[NECK]) / width
    down = np.maximum(-from_neck[:, 1], 0)
    inside = 1 - ((np.abs(from_neck[:, 0]) / 0.64) ** 2.5 + (down / 0.5) ** 2.5) ** 0.4

    label = components(model.faces, len(model.template))
    skin = label == np.bincount(label).argmax()
    of_head = model.weights[:, [HEAD, JAW, LEFT_EYE, RIGHT_EYE]].sum(1)
    share = np.bincount(label, of_head) / np.bincount(label)
    inside = np.where(skin, inside, np.where(share[label] > 0.5, 1.0, -1.0))

    faces, matrix = clip(model.faces, inside)
    label = components(faces, matrix.shape[0])
    of_head = matrix @ (of_head > 0.5)
    loose = np.bincount(label, of_head) == 0  # pieces of arms that the box happens to hold
    return compact(faces[~loose[label[faces[:, 0]]]], matrix)
