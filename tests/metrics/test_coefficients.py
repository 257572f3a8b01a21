"""AED and APD from files that the user's tracker wrote."""

import numpy as np
import pytest
from scipy.io import savemat

from expportrait.errors import ClipError, UserError
from expportrait.metrics.motion import aed, apd, jaw
from expportrait.metrics.pair import measure
from expportrait.metrics.tools import Tools, read_tracks
from expportrait.settings.config import Evaluate

from .stand_ins import Distance, Faces, Likeness

ABOUT = {"pair": "ann__bob", "target": "ann", "driver": "bob"}


def smirk(folder, name, frames=6, expression=0.0, turn=(0, 0, 0), **changes):
    arrays = {
        "expression_params": np.full((frames, 50), expression),
        "pose_params": np.tile(np.array(turn, float), (frames, 1)),
        "jaw_params": np.tile([0.1 * (1 + expression), 0, 0], (frames, 1)),
    } | changes
    np.savez(folder / f"{name}.npz", **{name: array for name, array in arrays.items() if array is not None})


@pytest.fixture
def files(tmp_path):
    smirk(tmp_path, "ann__bob", expression=0.5, turn=(0, 0.3, 0))
    smirk(tmp_path, "bob", frames=9)
    smirk(tmp_path, "ann", expression=2.0)
    return tmp_path


def read(folder, tracker="smirk"):
    return read_tracks(Evaluate(tracker=tracker, tracks=folder), ABOUT, [0, 2, 4], 3, 6)


def test_differences_are_of_the_frames_measured(files):
    tracks = read(files)
    result, driver, still = tracks.moves
    np.testing.assert_allclose(aed(result, driver), [0.5] * 3)
    np.testing.assert_allclose(apd(result, driver), [0.1] * 3)
    np.testing.assert_allclose(jaw(result, driver), [0.05] * 3)
    assert still.expression.shape == (1, 50)
    about = tracks.backends["aed"]
    assert {"backend", "files", "norm", "unit", "reduction"} <= set(about) and len(about["files"]["result"]) == 64


def test_deep3d_has_angles_and_no_jaw(tmp_path):
    for name, value in (("ann__bob", 0.2), ("bob", 0.0), ("ann", 0.0)):
        savemat(tmp_path / f"{name}.mat", {"exp": np.full((6, 64), value), "angle": np.full((6, 3), value)})
    tracks = read(tmp_path, "deep3d")
    assert "jaw" not in tracks.backends
    result, driver, _ = tracks.moves
    np.testing.assert_allclose(apd(result, driver), [0.2] * 3)
    np.testing.assert_allclose(aed(result, driver), [0.2] * 3)


def test_frames_without_a_face_give_no_number(files):
    expression = np.zeros((9, 50))
    expression[2] = np.nan
    smirk(files, "bob", 9, expression_params=expression)
    np.testing.assert_array_equal(np.isnan(aed(*read(files).moves[:2])), [False, True, False])


def test_files_that_do_not_fit_are_the_pairs_reason(files):
    smirk(files, "bob", frames=5)
    with pytest.raises(ClipError, match=r"bob.npz: expression_params has shape \(5, 50\), not \(6 or more, any\)"):
        read(files)
    smirk(files, "bob", jaw_params=None)
    with pytest.raises(ClipError, match=r"bob.npz has no jaw_params, which smirk gives"):
        read(files)
    (files / "bob.npz").write_text("no zip")
    with pytest.raises(ClipError, match=r"bob.npz cannot be read"):
        read(files)
    (files / "bob.npz").unlink()
    with pytest.raises(ClipError, match=r"has neither bob.npz nor bob.mat"):
        read(files)
    smirk(files, "bob", expression_params=np.zeros((6, 40)))
    with pytest.raises(ClipError, match=r"with \[40, 50\] coefficients: of two trackers"):
        read(files)
    with pytest.raises(UserError, match=r"evaluate.tracker is smirk: set evaluate.tracks"):
        read(None)
    assert read(None, "own") is None


def test_numbers_and_their_record_come_from_the_files(files):
    made = np.zeros((3, 64, 64, 3), np.uint8)
    tools = Tools(Faces(), None, Distance(), Likeness())  # without a tracker: it may not be asked
    scores = measure(tools, made, made, made[0], own=False, tracks=read(files))
    row = scores["generated"].fields()
    assert (row["aed"], row["apd"], row["jaw"]) == pytest.approx((0.5, 0.1, 0.05))
    assert scores["copy reference"].fields()["aed"] == pytest.approx(2.0)
    assert row["backends"]["apd"]["backend"] == "coefficient files of smirk, given by the user"
    assert row["gaze"] is None and row["reasons"]["gaze"] == "evaluate.tracker: smirk gives no gaze"
    again = scores["noise floor"].fields()
    assert again["aed"] is None and "no coefficient files of smirk of these pictures" in again["reasons"]["aed"]
