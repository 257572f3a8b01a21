import pytest
import torch
import torch.nn.functional as F

from expportrait.render import Camera, edge_grad, find_edges, fragments, render
from expportrait.render.primitives import bumpy_head

SIZE, FINE = 192, 6


@pytest.fixture(scope="module")
def scene():
    vertices, faces = bumpy_head(40)
    camera = Camera(700.0, 96.0, 96.0, SIZE, SIZE)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    weight = (
        1 + 0.8 * x - 0.5 * y + 0.6 * torch.sin(3 * x + 1) * torch.cos(2 * y)
    )  # smooth, so that no direction cancels
    return vertices, faces, camera, weight


def moved(vertices, parameters):
    """parameters: scale, shift in x and y, height of a bulge about 4 cm wide above the ear."""
    scale, tx, ty, bulge = parameters.unbind(0)
    side = F.normalize(torch.tensor([1.0, 0.6, 0.0]), dim=0)
    bump = torch.exp(-((F.normalize(vertices, dim=1) - side) ** 2).sum(1) / (2 * 0.4**2))
    shift = torch.stack([tx, ty, torch.tensor(-0.9)])
    return (vertices * (1 + scale) + bulge * bump[:, None] * side + shift)[None]


@pytest.mark.parametrize(
    ("number", "name", "step"), [(0, "scale", 0.02), (1, "tx", 2e-3), (2, "ty", 2e-3), (3, "bulge", 4e-3)]
)
def test_mask_gradient_is_that_of_a_supersampled_image(scene, number, name, step):
    vertices, faces, camera, weight = scene
    parameters = torch.zeros(4, requires_grad=True)
    coverage = render(moved(vertices, parameters), faces, camera, edges=True).coverage
    (gradient,) = torch.autograd.grad((coverage[0] * weight).sum(), parameters)

    def truth(value):
        at = torch.zeros(4)
        at[number] = value
        with torch.no_grad():
            fine = render(moved(vertices, at), faces, camera.resized(FINE * SIZE, FINE * SIZE), cull=True).coverage
            return (F.avg_pool2d(fine, FINE)[0] * weight).sum()

    ratio = gradient[number] / ((truth(step) - truth(-step)) / (2 * step))
    assert 0.9 < ratio < 1.1, f"{name}: {ratio:.3f}"


def test_values_do_not_change(scene):
    vertices, faces, camera, _ = scene
    vertices = vertices[None] + torch.tensor([0, 0, -0.9])
    plain = render(vertices, faces, camera, {"x": vertices})
    edged = render(
        vertices.clone().requires_grad_(), faces, camera, {"x": vertices}, edges=("coverage", "normals", "depth", "x")
    )
    for first, second in [
        (plain.coverage, edged.coverage),
        (plain.normals, edged.normals),
        (plain.depth, edged.depth),
        (plain.attributes["x"], edged.attributes["x"]),
    ]:
        assert torch.equal(first, second)
    assert torch.equal(fragments(vertices, faces, camera, edges=True).coverage, plain.coverage)


def test_without_edges_the_mask_has_no_gradient(scene):
    vertices, faces, camera, _ = scene
    vertices = (vertices[None] + torch.tensor([0, 0, -0.9])).requires_grad_()
    assert not render(vertices, faces, camera).coverage.requires_grad
    assert render(vertices, faces, camera, edges=True).coverage.requires_grad


def square(half, x, depth):
    """Two triangles that face the viewer, seen half * focal / depth pixels wide on either side."""
    return torch.tensor(
        [[x - half, -half, -depth], [x + half, -half, -depth], [x + half, half, -depth], [x - half, half, -depth]]
    )


SQUARE = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("backdrop", [0.0, 0.3])
def test_occluding_edge_has_the_analytic_gradient(batch, backdrop):
    """A square of colour 1 slides over a backdrop: d loss / d x = sum over rows of (1 - backdrop) * (w(right edge) -
    w(left edge))."""
    camera = Camera(100.0, 40.0, 30.0, 60, 80)
    front, back = square(0.1033, 0.0021, 1.0), square(0.5, 0.0, 1.5)
    faces = torch.cat([SQUARE, SQUARE + 4]) if backdrop else SQUARE
    colour = torch.cat([torch.ones(4, 1), torch.full((4, 1), backdrop)]) if backdrop else torch.ones(4, 1)
    shift = torch.zeros(batch, 2, requires_grad=True)
    vertices = (front + F.pad(shift, (0, 1))[:, None]).expand(batch, 4, 3)
    if backdrop:
        vertices = torch.cat([vertices, back.expand(batch, 4, 3)], 1)
    image = render(vertices, faces, camera, {"colour": colour}, edges=("colour",)).attributes["colour"][..., 0]
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    (gradient,) = torch.autograd.grad((image * (3 * x + 2 * y)).sum(), shift)
    width = 2 * 0.1033 * 100  # pixels; the weight changes by 3 (2) a pixel; 100 pixels a metre; y runs up, rows down
    expected = (1 - backdrop) * torch.tensor([3.0, -2.0]) * width * width * 100
    torch.testing.assert_close(gradient, expected.expand(batch, 2), rtol=0.05, atol=0)


def test_only_steps_larger_than_the_gap_count():
    camera = Camera(100.0, 40.0, 30.0, 60, 80)
    front, back = square(0.1, 0.0, 1.0), square(0.5, 0.0, 1.003)
    vertices, faces = torch.cat([front, back])[None], torch.cat([SQUARE, SQUARE + 4])
    maps = render(vertices, faces, camera)
    inner = [
        len(find_edges(camera.clip(vertices), faces, maps.face_id, maps.depth, gap).near) for gap in (0.004, 0.002)
    ]
    assert inner[0] == 0  # the backdrop fills the frame
    assert inner[1] == 4 * 20  # the border of the front square


def test_a_mask_alone_pulls_the_outline_into_place(scene):
    vertices, faces, camera, _ = scene
    with torch.no_grad():
        target = render(moved(vertices, torch.tensor([0.1, 0.01, -0.008, 0.02])), faces, camera, cull=True).coverage
    parameters = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([parameters], lr=4e-3)
    wrong = []
    for _ in range(30):
        coverage = fragments(moved(vertices, parameters), faces, camera, cull=True, edges=True).coverage
        loss = (coverage - target).square().sum()
        wrong.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert min(wrong[-5:]) < 0.1 * wrong[0]


def test_edge_grad_takes_images_with_and_without_channels(scene):
    vertices, faces, camera, _ = scene
    vertices = (vertices[None] + torch.tensor([0, 0, -0.9])).requires_grad_()
    maps = render(vertices, faces, camera)
    edges = find_edges(camera.clip(vertices), faces, maps.face_id, maps.depth)
    mask = maps.coverage
    (one,) = torch.autograd.grad(edge_grad(mask, edges).sum(), vertices, retain_graph=True)
    (three,) = torch.autograd.grad(edge_grad(mask[..., None].expand(-1, -1, -1, 3), edges).sum(), vertices)
    torch.testing.assert_close(three, 3 * one)
