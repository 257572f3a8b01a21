"""Clips of sections whose faces are made up: which of them are usable, whose they are, and that no frame is lost."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from expportrait.importers.split.clips import clips_of
from expportrait.importers.split.watch import Sample, Section
from expportrait.settings.config import Config

FPS, EVERY = 25, 5
CONFIG = Config(split={"min_seconds": 1, "max_seconds": 4, "min_face": 100})


def face(x, y=100.0, side=150.0, roll=0.0, outside=0.0):
    """A row as ``Section.faces`` has it."""
    return [x, y, x + side, y + side, 0.9, roll, outside]


def picture(person):
    """What stands for a face of that person."""
    return np.full((112, 112, 3), person, np.uint8)


def embed(faces):
    rows = [np.random.default_rng(int(one[0, 0, 0])).normal(size=128) for one in faces]
    return np.array([row / np.linalg.norm(row) for row in rows]).reshape(len(rows), 128)


def section(count, looks, cuts=(), blends=(), light=100.0, who=lambda t, k: k):
    """``looks``: frame -> faces; one face a second is sampled, person ``who(frame, place in the look)``."""
    faces = {t: np.array(looks(t), np.float64).reshape(-1, 7) for t in range(0, count, EVERY)}
    samples = {
        t: [Sample(row[:4], picture(1 + who(t, k)), 100.0, 120.0) for k, row in enumerate(found)]
        for t, found in faces.items()
        if t % FPS == 0
    }
    times = [n / FPS for n in range(count + 1)]
    return Section(0, count, times, [*cuts], [*blends], faces, dict.fromkeys(faces, light), samples)


def spans(clips):
    return [(round(clip.start * FPS), round(clip.end * FPS)) for clip in clips]


def reasons(left):
    return {(round(one.start * FPS), round(one.end * FPS), one.reason) for one in left}


def test_two_people_side_by_side_are_two_clips():
    clips, left = clips_of(section(75, lambda t: [face(100), face(500)]), CONFIG, embed)
    assert spans(clips) == [(0, 75), (0, 75)] and left == []
    assert [clip.face[0] for clip in clips] == [100, 500]
    assert clips[0].row @ clips[1].row < 0.5


def test_long_runs_are_cut_into_equal_parts_and_short_ones_left_out():
    clips, left = clips_of(section(270, lambda t: [face(100)], cuts=[250]), CONFIG, embed)
    assert spans(clips) == [(0, 83), (83, 167), (167, 250)]
    assert reasons(left) == {(250, 270, "the face is there too briefly")}


def test_dissolves_are_nobodys_and_black_is_called_black():
    clips, left = clips_of(section(100, lambda t: [face(100)] if t < 60 else [], blends=[(60, 72)]), CONFIG, embed)
    assert spans(clips) == [(0, 60)]
    assert reasons(left) == {(60, 72, "a dissolve or fade"), (72, 100, "no face")}
    _, left = clips_of(section(50, lambda t: [], light=3.0), CONFIG, embed)
    assert reasons(left) == {(0, 50, "a black picture")}


def test_faces_that_are_not_usable_are_left_out_with_the_reason():
    for row, reason in (
        (face(100, side=60), "the face is too small"),
        (face(100, roll=80), "the face is rolled too far"),
        (face(-80, outside=0.5), "the face is cut off by the picture's edge"),
    ):
        clips, left = clips_of(section(50, lambda t, row=row: [row]), CONFIG, embed)
        assert clips == [] and reasons(left) == {(0, 50, reason)}
        assert left[0].count == 1 and left[0].size == row[2] - row[0]


def test_a_pattern_that_nobody_recognises_is_left_out():
    made = section(75, lambda t: [face(100), face(500)])
    for found in made.samples.values():
        found[1].aligned = None
    clips, left = clips_of(made, CONFIG, embed)
    assert [clip.face[0] for clip in clips] == [100]
    assert reasons(left) == {(0, 75, "what the detectors take for a face is not recognised as one")}


def test_who_takes_the_place_of_somebody_without_a_cut_ends_the_clip():
    made = section(200, lambda t: [face(100)], who=lambda t, k: 5 * (t >= 100))
    clips, left = clips_of(made, CONFIG, embed)
    assert all(clip.end <= 100 / FPS or clip.start >= 100 / FPS for clip in clips) and len(clips) == 2
    assert reasons(left) == {(76, 100, "another person takes over")}


def test_a_face_that_is_lost_for_long_divides_and_for_short_does_not():
    clips, left = clips_of(section(100, lambda t: [] if t == 50 else [face(100)]), CONFIG, embed)
    assert spans(clips) == [(0, 100)] and left == []
    clips, left = clips_of(section(150, lambda t: [] if 50 <= t < 80 else [face(100)]), CONFIG, embed)
    assert spans(clips) == [(0, 46), (80, 150)]
    assert reasons(left) == {(46, 80, "the face is not found")}


FACE = st.builds(face, st.sampled_from([0, 300, 600]), side=st.sampled_from([60, 99, 140, 150, 230]),
                 roll=st.sampled_from([0, 70]), outside=st.sampled_from([0, 0.3]))  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(st.data(), st.integers(1, 150))
def test_every_frame_is_in_a_clip_or_left_out(data, count):
    looks = {t: data.draw(st.lists(FACE, max_size=3, unique_by=lambda row: row[0])) for t in range(0, count, EVERY)}
    cuts = data.draw(st.lists(st.integers(1, 150), max_size=3))
    blends = [(30, 41)] if data.draw(st.booleans()) else []
    person = {t: data.draw(st.integers(0, 2)) for t in looks}
    made = section(count, looks.get, cuts, blends, who=lambda t, k: 3 * k + person[t])
    clips, left = clips_of(made, CONFIG, embed)
    seen = np.zeros(count, int)
    for first, end in spans(clips) + [(a, b) for a, b, _ in reasons(left)]:
        assert 0 <= first < end <= count
        seen[first:end] += 1
    assert seen.all()
    for clip in clips:
        assert 1 - 1e-6 <= clip.end - clip.start <= 4 + 1 / FPS and clip.frames == round((clip.end - clip.start) * FPS)
        assert clip.face_size >= CONFIG.split.min_face
        first, end = spans([clip])[0]
        assert not any(first < cut < end for cut in cuts if not any(a <= cut <= b for a, b in blends))
