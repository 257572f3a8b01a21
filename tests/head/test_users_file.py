"""A user's SMPL-X file by path, all the way: a file of exactly the real one's sizes and keys, through ``head check``,
the fit and the control maps."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from benchmarks.made_heads import make_truth
from typer.testing import CliRunner

from expportrait.engine.loop import run
from expportrait.errors import UserError
from expportrait.head import Head, embedding
from expportrait.head.topology import components, edges_of
from expportrait.manifest.clips import Row
from expportrait.settings.config import Config
from expportrait.show.head_commands import check, info
from expportrait.show.proxy import show_proxy
from expportrait.stages import with_code
from expportrait.store import Store, StoreWriter, encode_normals
from tests.head.real_sizes import EYEBALL, FACES, SKIN, VERTICES

SIZE, FRAMES = 96, 3


@pytest.fixture
def users(real_shape_file, users_cache, monkeypatch):
    monkeypatch.setenv("EXPPORTRAIT_CACHE", str(users_cache))
    return Head.load(real_shape_file)


def test_the_file_is_like_the_real_one(real_shape_file):
    """Counts, parts, keys; a clean mesh without doubled faces or edges of three faces; nothing that is ours."""
    with np.load(real_shape_file, allow_pickle=True) as file:
        arrays = dict(file)
    assert arrays["v_template"].shape == (VERTICES, 3) and arrays["f"].shape == (FACES, 3)
    assert arrays["shapedirs"].shape == (VERTICES, 3, 400) and arrays["shapedirs"].any((0, 1)).all()
    assert arrays["posedirs"].shape == (VERTICES, 3, 486) and arrays["posedirs"].any((0, 1)).all()
    faces = arrays["f"].astype(np.int64)
    assert sorted(np.bincount(components(faces, VERTICES))) == [EYEBALL, EYEBALL, SKIN]
    assert len(np.unique(np.sort(faces, axis=1), axis=0)) == FACES
    assert np.bincount(edges_of(faces)[1].ravel()).max() == 2
    assert not [key for key in arrays if key.startswith(("landmark_", "unit_", "vertex_part"))]


def test_bust_equals_smplx(real_shape_file):
    """Pose correctives, 400 directions and shuffled vertices: smplx poses the same head."""
    pytest.importorskip("smplx")
    from expportrait.head import smplx_reference as reference
    from expportrait.head.smplx import rotations

    head = Head.load(real_shape_file, subdivisions=0, shape_components=300)
    g = torch.Generator().manual_seed(0)
    shape, expression = torch.randn(300, generator=g), torch.randn(2, 100, generator=g)
    pose, place = 0.4 * torch.randn(2, 10, 3, generator=g), torch.tensor([[0.1, -0.2, -1.5]]).expand(2, 3)
    ours = head.pose(head.coarse, shape, expression, rotations(pose), place)
    theirs = reference.vertices(reference.load(real_shape_file), head, shape, expression, pose, place)
    kept = head.body_vertex >= 0
    torch.testing.assert_close(ours[:, kept], theirs[:, head.body_vertex[kept]], atol=2e-5, rtol=0)


def test_check_and_info_say_what_they_found(users, real_shape_file, tmp_path, capsys):
    check(real_shape_file, tmp_path / "look.png")
    info(real_shape_file)
    said = capsys.readouterr().out
    assert "BAD" not in said and said.count("ok  ") >= 9
    assert "10475 vertices" in said and "300 of shape, 100 of expression" in said and "teeth 0" in said
    picture = cv2.imread(str(tmp_path / "look.png"))
    assert picture.shape[1] > 1900 and picture.std() > 30


def test_check_tells_a_file_of_another_size(real_shape_file, users, tmp_path, monkeypatch, capsys):
    """It loads, also where no skin is hidden (no mouth inside, as in SMPL-X), and the check sees it."""
    monkeypatch.setenv("EXPPORTRAIT_CACHE", str(tmp_path))
    with np.load(real_shape_file, allow_pickle=True) as file:
        arrays = dict(file)
    arrays["v_template"] = arrays["v_template"] * 1.6
    wrong = tmp_path / "SMPLX_WRONG.npz"
    np.savez(wrong, **arrays)
    corners = users.body_vertex[users.faces[users.landmark_faces]].numpy()  # MediaPipe need not look again
    found = embedding.Embedding(corners, users.landmark_barycentric.numpy(), np.ones(VERTICES, bool))
    embedding.write_cache(Head.load(wrong, 0).sha256, found)
    with pytest.raises(UserError, match="eye joints"):
        check(wrong, tmp_path / "look.png")
    assert "BAD eye joints" in capsys.readouterr().out


def test_fit_and_control_maps(users, real_shape_file, tmp_path):
    """Stages proxy and control with head.file: a rendered clip of the head itself is found again."""
    truth = make_truth(users, FRAMES, SIZE, hair=0.0)
    stores = {
        "crop": {"frames": np.full((FRAMES, SIZE, SIZE, 3), 90, np.uint8)},
        "landmarks": {"points": truth.points.numpy(), "confidence": np.ones((FRAMES, 478), np.float32)},
        "geometry": {
            "normals": encode_normals(truth.targets.normals.numpy()),
            "depth": truth.targets.depth.numpy().astype(np.float16),
            "mask": (255 * truth.targets.mask).byte().numpy(),
            "confidence": (255 * truth.targets.confidence).byte().numpy(),
        },
    }
    for stage, arrays in stores.items():
        with StoreWriter(tmp_path / stage / "a.zarr", {"key": stage, "depth_space": "depth", "fps": 25.0}) as out:
            for name, array in arrays.items():
                out.array(name, array)
    short = dict.fromkeys(("coarse_passes", "static_passes", "dynamic_passes", "final_passes"), 0)
    fit = short | {"min_steps": 4, "coarse_size": 64, "fine_size": SIZE, "landmark_steps": 60}
    config = Config(results=tmp_path, head={"file": real_shape_file}, proxy=fit, control={"maps": ["region", "eyes"]})
    row = Row("a", "d", "a.mp4", Path("a.mp4"))
    for stage in ("proxy", "control"):
        outcome = run(with_code(stage), [row], config)["a"]
        assert outcome.status == "ok", outcome.why
    found, maps = Store(tmp_path / "proxy/a.zarr"), Store(tmp_path / "control/a.zarr")
    assert found.attrs["head_sha256"] == users.sha256 and found["shape"].shape == (100,)
    assert found["expression"].shape == (FRAMES, 100)
    assert found["landmark_error"].mean() < 0.06
    coverage, mask = maps["coverage"] > 0, truth.targets.mask.numpy() > 0.5
    assert (coverage & mask).sum() / (coverage | mask).sum() > 0.85
    assert (maps["eyes"] > 0).any((1, 2)).all()
    regions = maps.attrs["regions"]
    assert not np.isin(maps["region"], [regions.index("teeth"), regions.index("tongue")]).any()
    assert [file.name for file in show_proxy("a", tmp_path, tmp_path / "show", "1")] == ["a.png", "a.glb"]


def test_file_stands_as_an_argument(real_shape_file, users):
    """As the page has it: ``expportrait head info FILE``."""
    import typer

    app = typer.Typer()
    app.command()(info)
    said = CliRunner().invoke(app, [str(real_shape_file)])
    assert said.exit_code == 0 and users.sha256 in said.output
