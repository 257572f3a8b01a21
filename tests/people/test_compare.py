"""Groups of made-up rows, whose people are known."""

from itertools import pairwise

import numpy as np
import pytest

from expportrait.people import compare
from expportrait.people.compare import SAME, alike, groups

WIDTH = 128


def faces(of, spread=0.5, seed=0):
    """Unit rows of people by their numbers: one direction each, and something of their own beside it. Two of a person
    have a cosine of about 1 / (1 + spread^2)."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(max(of) + 1, WIDTH))
    rows = people[list(of)] + spread * rng.normal(size=(len(of), WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def together(group):
    """The sets of rows that a grouping makes."""
    return {frozenset(np.flatnonzero(group == number).tolist()) for number in set(group.tolist())}


def test_people_are_told_apart_and_the_largest_group_comes_first():
    of = [0, 1, 1, 0, 1, 2, 1]
    group = groups(faces(of), 0.3)
    assert group.tolist() == [1, 0, 0, 1, 0, 2, 0]
    assert groups(faces([0]), 0.3).tolist() == [0] and groups(faces([0])[:0], 0.3).tolist() == []
    assert groups(faces([0, 1]), 0.3).tolist() == [0, 1] and groups(faces([0, 1]), -1).tolist() == [0, 0]


def test_more_rows_than_are_compared_with_each_other(monkeypatch):
    monkeypatch.setattr(compare, "MOST", 20)
    of = [0, 1, 2] * 40 + [3]
    found = groups(faces(of), 0.3)
    assert together(found) == together(np.array(of))


@pytest.mark.parametrize("block", [1, 7, 512])
def test_names_of_one_person_are_found_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(compare, "BLOCK", block)
    of = np.array([0, 1, 2, 0, 3, 1, 0, 4])
    rows = faces(of)
    found = alike(rows, np.arange(len(of)), 0.5)
    assert together(found.group) == together(of)
    cosines = rows @ rows.T - 2 * np.eye(len(of))
    np.testing.assert_array_equal(found.nearest, cosines.argmax(1))
    np.testing.assert_allclose(found.cosine, cosines.max(1), atol=1e-6)


def test_rows_of_one_name_are_not_brought_together_by_it():
    rows = faces([0, 0, 1])
    found = alike(rows, np.array(["a", "a", "b"]), 0.5)
    assert len(together(found.group)) == 3 and found.nearest.tolist()[2] in (0, 1)
    assert (alike(rows, np.array(["a", "a", "a"]), 0.5).nearest == -1).all()


def test_a_chain_of_neighbours_is_not_one_person():
    """Each is like the next one by 0.6, and the ends are as different as can be."""
    angles = np.arccos(0.6) * np.arange(4)
    rows = np.column_stack([np.cos(angles), np.sin(angles)])
    group = alike(rows, np.arange(4), 0.5).group
    assert len(set(group.tolist())) == 2 and group[0] == group[1] and group[2] == group[3]


def test_thousands_of_names_in_seconds():
    of = np.tile(np.arange(2000), 3)
    found = alike(faces(of), np.arange(6000), 0.5)
    assert together(found.group) == together(of)


@pytest.mark.parametrize("step", [np.float32, np.float64])
def test_copies_of_one_film_are_one_person(step):
    """Whose cosine may be a last digit above 1."""
    rows = np.random.default_rng(0).normal(size=(40, 128)).astype(step)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for row, other in pairwise(np.round(rows, 4)):
        some = np.stack([row, row, other]) / np.linalg.norm(row)
        assert groups(some, SAME).tolist() == [0, 0, 1]
        assert alike(some, np.arange(3), SAME).group.tolist() == [0, 0, 1]
