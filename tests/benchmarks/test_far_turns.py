"""A painted film of a head that turns to 80 degrees, through the real detector."""

import numpy as np
import pytest
import torch
from benchmarks.truth_film import film
from benchmarks.truth_observe import observe
from benchmarks.truth_scores import facial
from benchmarks.truth_turns import detected, pose_error, there_and_back, turned_clip

from expportrait.estimators.head_landmarks import load_head
from expportrait.estimators.landmarks.mediapipe import LandmarkDetector
from expportrait.fit.proxy import fit_proxy
from expportrait.settings.config import Proxy


@pytest.mark.long
def test_a_profile_that_the_detector_loses_is_found_again() -> None:
    torch.set_num_threads(1)
    head, angle = load_head(), there_and_back(80, 18)
    clip = turned_clip(head, 0, angle, np.zeros(18))
    pictures = film(head, clip, 0, 0)
    points, confidence, missing = detected(pictures, LandmarkDetector())
    assert missing[angle > 75].any() and not missing[angle < 50].any()
    given = [torch.from_numpy(x) for x in (points, confidence)]
    fit = fit_proxy(head, observe(clip, (0, 0), True)[0], *given, Proxy(offsets="none"), pictures=pictures)
    p, face = fit.parameters, facial(head)
    vertices = head.pose(head.dense, p.shape, p.expression, p.matrices(), p.translation())[:, face]
    error = pose_error(vertices.double().numpy(), clip.vertices[:, face])
    assert error.max() < 8
    assert fit.landmarks_aside[missing].all() and not fit.landmarks_aside[angle < 30].any()
