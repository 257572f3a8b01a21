import numpy as np

from expportrait.estimators.landmarks.quality import before_face, longest_run, unsure


def test_unsure_frames_and_runs():
    confidence = np.full((3, 100), 0.9)
    confidence[1, :20], confidence[2, :30] = 0.1, 0.1
    assert unsure(confidence).tolist() == [False, False, True]
    assert [longest_run(np.array(flags, bool)) for flags in ([], [0], [1], [1, 1, 0, 1], [0, 1, 1, 1])] == [
        0,
        0,
        1,
        2,
        3,
    ]


def test_a_hand_before_the_face():
    points = np.random.default_rng(0).uniform([150, 150, -50], [250, 250, 50], (478, 3))
    away, near = np.full((1, 21, 2), 400.0), np.full((1, 21, 2), 400.0)
    near[0, :4] = 200
    assert not before_face(np.empty((0, 21, 2)), points) and not before_face(away, points)
    assert before_face(np.concatenate([away, near]), points)
