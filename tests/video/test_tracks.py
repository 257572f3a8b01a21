import numpy as np
import pytest

from expportrait.video.tracks import Doubt, Track, link

SIDE, EVERY, COUNT = 100.0, 5, 100  # px of a face; frames between two looks, of a shot


def boxes(*corners, side=SIDE):
    return np.array([[x, y, x + side, y + side] for x, y in corners])


def test_a_track_follows_one_of_two_faces():
    left = {t: (100 + 2 * t, 100) for t in range(0, 50, 5)}
    both = {t: [boxes((700, 100), side=60), boxes(left[t])] for t in left}
    faces = {t: np.vstack(both[t][:: 1 if t % 2 else -1]) for t in left}  # in changing order
    tracks = link((0, 50), faces)
    assert [track.size for track in tracks] == [100, 60]  # the larger one is the more prominent
    assert [tuple(box[:2]) for box in tracks[0].boxes] == list(left.values())
    assert (tracks[0].start, tracks[0].end, tracks[0].coverage) == (0, 50, 1)


def test_a_track_begins_and_ends_with_its_face():
    faces = {t: boxes((100, 100)) if 20 <= t <= 60 else np.empty((0, 4)) for t in range(0, 100, 5)}
    (track,) = link((0, 100), faces)
    assert (track.start, track.end, track.coverage) == (20, 61, 1)


def test_frames_without_the_face_count():
    faces = {t: boxes((100, 100)) if t % 10 == 0 else np.empty((0, 4)) for t in range(0, 101, 5)}
    (track,) = link((0, 101), faces)
    assert track.coverage == pytest.approx(11 / 21)


def test_a_jump_is_another_face():
    faces = {t: boxes((100, 100) if t < 50 else (400, 100)) for t in range(0, 80, 5)}
    first, second = link((0, 80), faces)
    assert (first.start, first.end, second.start, second.end) == (0, 46, 50, 80)
    faces = {t: boxes((100, 100), side=100 if t < 50 else 200) for t in range(0, 80, 5)}
    assert len(link((0, 80), faces)) == 2


def test_only_faces_of_the_shot_count():
    faces = {t: boxes((100, 100)) for t in range(0, 80, 5)}
    (track,) = link((12, 33), faces)
    assert (track.start, track.end, track.frames) == (12, 33, [15, 20, 25, 30])
    assert link((1, 4), faces) == []


def test_of_faces_side_by_side_each_keeps_its_track():
    """Closer together than a face may move, and found in changing order."""
    faces = {t: boxes((100 + 8 * np.sin(t), 100), (185, 105))[:: 1 if t % 2 else -1] for t in range(0, COUNT, EVERY)}
    tracks = link((0, COUNT), faces)
    assert [(track.start, track.end, track.coverage) for track in tracks] == [(0, COUNT, 1)] * 2
    assert all(np.ptp(track.boxes[:, 0]) < 20 for track in tracks)


def test_a_face_that_moves_fast_is_followed():
    """Faster and faster, until it moves by twice its side from one look to the next."""
    x = np.cumsum(np.linspace(0, 2 * SIDE, 20))
    (track,) = link((0, COUNT), {t: boxes((x[t // EVERY], 100)) for t in range(0, COUNT, EVERY)})
    assert (track.start, track.end, track.coverage) == (0, COUNT, 1)


def test_someone_who_walks_past_far_away_leaves_the_track_whole():
    faces = {t: np.vstack([boxes((400, 100)), boxes((10 * t, 120), side=50)]) for t in range(0, COUNT, EVERY)}
    track = link((0, COUNT), faces)[0]
    assert (track.start, track.end, track.coverage, track.size) == (0, COUNT, 1, SIDE)


def looks(kind, speed, seed):
    """Two people who ``cross``, ``meet`` and part, or of whom one stands while the other comes past (``behind`` it or
    before it). ``speed``: sides a look, against each other. Rows: box, score, who it is. Where they overlap by more
    than some share only the one in front is found; boxes are off by some per cent, in changing order."""
    random = np.random.default_rng(seed)
    sides, t = SIDE * random.uniform(0.9, 1.1, 2), np.arange(COUNT)
    apart = speed / EVERY * SIDE * (t - COUNT / 2 - random.uniform(-EVERY, EVERY) / 2)
    x = {"cross": (apart / 2, -apart / 2), "meet": (-abs(apart) / 2 - 10, abs(apart) / 2 + 10),
         "behind": (0 * apart, -apart)}[kind]  # fmt: skip
    below, front, hidden = random.uniform(-40, 40), random.integers(2), SIDE * random.uniform(0.3, 0.9)
    faces = {}
    for frame in t[::EVERY]:
        middle = [np.array([x[who][frame], below * who]) + random.normal(0, 3, 2) for who in range(2)]
        seen = [front] if np.linalg.norm(middle[0] - middle[1]) < hidden else random.permutation(2)
        half = {who: np.array([0.4, 0.5]) * sides[who] * random.uniform(0.95, 1.05) for who in seen}
        faces[frame] = np.array([[*(middle[w] - half[w]), *(middle[w] + half[w]), 0.9, w] for w in seen], np.float32)
    return faces


@pytest.mark.parametrize("speed", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["cross", "meet", "behind"])
def test_no_track_has_faces_of_two_people(kind, speed):
    lengths = []  # tracks of two looks are too short for a clip
    for seed in range(40):
        tracks = link((0, COUNT), looks(kind, speed, seed))
        assert all(len({face[5] for face in track.faces}) == 1 for track in tracks if len(track.frames) > 2), seed
        lengths.append(max(track.end - track.start for track in tracks))
    assert np.median(lengths) > 35  # what is one person's stays together


def steady(count=20):
    """Looks of one face that hardly moves."""
    return {t: boxes((100 + t / 5, 100)) for t in range(0, 5 * count, EVERY)}


def test_a_face_that_is_always_there_is_beyond_doubt():
    faces = {t: np.vstack([box, boxes((300, 100))]) for t, box in steady().items()}  # somebody sits beside it
    assert [track.doubts(faces) for track in link((0, COUNT), faces)] == [[], []]


def test_a_gap_a_jump_and_another_size_are_doubts():
    faces = steady() | {20: np.empty((0, 4)), 25: np.empty((0, 4))}
    for t in range(60, COUNT, EVERY):
        faces[t] = faces[t] + [70, 0, 70, 0]
    for t in range(80, COUNT, EVERY):
        faces[t] = faces[t] + [-20, -20, 20, 20]
    (track,) = link((0, COUNT), faces)
    assert [(track.frames[a], track.frames[b]) for a, b in track.doubts(faces)] == [(15, 30), (55, 60), (75, 80)]


def test_a_face_behind_another_one_is_a_doubt_from_before_it_until_after_it():
    faces = steady()
    for t in range(40, 56, EVERY):  # larger by so much that no track changes over to it
        faces[t] = np.vstack([faces[t], boxes((150, 40), side=2 * SIDE)])
    track = next(track for track in link((0, COUNT), faces) if track.size == SIDE)
    (doubt,) = track.doubts(faces)
    assert (track.frames[doubt.before], track.frames[doubt.after]) == (35, 60)
    always = {t: np.vstack([box, boxes((150, 40), side=2 * SIDE)]) for t, box in steady().items()}
    assert not any(track.doubts(always) for track in link((0, COUNT), always))


def test_a_track_is_divided_at_its_doubts():
    faces = steady() | {20: np.empty((0, 4)), 25: np.empty((0, 4))}
    (track,) = link((0, COUNT), faces)
    (gap,) = track.doubts(faces)
    first, second = track.divided([gap], faces)
    assert (first.start, first.end, second.start, second.end) == (0, 16, 30, COUNT)
    assert first.frames + second.frames == track.frames and first.coverage == second.coverage == 1
    hidden = Doubt(first.frames.index(5), len(first.frames))  # with looks within it that are nobody's
    parts = track.divided([hidden], faces)
    assert [part.frames for part in parts] == [[0, 5], second.frames]
    (whole,) = track.divided([], faces)
    assert (whole.start, whole.end, whole.looked) == (track.start, track.end, track.looked)


def test_tracks_that_end_at_a_meeting_may_be_joined_through_it():
    """The looks between have the face that lies on the way."""
    faces = steady()
    first = Track(0, 21, [0, 5, 10, 15, 20], [faces[t][0] for t in range(0, 25, EVERY)], looked=5)
    later = Track(40, COUNT, [*range(40, COUNT, EVERY)], [faces[t][0] for t in range(40, COUNT, EVERY)], looked=12)
    faces[30] = np.vstack([boxes((180, 100)), faces[30]])
    faces[35] = boxes((180, 100))  # somebody else alone
    assert first.may_go_on_as(later, EVERY) and not later.may_go_on_as(first, EVERY)
    whole = first.joined(later, faces)
    assert (whole.start, whole.end, whole.looked) == (0, COUNT, 20)
    assert [t for t in range(0, COUNT, EVERY) if t not in whole.frames] == [35]
    np.testing.assert_array_equal(whole.faces[whole.frames.index(30)], faces[30][1])
    np.testing.assert_allclose(first.way_to(later, [30])[0], boxes((106, 100))[0])


@pytest.mark.parametrize("change", [(300, 0, 0), (0, 0, 80), (0, 60, 0)])
def test_tracks_that_are_far_apart_are_not_asked_about(change):
    aside, after, larger = change
    first = Track(0, 21, [0, 20], [boxes((100, 100))[0]] * 2, looked=5)
    start = 40 + after
    later = Track(
        start, start + 6, [start, start + 5], [boxes((100 + aside, 100), side=SIDE + larger)[0]] * 2, looked=2
    )
    assert not first.may_go_on_as(later, EVERY)
