import math

import numpy as np
import pytest
import torch

from expportrait.render import Camera, render
from expportrait.render.picture import normals_to_rgb, shade_image, turntable
from expportrait.render.primitives import sphere


@pytest.fixture(scope="module")
def maps():
    vertices, faces = sphere(12)
    return render(0.1 * vertices[None] + torch.tensor([0, 0, -1.0]), faces, Camera(250.0, 32.0, 32.0, 64, 64))


def test_normal_map_colours(maps):
    image = normals_to_rgb(maps.normals[0], maps.coverage[0])
    assert image.dtype == np.uint8 and image.shape == (64, 64, 3)
    assert np.abs(image[32, 32].astype(int) - [128, 128, 255]).max() < 12  # towards the viewer: light blue
    assert image[32, 52, 0] > 200 > 60 > image[32, 11, 0]  # red: right
    assert image[12, 32, 1] > 200 > 60 > image[52, 32, 1]  # green: up
    assert (image[0, 0] == 255).all() and (normals_to_rgb(maps.normals[0], background=0)[0, 0] == 0).all()


def test_clay_is_lit_from_the_light(maps):
    image = shade_image(maps.normals[0], maps.coverage[0], light=(-1, 1, 1))
    assert image.dtype == np.uint8 and (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert image[22, 22, 0] > image[32, 32, 0] > image[45, 45, 0] > 20
    other = shade_image(maps.normals[0].numpy(), light=(1, 1, 1))  # arrays too; coverage from the normals
    assert np.abs(other[:, ::-1].astype(int) - image)[20:44, 20:44].max() < 12
    assert (image[0, 0] == 255).all()


def test_half_covered_pixels_blend_with_the_background(maps):
    half = shade_image(maps.normals[0], 0.5 * maps.coverage[0], background=0)
    full = shade_image(maps.normals[0], maps.coverage[0], background=0)
    assert np.abs(half[32, 32].astype(int) * 2 - full[32, 32]).max() <= 1


def test_wrong_shape_is_named(maps):
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 3\)"):
        shade_image(maps.normals)


def test_turntable():
    nose = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0]])
    torch.testing.assert_close(turntable(nose, math.pi / 2)[0], torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)
    assert turntable(nose, 0, pitch=0.5)[0, 1] < -0.4  # looks down
    assert turntable(nose, 0.3, pitch=0.5, centre=nose[0])[0].tolist() == [0, 0, 1]
    batch = torch.rand(2, 30, 3)
    centre = (batch.reshape(-1, 3).amin(0) + batch.reshape(-1, 3).amax(0)) / 2
    torch.testing.assert_close(turntable(turntable(batch, 0.7, centre=centre), -0.7, centre=centre), batch)
