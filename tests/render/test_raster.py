import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.errors import UserError
from expportrait.render import Camera, face_ids, interpolate, raster_nvdiffrast, raster_torch, rasterize
from expportrait.render.primitives import bumpy_head, sphere
from expportrait.render.raster import FacePlanes, covered
from tests.render.reference import brute_force

AWAY = torch.tensor([0.0, 0.0, -0.8])


def scene(divisions=6, size=(97, 130), shift=(0.0, 0.0, 0.0), dtype=torch.float32):
    """A head partly out of the frame where shift says so: clip-space positions (1, V, 4), faces, size."""
    vertices, faces = bumpy_head(divisions, dtype)
    camera = Camera(350.0, 60.0, 50.0, *size)
    return camera.clip(vertices + AWAY + torch.tensor(shift))[None].to(dtype), faces, size


@pytest.mark.parametrize("divisions", [1, 4, 8])
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.15, 0.1, 0.0), (-0.12, -0.13, 0.3)])
def test_ids_equal_brute_force(divisions, shift):
    pos, faces, size = scene(divisions, shift=shift)
    expected, doubtful = brute_force(pos[0], faces, size)
    ids = face_ids(pos, faces, size, "torch")[0].numpy()
    assert (expected >= 0).sum() > 300
    assert doubtful.mean() < 0.01
    assert (ids == expected)[~doubtful].all()


coordinate = st.floats(-1.5, 1.5, width=32)
vertex = st.tuples(coordinate, coordinate, st.floats(-1.25, 1.25, width=32), st.floats(-0.5, 3, width=32))
soups = st.lists(st.tuples(vertex, vertex, vertex), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(soups, st.integers(1, 40), st.integers(1, 40))
def test_any_triangles_equal_brute_force(soup, height, width):
    pos = torch.tensor(soup, dtype=torch.float64).reshape(-1, 4)
    pos = torch.cat([pos[:, :3] * pos[:, 3:], pos[:, 3:]], 1)
    faces = torch.arange(len(pos)).view(-1, 3)
    expected, doubtful = brute_force(pos, faces, (height, width))
    ids = face_ids(pos[None], faces, (height, width), "torch")[0].numpy()
    assert (ids == expected)[~doubtful].all()


def test_batch_equals_singles():
    meshes = [scene(5, shift=(0.05 * i, -0.03 * i, 0.0)) for i in range(3)]
    faces, size = meshes[0][1:]
    together = face_ids(torch.cat([pos for pos, _, _ in meshes]), faces, size)
    for ids, (pos, _, _) in zip(together, meshes, strict=True):
        assert torch.equal(ids, face_ids(pos, faces, size)[0])


def test_faces_in_small_portions_give_the_same_image(monkeypatch):
    pos, faces, size = scene(8)
    whole = face_ids(pos, faces, size)
    for chunk in (1, 7, 100):  # smaller and larger than the tiles of one face
        monkeypatch.setitem(raster_torch.CHUNK, "cpu", chunk)
        assert torch.equal(face_ids(pos, faces, size), whole)


def test_close_up_stays_within_bounded_memory(monkeypatch):
    """200 faces that each cover the image: all their tiles are never held at once."""
    sizes = []
    scatter = raster_torch._scatter
    monkeypatch.setattr(
        raster_torch,
        "_scatter",
        lambda keys, planes, across, tiles, *a: (
            sizes.append(int(tiles.sum())),
            scatter(keys, planes, across, tiles, *a),
        ),
    )
    pos = torch.tensor([[-3.0, -3, 0, 1], [3, -3, 0, 1], [0, 5, 0, 1]])
    ids = face_ids(pos[None], torch.tensor([[0, 1, 2]]).expand(200, 3), (256, 256))
    assert (ids == 0).all()  # equal depth: the first wins
    assert sum(sizes) == 200 * 64 * 64 and max(sizes) <= raster_torch.CHUNK["cpu"] + 64 * 64


def test_no_cracks_between_the_faces_of_a_surface():
    generator = torch.Generator().manual_seed(0)
    n = 60
    y, x = torch.meshgrid(torch.linspace(-1.2, 1.2, n), torch.linspace(-1.2, 1.2, n), indexing="ij")
    xy = torch.stack([x, y], -1) + 0.015 * torch.rand(n, n, 2, generator=generator)
    w = 1 + 0.2 * torch.rand(n, n, 1, generator=generator)
    pos = torch.cat([xy * w, 0.5 * w, w], -1).reshape(1, -1, 4)
    corner = (torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)).reshape(-1)
    faces = torch.cat(
        [torch.stack([corner, corner + 1, corner + n], 1), torch.stack([corner + 1, corner + n + 1, corner + n], 1)]
    )
    assert (face_ids(pos, faces, (512, 512), "torch") >= 0).all()


def test_culling_does_not_change_a_closed_surface():
    pos, faces, size = scene(10)
    assert torch.equal(face_ids(pos, faces, size, cull=True), face_ids(pos, faces, size))
    inside_out = face_ids(pos, faces.flip(1), size, cull=True)
    assert (inside_out >= 0).sum() == (face_ids(pos, faces, size) >= 0).sum()  # now only the far side is seen
    assert (inside_out != face_ids(pos, faces, size))[inside_out >= 0].all()


def test_faces_behind_the_camera_and_empty_images():
    faces = torch.tensor([[0, 1, 2]])
    behind = torch.tensor([[-1.0, -1, 0, 1], [1, -1, 0, 1], [0, 1, 0, -0.1]])[None]
    assert (face_ids(behind, faces, (16, 16)) == -1).all()
    pos = (behind + torch.tensor([50.0, 0, 0, 0])).requires_grad_()
    rast = rasterize(pos, faces, (16, 16))
    assert (rast == 0).all()
    rast.sum().backward()
    assert (pos.grad == 0).all()


def test_conventions_of_rast():
    """Row 0 at the bottom; u belongs to vertex 0, v to vertex 1; z/w; id + 1."""
    w = torch.tensor([1.0, 2.0, 4.0])
    ndc = torch.tensor([[-1.0, -1, 0.1], [3, -1, 0.2], [-1, 3, 0.4]])
    pos = torch.cat([ndc * w[:, None], w[:, None]], 1)[None]
    rast = rasterize(pos, torch.tensor([[0, 1, 2]]), (5, 4), "torch")
    assert rast.shape == (1, 5, 4, 4) and (rast[..., 3] == 1).all()
    row, column = 3, 1
    x, y = (2 * column + 1) / 4 - 1, (2 * row + 1) / 5 - 1
    screen = np.array([1 - (x + 1) / 4 - (y + 1) / 4, (x + 1) / 4, (y + 1) / 4])
    perspective = screen / w.numpy()
    u, v, _ = perspective / perspective.sum()
    assert np.allclose(rast[0, row, column, :3].numpy(), [u, v, screen @ ndc[:, 2].numpy()], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_interpolation_is_perspective_correct(batch):
    """Interpolating the clip-space position must give back the pixel it is seen at."""
    pos, faces, size = scene(6)
    pos = pos.repeat(batch, 1, 1) * torch.linspace(1, 1.1, batch)[:, None, None]
    rast = rasterize(pos, faces, size, "torch")
    point = interpolate(pos, rast, faces)
    hit = rast[..., 3] > 0
    y, x = torch.meshgrid((2 * torch.arange(97) + 1) / 97 - 1, (2 * torch.arange(130) + 1) / 130 - 1, indexing="ij")
    assert (point[hit][:, 0] / point[hit][:, 3] - x.expand(batch, -1, -1)[hit]).abs().max() < 2e-6
    assert (point[hit][:, 1] / point[hit][:, 3] - y.expand(batch, -1, -1)[hit]).abs().max() < 2e-6
    assert (point[hit][:, 2] / point[hit][:, 3] - rast[hit][:, 2]).abs().max() < 2e-6
    assert (point[~hit] == 0).all()
    shared = interpolate(pos[0], rast, faces)
    torch.testing.assert_close(shared[0], point[0])


def test_gradcheck():
    generator = torch.Generator().manual_seed(1)
    pos, faces, _ = scene(1, dtype=torch.float64)
    attribute = torch.rand(1, pos.shape[1], 3, generator=generator, dtype=torch.float64, requires_grad=True)

    def image(pos, attribute):
        return interpolate(attribute, rasterize(pos, faces, (10, 10), "torch"), faces)

    # Steps of 1e-7 move no pixel of this scene to another face.
    assert torch.autograd.gradcheck(image, (pos.requires_grad_(), attribute), eps=1e-7, atol=1e-4)


def test_depth_of_rast_carries_no_gradient():
    pos, faces, size = scene(2)
    rast = rasterize(pos.requires_grad_(), faces, size)
    (gradient,) = torch.autograd.grad(rast[..., 2:].sum(), pos)
    assert (gradient == 0).all()


def test_pixels_outside_of_their_face_are_pulled_onto_its_border():
    """A rasteriser that snaps vertices hands over pixels slightly outside of a face; thin faces would extrapolate
    wildly."""
    pos, faces, size = scene(20)
    snapped = pos.clone()
    for axis, pixels in ((0, size[1]), (1, size[0])):
        snapped[..., axis] = (pos[..., axis] / pos[..., 3] * pixels * 8).round() / (pixels * 8) * pos[..., 3]
    index, seen = covered(face_ids(snapped, faces, size).flip(1), len(faces))
    loose = FacePlanes(pos, faces, seen, index, size).barycentrics()
    held = FacePlanes(pos, faces, seen, index, size, snapped=True)
    outside = loose.amin(0) < -1e-3
    assert outside.sum() > 20 and loose.amin() < -0.05
    assert held.barycentrics().amin() > -1e-3
    torch.testing.assert_close(
        held.barycentrics()[:, loose.amin(0) > 0], loose[:, loose.amin(0) > 0], atol=1e-4, rtol=0
    )
    corner_depth = pos[0, :, 3][faces[seen]]
    depth = held.depth()
    assert (depth > corner_depth.amin(1) - 1e-5).all() and (depth < corner_depth.amax(1) + 1e-5).all()


def test_slivers_that_only_snapping_made_visible_stay_finite():
    pos = torch.tensor([[[-0.5, 0, 0, 1], [0.5, 0, 0, 1], [0.1, offset, 0, 1]] for offset in (0.0, 1e-9, -1e-8, 1e-4)])
    pos.requires_grad_()
    faces, index = torch.tensor([[0, 1, 2]]), torch.arange(4) * 64 + 36
    planes = FacePlanes(pos, faces, torch.arange(4), index, (8, 8), snapped=True)
    values = planes.interpolate(torch.tensor([[1.0], [2.0], [3.0]]))[0]
    assert (values.abs() <= 3.1).all() and (planes.depth() - 1).abs().max() < 1e-3
    values.sum().backward()
    assert pos.grad.isfinite().all()


def test_backend_that_is_missing_or_unknown(monkeypatch):
    pos, faces, size = scene(1)
    monkeypatch.setattr(raster_nvdiffrast, "available", lambda: False)
    raster_nvdiffrast._load.cache_clear()
    with pytest.raises(UserError, match=r"not installed.*pip install.*no commercial use"):
        rasterize(pos, faces, size, backend="nvdiffrast")
    with pytest.raises(UserError, match="Unknown raster backend 'vulkan'"):
        rasterize(pos, faces, size, backend="vulkan")
    with pytest.raises(ValueError, match=r"\(B, V, 4\)"):
        face_ids(pos[0], faces, size)


def test_faces_culled_for_nvdiffrast_are_those_the_torch_backend_leaves_out():
    pos, faces, size = scene(6)
    kept = raster_nvdiffrast.front_facing(pos, faces)[0]
    seen = face_ids(pos, faces, size, "torch", cull=True).unique()
    assert 0.3 < kept.float().mean() < 0.7
    assert kept[seen[seen >= 0]].all()
    assert torch.equal(
        face_ids(pos, faces, size, "torch", cull=True), _ids_of(pos, faces[kept], size, kept.nonzero()[:, 0])
    )


def _ids_of(pos, faces, size, number):
    ids = face_ids(pos, faces, size, "torch")
    return torch.where(ids >= 0, number[ids.clamp(min=0)], -1)


def test_integer_type_of_faces_does_not_matter():
    pos, faces, size = scene(3)
    assert torch.equal(rasterize(pos, faces.int(), size), rasterize(pos, faces, size))


def test_sphere_is_closed_and_turns_outwards():
    vertices, faces = sphere(5, torch.float64)
    assert vertices.shape == (252, 3) and faces.shape == (500, 3)
    a, b, c = vertices[faces].unbind(1)
    volume = (torch.linalg.cross(a, b) * c).sum() / 6
    assert 0.95 * 4.18879 < volume < 4.18879
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(edges.unique(dim=0)) == len(edges) == len(edges.flip(1).unique(dim=0))
    assert torch.equal(edges.unique(dim=0), edges.flip(1).unique(dim=0))  # every edge once in each direction
