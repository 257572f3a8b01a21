"""What benchmarks/README.md says of the controls, on a coarse head and few frames."""

import pytest
import torch
from benchmarks.drive_truth import AREAS, COLUMNS, CONTROLS, measured

from expportrait.head import Head


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    head = Head.load(subdivisions=0)
    with torch.no_grad():
        rows, whole, same = measured(head, 12, head)
    assert all(value > 1e-4 for value in whole.values()), "everything moves"
    assert same, "gains of 1 give the same bytes"
    return {
        " ".join(f"{name} {value}" for name, value in of.items()): row for of, row in zip(CONTROLS, rows, strict=True)
    }


def test_the_pose_alone_moves_no_face_and_the_face_no_pose(found):
    pose, face = found["hold ['expression']"], found["hold ['pose']"]
    assert all(pose[name] < 0.02 for name in (*AREAS, "face", "jaw", "gaze")) and pose["head"] == pytest.approx(1)
    assert face["head"] < 0.02 and face["place"] < 0.02 and face["face"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("control", "its", "share"),
    [
        ("gain_expression 0.5", AREAS, 0.5), ("gain_mouth 0", ["mouth"], 0), ("gain_lids 0", ["lids"], 0),
        ("gain_brows 2", ["brows"], 2), ("gain_jaw 0", ["jaw"], 0), ("gain_gaze 0", ["gaze"], 0),
        ("gain_pose 0.5", ["head", "place"], 0.5),
    ],
)  # fmt: skip
def test_each_gain_moves_its_own_and_leaves_the_rest(found, control, its, share):
    for name in {*COLUMNS} - {"face"}:
        expected, within = (share, 0.3) if name in its else (1, 0.08)  # soft edges
        assert abs(found[control][name] - expected) < within, name
