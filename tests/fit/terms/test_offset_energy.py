import numpy as np
import torch

from expportrait.fit.mesh_operators import laplacian, strain_matrix
from expportrait.fit.terms.laplacian import Laplacian
from expportrait.fit.terms.magnitude import Magnitude
from expportrait.fit.terms.offsets import OffsetEnergy, OffsetWeights
from expportrait.fit.terms.strain import Strain


def grid(n: int) -> tuple[np.ndarray, int]:
    cells = [
        (r * n + c, r * n + c + 1, (r + 1) * n + c, (r + 1) * n + c + 1) for r in range(n - 1) for c in range(n - 1)
    ]
    return np.array([t for a, b, c, d in cells for t in ((a, b, c), (b, d, c))]), n * n


def test_laplacian_is_zero_on_constants_and_planes() -> None:
    faces, n = grid(8)
    matrix = laplacian(faces, n)
    assert np.allclose(matrix @ np.ones(n), 0)
    rows, columns = np.divmod(np.arange(n), 8)
    interior = (rows > 0) & (rows < 7) & (columns > 0) & (columns < 7)
    assert np.allclose((matrix @ (2.0 * rows - columns))[interior], 0)


def test_offset_energy_and_gradient_match_the_formula() -> None:
    faces, n = grid(6)
    matrix = laplacian(faces, n)
    vertices = np.random.default_rng(0).normal(size=(n, 3))
    terms = {
        "length": Magnitude(torch.ones(n)),
        "stretch": Strain(strain_matrix(faces, vertices)),
        "smoothness": Laplacian(matrix),
    }
    weights = OffsetWeights({"length": 0.3, "smoothness": 0.7, "stretch": 0.5})
    offset = (1e-3 * torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    value = sum(OffsetEnergy(terms, matrix, "cpu").terms(offset, None, weights).values())
    dense = torch.from_numpy(matrix.toarray()).float()
    millimetres = 1000 * offset
    curved = torch.einsum("ij,jbk->ibk", dense, millimetres)
    i, j = np.array(sorted({tuple(sorted(e)) for f in faces for e in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))})).T
    lengths = torch.from_numpy(((vertices[i] - vertices[j]) ** 2).sum(1)).float()
    stretch = (offset[i] - offset[j]).square().sum(-1) / lengths[:, None]
    expected = 0.3 * millimetres.square().sum(-1).mean() + 0.7 * curved.square().sum(-1).mean()
    expected = expected + 0.5 * stretch.sum() / (n * 2)
    assert torch.allclose(value, expected, rtol=1e-4)
    (ours,) = torch.autograd.grad(value, offset, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, offset)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_smoothing_spreads_and_keeps_constants() -> None:
    faces, n = grid(9)
    energy = OffsetEnergy({}, laplacian(faces, n), "cpu")
    assert torch.allclose(energy.smooth(torch.ones(n, 3), 5), torch.ones(n, 3), atol=1e-5)
    spike = torch.zeros(n, 1)
    spike[40] = 1
    spread = energy.smooth(spike, 3)
    assert spread.max() < 0.5 and (spread > 0).sum() > 10
