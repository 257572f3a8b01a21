"""``show proxy`` on a fabricated run: what is written, what it shows, and what it says when it cannot."""

import av
import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from expportrait.cli import app
from expportrait.errors import UserError
from expportrait.show import panels, sheet
from expportrait.show.film import COLUMNS, SIZE, TITLES, Film
from expportrait.show.proxy import STAGES, parse_frames, show_proxy
from expportrait.store import Store
from tests.report.fabricate import make_clip
from tests.show.read import read_glb, read_ply


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_clip(folder, "long", frames=7, fps=12.5)
    make_clip(folder, "portrait", frames=1)
    make_clip(folder, "faceless", frames=3, stages=("crop",))
    return folder


@pytest.fixture(scope="module")
def film(results):
    stores = {stage: Store(results / stage / "long.zarr") for stage in STAGES}
    return Film("long", stores, panels.load_fitted(stores["proxy"]), 0, 7)


@pytest.fixture(scope="module")
def pictures(film):
    return list(film)


def panel(picture: np.ndarray, title: str) -> np.ndarray:
    row, column = divmod(TITLES.index(title), COLUMNS)
    y, x = row * (SIZE + sheet.TITLE) + sheet.TITLE, column * SIZE
    return picture[y : y + SIZE, x : x + SIZE].astype(int)


def test_a_film_of_the_chosen_frames(results, tmp_path):
    written = show_proxy("long", results, tmp_path / "new", frames="2:6")
    assert [file.name for file in written] == ["long.mp4", "long.glb"]
    with av.open(str(written[0])) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (1920, 1080, 12.5)
        assert len(list(container.decode(video=0))) == 4
    _, arrays = read_glb(written[1])
    fitted = panels.load_fitted(Store(results / "proxy/long.zarr"))
    np.testing.assert_allclose(arrays[0], fitted.neutral().numpy(), atol=1e-6)


def test_a_portrait_is_a_picture(results, tmp_path):
    written = show_proxy("portrait", results, tmp_path, mesh="ply", sequence=True)
    assert [file.name for file in written] == ["portrait.png", "portrait.ply", "portrait-sequence"]
    assert cv2.imread(str(written[0])).shape == (1080, 1920, 3)
    assert [file.name for file in written[2].iterdir()] == ["000000.ply"]


def test_panels_show_what_their_titles_say(pictures, film):
    """The fabricated estimate is a render of the very fit: equal normals, no error; the input is the input."""
    for t, picture in enumerate(pictures):
        frame = panels.resize(film.stores["crop"]["frames"][t], SIZE)
        assert np.abs(panel(picture, "input") - frame).max() == 0
        estimated, fitted = (panel(picture, f"normals, {kind}") for kind in ("estimated", "fitted"))
        assert np.abs(estimated - fitted).mean() < 1 and fitted.std() > 30
        blue = panels.error_colours(np.zeros((1, 1)))[0, 0]
        error = panel(picture, "angle between the normals")
        assert np.abs(error[error.any(-1)] - blue).mean() < 15


def test_side_cameras_stand_still(pictures, film):
    """A head that rises by 2 cm rises by that in both pictures, and the whole clip's head is always in them."""
    head, vertices = film.fitted.head, film.fitted.vertices(slice(0, 1))
    raised = vertices + torch.tensor([0.0, 0.02, 0.0])
    sides = panels.SideViews(head, [vertices, raised], 200)
    crowns = [[np.flatnonzero(view.any((1, 2)))[0] for view in sides.draw(v[0])] for v in (vertices, raised)]
    distance = sides.place[:, 2] - np.cos(np.radians(panels.TURN)) * vertices[0, :, 2].mean()
    expected = (sides.camera.focal * 0.02 / distance).numpy()
    np.testing.assert_allclose(np.subtract(*crowns), expected, atol=2)
    for picture in pictures:
        for side in ("right", "left"):
            view = panel(picture, f"head, from its {side}")
            assert view[:3].max() == 0 and view[150:300].max() > 100


def test_error_map_of_known_angles():
    flat = np.zeros((4, 4, 3), np.float32)
    flat[..., 2] = 1
    tilted = np.broadcast_to(np.float32([0, np.sin(np.radians(30)), np.cos(np.radians(30))]), flat.shape).copy()
    flat[0], tilted[0] = 0, 0  # nothing
    flat[1] = 0  # only one
    image = panels.error_map(flat, tilted)
    assert (image[0] == 0).all() and (image[1] == panels.ONE_SIDED).all()
    assert (image[2:] == panels.error_colours(np.full((1, 1), 30.0))).all()
    assert (panels.error_colours(np.full((1, 1), 50.0)) == panels.error_colours(np.full((1, 1), 45.0))).all()


def test_sequence_is_the_posed_head(results, tmp_path):
    fitted = panels.load_fitted(Store(results / "proxy/long.zarr"))
    truth = fitted.vertices().numpy()
    glb = show_proxy("long", results, tmp_path, sequence=True, every=3)[-1]
    document, arrays = read_glb(glb)
    (primitive,) = document["meshes"][0]["primitives"]
    keys = [arrays[primitive["attributes"]["POSITION"]]]
    keys += [keys[0] + arrays[target["POSITION"]] for target in primitive["targets"]]
    np.testing.assert_allclose(np.stack(keys), truth[[0, 3, 6]], atol=1e-6)
    times = arrays[document["animations"][0]["samplers"][0]["input"]][:, 0]
    np.testing.assert_allclose(times, [0, 3 / 12.5, 6 / 12.5], atol=1e-6)
    focal = 48 / np.tan(document["cameras"][0]["perspective"]["yfov"] / 2)
    assert focal == pytest.approx(fitted.camera.focal)

    folder = show_proxy("long", results, tmp_path, "1:", mesh="ply", sequence=True, every=4)[-1]
    assert sorted(file.name for file in folder.iterdir()) == ["000001.ply", "000005.ply"]
    vertices, faces = read_ply(folder / "000005.ply")
    np.testing.assert_allclose(np.stack([vertices[c] for c in ("x", "y", "z")], 1), truth[5], atol=1e-6)
    assert (faces == fitted.head.dense_faces.numpy()).all()


@pytest.mark.parametrize("given, says", [
    ({"clip": "faceless"}, "no landmarks of faceless: not there yet, run `expportrait landmarks` first"),
    ({"mesh": "obj"}, "glb, ply or none"), ({"mesh": "none", "sequence": True}, "--sequence"),
    ({"frames": "7:"}, "the frames 0 to 6"), ({"frames": "a:b"}, "write it as a:b"), ({"frames": "-2:"}, "0 to 6"),
])  # fmt: skip
def test_mistakes_end_in_one_sentence(given, says, results, tmp_path):
    with pytest.raises(UserError, match=says) as error:
        show_proxy(**({"clip": "long", "results": results, "out": tmp_path / "out"} | given))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_too_many_keyframes_are_refused_at_once(results, tmp_path, monkeypatch):
    monkeypatch.setattr("expportrait.show.proxy.MOST", 3)
    with pytest.raises(UserError, match=r"7 keyframes .* add --every 3"):
        show_proxy("long", results, tmp_path / "out", sequence=True)
    assert not (tmp_path / "out").exists()
    assert show_proxy("long", results, tmp_path / "out", "0:1", sequence=True, every=3)


def test_a_changed_head_is_told(results, tmp_path):
    make_clip(tmp_path, "a", frames=1)
    store = tmp_path / "proxy/a.zarr/zarr.json"
    store.write_text(store.read_text().replace('"head_sha256": "', '"head_sha256": "0'))
    with pytest.raises(UserError, match="another head file"):
        show_proxy("a", tmp_path, tmp_path / "out")


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_frames_are_pythons_slices(count, a, b):
    expected = range(count)[a:b]
    if len(expected):
        assert parse_frames(f"{a}:{b}", count) == (expected[0], expected[-1] + 1)
    elif b:  # an empty end means up to the last
        with pytest.raises(UserError):
            parse_frames(f"{a}:{b}", count)


def test_the_command(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text("clip,dataset,source\nportrait,mine,a.mp4\n")
    (tmp_path / "my.yaml").write_text(yaml.safe_dump({"results": str(results)}))
    said = CliRunner().invoke(app, ["show", "proxy", "portrait", "--manifest", "my.csv", "--mesh", "none"])
    assert said.exit_code == 0, said.output
    assert f"wrote {results}/show/portrait.png" in said.output and (results / "show/portrait.png").exists()
    assert torch.is_grad_enabled()
