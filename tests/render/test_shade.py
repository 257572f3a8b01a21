import math

import pytest
import torch

from expportrait.render import Camera, at_pixels, fragments, render, vertex_normals
from expportrait.render.primitives import bumpy_head, sphere

CENTRE, RADIUS = torch.tensor([0.02, -0.03, -1.0], dtype=torch.float64), 0.1


def head(divisions, dtype=torch.float32):
    vertices, faces = bumpy_head(divisions, dtype)
    return vertices + torch.tensor([0, 0, -0.9], dtype=dtype), faces


def analytic_sphere(camera):
    """Depth, normals and hit of the sphere at each pixel centre."""
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    ray = torch.stack(
        [(x - camera.cx) / camera.focal, (camera.cy - y) / camera.focal, -torch.ones_like(x)], -1
    ).double()
    length, along = (ray * ray).sum(-1), ray @ CENTRE
    root = along**2 - length * (CENTRE @ CENTRE - RADIUS**2)
    depth = (along - root.clamp(min=0).sqrt()) / length
    return depth, (depth[..., None] * ray - CENTRE) / RADIUS, root > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sphere_against_the_analytic_one(dtype):
    camera = Camera(600.0, 128.0, 100.0, 220, 256)
    vertices, faces = sphere(60, dtype)
    vertices = RADIUS * vertices + CENTRE.to(dtype)
    maps = render(vertices[None], faces, camera)
    depth, normals, hit = analytic_sphere(camera)
    assert ((maps.coverage[0] > 0) != hit).sum() <= 10 and hit.sum() > 10_000
    both = hit & (maps.coverage[0] > 0)
    angle = torch.rad2deg(torch.acos((maps.normals[0].double() * normals).sum(-1)[both].clamp(-1, 1)))
    assert angle.median() < 0.05 and angle.max() < 1
    error = (maps.depth[0].double() - depth)[both].abs()
    assert error.median() < 2e-5 and error.max() < 1e-3  # chords of a sphere; the border is edge-on
    torch.testing.assert_close(maps.normals[0][both].norm(dim=-1), torch.ones(int(both.sum()), dtype=dtype))
    empty = maps.coverage == 0
    assert (maps.normals[empty] == 0).all() and (maps.depth[empty] == 0).all() and (maps.face_id[empty] == -1).all()
    assert maps.normals[0, 100 + 18, 128 + 12] @ torch.tensor([0, 0, 1.0], dtype=dtype) > 0.99  # faces the viewer
    assert maps.normals[0, 70, 140, 1] > 0.3  # rows run down, y up


def test_vertex_normals_of_a_sphere():
    vertices, faces = sphere(20, torch.float64)
    batch = torch.stack([vertices, 3 * vertices + 1])
    normals = vertex_normals(batch, faces)
    assert (normals * vertices).sum(-1).min() > math.cos(math.radians(0.3))
    torch.testing.assert_close(normals[0], normals[1])
    lonely = vertex_normals(torch.cat([vertices, vertices[:1]])[None], faces)
    assert (lonely[0, -1] == 0).all()


def test_vertex_normals_gradient():
    vertices, faces = sphere(1, torch.float64)
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces), vertices[None].repeat(2, 1, 1).requires_grad_())


@pytest.mark.parametrize("what", ["normals", "depth", "attribute"])
def test_interior_gradients_equal_finite_differences(what):
    vertices, faces = head(20, torch.float64)
    generator = torch.Generator().manual_seed(0)
    camera = Camera(560.0, 64.0, 64.0, 128, 128)
    attribute = torch.rand(len(vertices), 3, generator=generator, dtype=torch.float64)
    first = render(vertices[None], faces, camera)
    # Away from silhouettes and occlusions, where the image is a continuous function of the vertices.
    inside = -torch.nn.functional.max_pool2d(-first.normals[:, None, ..., 2], 7, 1, 3)[0, 0] > 0.35
    assert inside.sum() > 1000
    channels = 1 if what == "depth" else 3
    weight = torch.randn(inside.sum(), channels, generator=generator, dtype=torch.float64)

    def loss(v):
        maps = render(v[None], faces, camera, {"attribute": attribute})
        image = {"normals": maps.normals, "depth": maps.depth[..., None], **maps.attributes}[what]
        return (image[0][inside] * weight).sum()

    leaf = vertices.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    for _ in range(5):
        direction = torch.randn(vertices.shape, generator=generator, dtype=torch.float64)
        step = 1e-9  # metres: so small that hardly a pixel passes from one face to the next, where the derivative jumps
        truth = (loss(vertices + step * direction) - loss(vertices - step * direction)) / (2 * step)
        assert abs((gradient * direction).sum() - truth) < 1e-4 * (gradient.norm() + abs(truth))
    seen = faces[first.face_id[0][inside]].unique()
    for number in seen[torch.randperm(len(seen), generator=generator)[:10]].tolist():
        for axis in range(3):
            step = torch.zeros_like(vertices)
            step[number, axis] = 1e-8
            truth = (loss(vertices + step) - loss(vertices - step)) / 2e-8
            assert abs(gradient[number, axis] - truth) < 1e-5 * gradient[number].norm() + 1e-6 * gradient.norm()


def test_gradient_reaches_the_focal_length():
    vertices, faces = head(12, torch.float64)

    def loss(focal):
        maps = render(vertices[None], faces, Camera(focal, 32.0, 32.0, 64, 64))
        return (maps.normals[0, 16:48, 24:40] * torch.arange(3)).sum() + maps.depth[0, 16:48, 24:40].sum()

    focal = torch.tensor(300.0, dtype=torch.float64, requires_grad=True)
    loss(focal).backward()
    with torch.no_grad():
        truth = (loss(focal + 1e-5) - loss(focal - 1e-5)) / 2e-5
    torch.testing.assert_close(focal.grad, truth, rtol=1e-5, atol=0)


def test_fragments_are_the_covered_pixels_of_render():
    vertices, faces = head(12)
    batch = torch.stack([vertices, vertices + torch.tensor([0.05, 0.02, 0.1])])
    camera = Camera(280.0, 30.0, 34.0, 60, 64)
    region = torch.rand(len(vertices), 4)
    found = fragments(batch, faces, camera, edges=True)
    maps = render(batch, faces, camera, {"region": region, "own": batch})
    assert torch.equal(found.index, (maps.face_id.reshape(-1) >= 0).nonzero()[:, 0])
    assert torch.equal(found.face_id, maps.face_id.reshape(-1)[found.index])
    assert torch.equal(found.image(found.normals), maps.normals) and torch.equal(found.image(found.depth), maps.depth)
    assert torch.equal(found.image(found.interpolate(region)), maps.attributes["region"])
    assert torch.equal(found.coverage, maps.coverage) and fragments(batch, faces, camera).coverage is None
    assert found.image(found.depth, background=7)[maps.coverage == 0].eq(7).all()
    # What is seen at a pixel projects to its centre.
    point = maps.attributes["own"].reshape(-1, 3)[found.index]
    torch.testing.assert_close(-point[:, 2], found.depth, atol=1e-6, rtol=0)
    place = found.index % (60 * 64)
    centre = torch.stack([place % 64, place // 64], 1) + 0.5
    torch.testing.assert_close(camera.project(point), centre, atol=2e-4, rtol=0)


def test_constant_attribute_stays_constant_and_takes_gradients():
    vertices, faces = head(8)
    found = fragments(vertices[None], faces, Camera(280.0, 32.0, 32.0, 64, 64))
    one = torch.full((len(vertices), 1), 3.0, requires_grad=True)
    values = found.interpolate(one)
    torch.testing.assert_close(values, torch.full_like(values, 3.0))
    values.sum().backward()
    torch.testing.assert_close(one.grad.sum(), torch.tensor(float(len(values))))  # weights sum to 1 at each pixel


def test_batch_equals_singles_with_gradients():
    vertices, faces = head(12)
    batch = torch.stack([vertices * s for s in (1.0, 1.1, 0.9)]).requires_grad_()
    camera = Camera(280.0, 32.0, 32.0, 64, 64)

    def loss(maps):
        return (
            (maps.normals * torch.tensor([1.0, 2, 3])).sum()
            + maps.depth.sum()
            + maps.attributes["position"].square().sum()
        )

    (together,) = torch.autograd.grad(loss(render(batch, faces, camera, {"position": batch})), batch)
    for number in range(3):
        single = batch[number : number + 1].detach().requires_grad_()
        maps = render(single, faces, camera, {"position": single})
        (alone,) = torch.autograd.grad(loss(maps), single)
        torch.testing.assert_close(together[number], alone[0], rtol=1e-4, atol=1e-3 * alone.abs().max().item())
        assert torch.equal(render(batch, faces, camera).face_id[number], maps.face_id[0])


def test_same_input_same_bits():
    vertices, faces = head(16)
    camera = Camera(280.0, 32.0, 32.0, 64, 64)

    def run():
        leaf = vertices[None].clone().requires_grad_()
        found = fragments(leaf, faces, camera, edges=True)
        (found.normals[:, 0].sum() + found.depth.sum() + (found.coverage * torch.arange(64)).sum()).backward()
        return found.index, found.normals, found.depth, leaf.grad

    for first, second in zip(run(), run(), strict=True):
        assert torch.equal(first, second)


def test_culling_keeps_a_closed_surface():
    vertices, faces = head(16)
    camera = Camera(280.0, 32.0, 32.0, 64, 64)
    plain, culled = (render(vertices[None], faces, camera, cull=cull) for cull in (False, True))
    assert torch.equal(plain.normals, culled.normals) and torch.equal(plain.depth, culled.depth)


def test_nothing_in_view():
    vertices, faces = head(4)
    vertices = (vertices + torch.tensor([5.0, 0, 0]))[None].requires_grad_()
    found = fragments(vertices, faces, Camera(280.0, 32.0, 32.0, 64, 64), edges=True)
    assert len(found.index) == 0 and found.interpolate(vertices.detach()).shape == (0, 3)
    (found.normals.sum() + found.depth.sum() + found.coverage.sum()).backward()
    assert (vertices.grad == 0).all()


def test_names_are_checked():
    vertices, faces = head(2)
    camera = Camera(280.0, 32.0, 32.0, 64, 64)
    with pytest.raises(ValueError, match="'depth'"):
        render(vertices[None], faces, camera, {"depth": vertices})
    with pytest.raises(ValueError, match="silhouette"):
        render(vertices[None], faces, camera, edges=("silhouette",))


def compare_backends(divisions: int, size: int, cull: bool, least: float = 0.98) -> None:
    """Render a batch by both on CUDA: values and gradients."""
    vertices, faces = (t.cuda() for t in head(divisions))
    batch = torch.stack([vertices, vertices + torch.tensor([0.03, 0.02, 0.1], device="cuda")])
    camera = Camera(2.54 * size, size / 2, size / 2, size, size)
    images, gradients = [], []
    for backend in ("torch", "nvdiffrast"):
        leaf = batch.clone().requires_grad_()
        maps = render(leaf, faces, camera, {"position": batch}, edges=True, backend=backend, cull=cull)
        (maps.normals[..., 0].sum() + maps.depth.sum() + maps.coverage.square().sum()).backward()
        images.append(maps), gradients.append(leaf.grad)
    first, second = images
    assert (first.coverage == second.coverage).float().mean() > least
    both = (first.coverage > 0) & (second.coverage > 0)
    cosine = (first.normals * second.normals).sum(-1)[both]
    assert (cosine > math.cos(math.radians(0.5))).float().mean() > least
    assert ((first.depth - second.depth)[both].abs() < 2e-4).float().mean() > least
    close = (first.attributes["position"] - second.attributes["position"])[both].abs().amax(-1) < 2e-4
    assert close.float().mean() > least
    assert torch.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), 0) > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("cull", [False, True])
def test_backends_agree(cull):
    pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
    compare_backends(46, 512, cull, 0.999)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_torch_backend_on_cuda_equals_cpu():
    vertices, faces = head(46)
    camera = Camera(1300.0, 256.0, 256.0, 512, 512)
    on_cpu = render(vertices[None], faces, camera)
    on_gpu = render(vertices[None].cuda(), faces.cuda(), camera, backend="torch")
    assert (on_cpu.coverage == on_gpu.coverage.cpu()).float().mean() > 0.9999
    assert ((on_cpu.normals - on_gpu.normals.cpu()).abs().amax(-1) < 1e-3).float().mean() > 0.999
    assert ((on_cpu.depth - on_gpu.depth.cpu()).abs() < 1e-5).float().mean() > 0.999


def test_an_attribute_at_some_pixels_is_what_the_whole_map_has_there():
    vertices, faces = head(12)
    batch = torch.stack([vertices, vertices + torch.tensor([0.05, 0.02, 0.1])])
    camera, region = Camera(280.0, 30.0, 34.0, 60, 64), torch.rand(len(vertices), 4)
    maps = render(batch, faces, camera, {"region": region}, cull=True)
    chosen = (maps.face_id >= 0) & (torch.rand(maps.face_id.shape) < 0.3)
    found = at_pixels(batch, faces, camera, region, maps.face_id, chosen)
    torch.testing.assert_close(found, maps.attributes["region"][chosen], atol=1e-5, rtol=0)
    nothing = at_pixels(batch, faces, camera, region, maps.face_id, chosen & False)
    assert nothing.shape == (0, 4)
