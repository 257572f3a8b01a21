import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.render import Camera, face_ids

cameras = st.builds(
    Camera, st.floats(50, 3000), st.floats(-100, 700), st.floats(-100, 700), st.integers(8, 600), st.integers(8, 600)
)
points = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-5, -0.2)), min_size=1, max_size=5)


@settings(deadline=None)
@given(cameras, points)
def test_clip_space_and_projection_agree(camera, points):
    points = torch.tensor(points, dtype=torch.float64)
    x, y, z, w = camera.clip(points).unbind(-1)
    assert torch.equal(w, -points[:, 2])  # w is the depth
    pixels = torch.stack([(x / w + 1) * camera.width / 2, (1 - y / w) * camera.height / 2], -1)
    torch.testing.assert_close(pixels, camera.project(points), atol=1e-8, rtol=1e-10)
    assert (z / w).abs().max() <= 1
    assert ((z / w)[w.argsort()].diff() >= 0).all()  # grows away from the viewer


def test_depth_range_is_ten_centimetres_to_ten_metres():
    clip = Camera(100.0, 5.0, 5.0, 10, 10).clip(torch.tensor([[0, 0, -0.1], [0, 0, -10.0]], dtype=torch.float64))
    torch.testing.assert_close(clip[:, 2] / clip[:, 3], torch.tensor([-1.0, 1.0], dtype=torch.float64))


def test_axes():
    camera = Camera(100.0, 50.0, 40.0, 80, 100)
    origin, right, up = camera.project(torch.tensor([[0, 0, -2.0], [0.1, 0, -2.0], [0, 0.1, -2.0]]))
    assert origin.tolist() == [50, 40]
    torch.testing.assert_close(right - origin, torch.tensor([5.0, 0.0]))
    torch.testing.assert_close(up - origin, torch.tensor([0.0, -5.0]))


@pytest.mark.parametrize(("column", "row"), [(0, 0), (6, 2), (9, 7), (3, 5)])
def test_pixel_centres_lie_at_half_integers(column, row):
    camera = Camera(20.0, 4.2, 5.1, 8, 10)
    ray = torch.tensor([(column + 0.5 - 4.2) / 20, -(row + 0.5 - 5.1) / 20, -1.0])
    torch.testing.assert_close(camera.project(ray), torch.tensor([column + 0.5, row + 0.5]))
    speck = ray + 0.001 * torch.tensor([[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]])
    ids = face_ids(camera.clip(speck[None]), torch.tensor([[0, 1, 2]]), (8, 10)).flip(1)[0]
    assert (ids >= 0).nonzero().tolist() == [[row, column]]


def test_resized_camera_sees_the_same_view():
    camera = Camera(900.0, 250.0, 260.0, 512, 512)
    points = torch.tensor([[0.1, 0.2, -1.0], [-0.2, 0.1, -2.0]])
    torch.testing.assert_close(camera.resized(128, 128).project(points), camera.project(points) / 4)
    with pytest.raises(ValueError, match="aspect"):
        camera.resized(128, 256)


def test_one_focal_length_per_mesh_with_gradients():
    focal = torch.tensor([100.0, 200.0], requires_grad=True)
    camera = Camera(focal, torch.tensor([5.0, 6.0]), 4.0, 8, 10)
    points = torch.tensor([[0.1, 0.2, -1.0], [-0.2, 0.1, -2.0], [0.3, 0, -1.0]])
    for number in range(2):
        alone = Camera(focal[number].item(), (5.0, 6.0)[number], 4.0, 8, 10)
        torch.testing.assert_close(camera.project(points.expand(2, -1, -1))[number], alone.project(points))
        torch.testing.assert_close(camera.clip(points.expand(2, -1, -1))[number], alone.clip(points))
    camera.project(points.expand(2, -1, -1))[..., 0].sum().backward()
    torch.testing.assert_close(focal.grad, (-points[:, 0] / points[:, 2]).sum().expand(2))
    assert camera.to("cpu").focal is focal
