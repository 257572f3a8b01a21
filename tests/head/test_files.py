"""Reading model files of users, writing ours."""

import numpy as np
import pytest
import torch

from expportrait.errors import UserError
from expportrait.head import Head
from expportrait.head.layout import split_directions
from expportrait.head.smplx import export
from tests.head.real_sizes import EYEBALL


def test_open_head_is_small_and_complete(head):
    from expportrait.head.layout import OPEN_HEAD

    assert OPEN_HEAD.stat().st_size < 2.6e6
    assert OPEN_HEAD.with_name("NOTICE").exists()
    assert (head.n_shape, head.n_expression) == (100, 40)
    assert head.landmarks.template.shape == (478, 3)
    torch.testing.assert_close(head.coarse.weights.sum(1), torch.ones(len(head.coarse.weights)))
    torch.testing.assert_close(head.joint_template[0], torch.zeros(3), atol=1e-5, rtol=0)  # the neck is the origin


def test_exported_file_loads_in_smplx_and_comes_back(head, tmp_path):
    smplx = pytest.importorskip("smplx")
    file = export(tmp_path / "smplx" / "SMPLX_NEUTRAL.npz", compress=False)
    model = smplx.create(
        str(tmp_path), "smplx", ext="npz", use_pca=False, num_betas=20, num_expression_coeffs=10, use_face_contour=True
    )
    out = model(betas=torch.randn(1, 20))
    assert out.vertices.shape == (1, 13886, 3) and torch.isfinite(out.joints).all()
    neutral = model()
    chin, nose_tip, mouth_corner = (neutral.joints[0, 76 + k] for k in (51 + 8, 13, 31))  # iBUG 8, 30, 48
    assert chin[1] < mouth_corner[1] < nose_tip[1]
    assert neutral.joints[0, 55, 2] > neutral.joints[0, 15, 2] + 0.08  # the hard-coded nose vertex lies on the nose
    again = Head.load(file)
    torch.testing.assert_close(again.dense.shape_basis, head.dense.shape_basis)
    torch.testing.assert_close(again.landmarks.template, head.landmarks.template)
    assert again.unit_names == head.unit_names and again.sha256 != head.sha256
    assert torch.equal(again.regions, head.regions)


def test_fewer_components(head):
    small = Head.load(subdivisions=0, shape_components=7, expression_components=5)
    assert (small.n_shape, small.n_expression) == (7, 5)
    torch.testing.assert_close(small.coarse.shape_basis, head.coarse.shape_basis[..., :7])
    assert small.expression_of({"smile": 1.0}).shape == (5,) and small.activation_matrix is None


@pytest.mark.parametrize("components", [10, 41])
def test_expressions_that_were_changed_in_a_file_do_not_tell_its_units(exported, tmp_path, components):
    """An exported head whose later expressions were taken out, or that has another one."""
    directions = exported["shapedirs"].copy()
    directions[..., 310:] = 0 if components == 10 else directions[..., 310:]
    directions[..., 300 + components - 1] = directions[..., 301]
    changed = Head.load(_save(tmp_path / "head.npz", **(exported | {"shapedirs": directions})), subdivisions=0)
    assert changed.n_expression == components
    assert changed.activation_matrix is None and changed.bounded_units is None


def test_old_files_have_ten_shape_and_ten_expression_components():
    assert split_directions(400) == (slice(0, 300), slice(300, 400))
    assert split_directions(20) == (slice(0, 10), slice(10, 20))


def _save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("case, says", [
    ("missing", "no head model"), ("flame.pkl", ".pkl"), ("text.npz", "not a readable .npz"),
    ("flame.npz", "lacks .*kintree_table"), ("smpl.npz", "SMPL does"), ("vertices.npz", "disagree"),
])  # fmt: skip
def test_wrong_files_say_what_is_wrong(case, says, exported, tmp_path):
    file = tmp_path / case
    if case == "flame.pkl":
        file.write_bytes(b"\x80\x02")
    elif case == "text.npz":
        file.write_text("not a zip")
    elif case == "flame.npz":
        _save(file, v_template=np.zeros((5023, 3)), shapedirs=np.zeros((5023, 3, 4)))
    elif case in ("smpl.npz", "vertices.npz"):
        n = 50
        arrays = {
            "v_template": np.zeros((n, 3)),
            "f": np.zeros((9, 3), int),
            "shapedirs": np.zeros((n, 3, 20)),
            "posedirs": np.zeros((n, 3, 486)),
            "J_regressor": np.zeros((55, n)),
            "weights": np.zeros((n, 55)),
            "kintree_table": np.zeros((2, 55)),
        }
        if case == "smpl.npz":
            arrays |= {"J_regressor": np.zeros((24, n)), "weights": np.zeros((n, 24))}
        else:
            arrays["weights"] = np.zeros((n + 1, 55))
        _save(file, **arrays)
    with pytest.raises(UserError, match=says) as error:
        Head.load(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_file_of_the_real_sizes(real_shape_file, head):
    """10,475 vertices and 20,908 faces, without the keys that only our files have."""
    with np.load(real_shape_file) as arrays:
        assert arrays["v_template"].shape == (10475, 3) and arrays["f"].shape == (20908, 3)
    user = Head.load(real_shape_file)
    assert user.landmarks is None and user.unit_matrix is user.activation_matrix is None
    other = 2 * (EYEBALL - 72) - 362  # finer eyeballs, neither teeth nor tongue
    assert abs(len(user.coarse.template) - (len(head.coarse.template) + other)) < 50
    torch.testing.assert_close(user.joint_template[1:10], head.joint_template[1:10], atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="open head only"):
        user.expression_of({"smile": 1.0})
