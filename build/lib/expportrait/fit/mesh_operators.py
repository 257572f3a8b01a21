"""Sparse matrices of a mesh: adjacency, Laplacian, stretch."""

import warnings

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


def adjacency(faces: np.ndarray, vertices: int) -> sp.csr_matrix:
    """0/1 vertex adjacency of a mesh, (vertices, vertices)."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    matrix = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(vertices, vertices))
    matrix.data[:] = 1.0
    return matrix


def laplacian(faces: np.ndarray, vertices: int) -> sp.csr_matrix:
    """Uniform random-walk Laplacian I - D^-1 A of a mesh, (vertices, vertices)."""
    matrix = adjacency(faces, vertices)
    degree = np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)
    return sp.identity(vertices, format="csr") - sp.diags(1 / degree) @ matrix


def strain_matrix(faces: np.ndarray, vertices: np.ndarray, weight: np.ndarray | None = None) -> sp.csr_matrix:
    """K with x^T K x = sum over edges of |x_i - x_j|^2 / |e_ij|^2, the squared stretch of an offset field. (n, n).

    ``weight`` (n,): of the edges at a vertex, averaged over their two ends."""
    edges = adjacency(faces, len(vertices))
    i, j = edges.nonzero()
    stiffness = 1 / np.maximum(((vertices[i] - vertices[j]) ** 2).sum(1), 1e-8)
    if weight is not None:
        stiffness *= (weight[i] + weight[j]) / 2
    weights = sp.csr_matrix((stiffness, (i, j)), edges.shape)
    return sp.diags(np.asarray(weights.sum(1)).ravel()) - weights


def to_torch(matrix: sp.spmatrix) -> Tensor:
    """The matrix as a float32 CSR tensor."""
    csr = matrix.tocsr().astype(np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")  # beta, but it is the fast one
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr.astype(np.int64)),
            torch.from_numpy(csr.indices.astype(np.int64)),
            torch.from_numpy(csr.data),
            size=csr.shape,
            check_invariants=False,
        )
