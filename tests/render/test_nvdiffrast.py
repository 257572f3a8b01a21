"""The calls to nvdiffrast, and what it does differently, by a stand-in of its interface."""

import math

import pytest
import torch
from benchmarks.pretend_gpu import pretend_gpu

from expportrait.render import Camera, fragments, raster_nvdiffrast, render
from expportrait.render.primitives import bumpy_head, sphere
from expportrait.render.raster import face_ids, rasterize

from . import nvdiffrast_stand_in as stand_in
from .test_shade import compare_backends

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def nvdiffrast(monkeypatch):
    stand_in.install(monkeypatch)
    with pretend_gpu():
        yield
    for cached in (raster_nvdiffrast._load, raster_nvdiffrast._context):
        cached.cache_clear()


def scene(divisions: int = 8, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, Camera]:
    """A head, seen from several places, on the GPU."""
    vertices, faces = (x.cuda() for x in bumpy_head(divisions))
    place = torch.tensor([[0.03 * k, 0.02, -0.6 + 0.05 * k] for k in range(batch)]).cuda()
    return vertices + place[:, None], faces, Camera(120.0, 32.0, 32.0, *SIZE)


@pytest.mark.parametrize("cull", [False, True])
def test_backends_agree(cull):
    compare_backends(12, 160, cull)


@pytest.mark.parametrize("cull", [False, True])
def test_a_batch_is_one_call_and_its_ids_are_each_images_own(cull):
    vertices, faces, camera = scene(batch=3)
    pos = camera.clip(vertices)
    found = face_ids(pos, faces, SIZE, "auto", cull)
    assert stand_in.calls == [(3, *SIZE, 4)] and found.dtype == torch.int64
    for one, of_batch in zip(pos, found, strict=True):
        alone = face_ids(one[None], faces, SIZE, "nvdiffrast", cull)[0]
        assert torch.equal(alone, of_batch) and int(alone.max()) < len(faces)
    theirs, ours = (rasterize(pos, faces, SIZE, backend, cull) for backend in ("nvdiffrast", "torch"))
    assert ((theirs[..., 3] == ours[..., 3]).float().mean(), theirs.shape) > (0.97, ours.shape)


def test_a_context_is_kept():
    vertices, faces, camera = scene()
    for size in (32, 64, 32):
        fragments(vertices, faces, camera.resized(size, size), cull=True)
    assert stand_in.RasterizeCudaContext.made == 1 and len(stand_in.calls) == 3


def test_culled_faces_are_not_seen():
    vertices, faces = (x.cuda() for x in sphere(6))
    pos = Camera(120.0, 32.0, 32.0, *SIZE).clip(0.1 * vertices + torch.tensor([0.0, 0, -0.6]).cuda())[None]
    assert torch.equal(face_ids(pos, faces, SIZE, cull=True), face_ids(pos, faces, SIZE))
    inside_out = face_ids(pos, faces.flip(1), SIZE, cull=True)
    seen = inside_out[inside_out >= 0]
    assert len(seen) and (vertices[faces[seen], 2].mean(1) < 0.25).all()


def test_rounded_vertices_leave_no_value_outside_its_face():
    """A pixel may lie outside of the face that is drawn there, by up to 1/32 pixel."""
    vertices, faces, camera = scene(30)
    leaf = vertices.clone().requires_grad_()
    found = fragments(leaf, faces, camera)
    weights = found.planes.barycentrics().detach()
    assert weights.min().item() > -0.01 and weights.max().item() < 1.01
    (found.normals.sum() + found.depth.sum()).backward()
    assert torch.isfinite(leaf.grad).all() and torch.isfinite(found.normals).all()
    nearest = vertices.norm(dim=-1).min() * 0.5
    assert (found.depth > nearest).all() and (found.depth < 1).all()


def test_faces_that_reach_behind_the_camera_are_clipped_and_not_left_out():
    pos = torch.tensor([[-0.5, -1.0, 0.1, 1.0], [0.5, -1.0, 0.1, 1.0], [0.0, 1.0, 0.1, -0.1]], device="cuda")[None]
    faces = torch.tensor([[0, 1, 2]], device="cuda")
    assert (face_ids(pos, faces, SIZE, "torch") == -1).all()
    assert (face_ids(pos, faces, SIZE, "nvdiffrast") == 0).any()


def test_ids_beyond_what_a_float_counts():
    numbers = torch.tensor([0, 1, 2**24, 2**24 + 1, 2**26 + 3], dtype=torch.int32)
    stored = torch.where(numbers > 2**24, (numbers + 0x4A800000).view(torch.float32), numbers.float())
    rast = torch.cat([torch.zeros(5, 3), stored[:, None]], 1).view(1, 1, 5, 4)
    assert torch.equal(raster_nvdiffrast.triangle_numbers(rast)[0, 0], numbers)


def test_pictures_are_the_torch_rasterisers_but_for_borders_of_faces():
    vertices, faces, camera = scene(20, 1)
    ours, theirs = (render(vertices, faces, camera, backend=backend) for backend in ("torch", "nvdiffrast"))
    both = (ours.coverage > 0) & (theirs.coverage > 0)
    assert float((ours.coverage != theirs.coverage).float().mean()) < 0.01
    cosine = (ours.normals * theirs.normals).sum(-1)[both]
    assert float((cosine > math.cos(math.radians(2))).float().mean()) > 0.98
