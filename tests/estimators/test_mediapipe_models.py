import os

import numpy as np
import pytest

from expportrait.estimators.mediapipe_models import SelfieSegmenter, quiet
from tests.video import make


def test_the_person_is_told_from_the_wall():
    segmenter = SelfieSegmenter()
    frame = make.scene(512, 512, (100, 150, 1.2))
    mask = segmenter.segment(frame)
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    assert mask[250:400, 230:330].mean() > 0.9  # the face
    assert mask[:100].mean() < 0.1
    segmenter.segment(make.wall(512, 512))
    np.testing.assert_array_equal(segmenter.segment(frame), mask)  # each frame by itself


def test_a_failure_while_loading_shows_what_was_hidden(capfd):
    with pytest.raises(RuntimeError), quiet():
        os.write(2, b"model file is damaged\n")
        raise RuntimeError
    with quiet():
        os.write(2, b"harmless\n")
    assert capfd.readouterr().err == "model file is damaged\n"
