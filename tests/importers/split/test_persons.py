import numpy as np

from expportrait.importers.split.persons import persons


def rows(seed, *people):
    """A row for each name: its own direction, and some noise."""
    dice = np.random.default_rng(seed)
    found = []
    for person in people:
        own = np.random.default_rng(person).normal(size=128)
        row = own / np.linalg.norm(own) + 0.03 * dice.normal(size=128)
        found.append(row / np.linalg.norm(row))
    return found


def test_people_are_found_again_within_a_video_and_in_others():
    films = [rows(1, 7, 8, 7), rows(2, 9, 8), rows(3, 9)]
    assert persons(films) == [[(0, 0), (0, 1), (0, 0)], [(1, 0), (0, 1)], [(1, 0)]]


def test_a_clip_without_a_face_that_is_recognised_is_nobody():
    films = [[None, *rows(1, 7)], [None], []]
    assert persons(films) == [[None, (0, 0)], [None], []]


def test_a_video_that_comes_last_changes_nobody_before_it():
    films = [rows(1, 7, 8), rows(2, 9)]
    assert persons([*films, rows(3, 8, 10)])[:2] == persons(films)
