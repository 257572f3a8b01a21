"""What holds of runs, parts and pieces whatever they are made of."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from expportrait.importers.split.runs import parts, pieces, ranges, runs


@given(st.lists(st.booleans(), max_size=60), st.lists(st.floats(0.01, 1), min_size=60, max_size=60), st.floats(0, 3))
def test_runs_hold_all_that_is_usable_and_no_long_gap(flags, steps, gap):
    times = [sum(steps[:n]) for n in range(len(flags))]
    found = runs(flags, times, gap)
    inside = [n for a, b in found for n in range(a, b)]
    assert inside == sorted({*inside}) and {n for n, usable in enumerate(flags) if usable} <= {*inside}
    for a, b in found:
        assert flags[a] and flags[b - 1]
        usable = [n for n in range(a, b) if flags[n]]
        assert all(y == x + 1 or times[y] - times[x] <= gap for x, y in pairwise(usable))
    for (_, end), (start, _) in pairwise(found):
        assert start > end and times[start] - times[end - 1] > gap, "what could be one run is one"


@given(st.lists(st.floats(0.01, 0.2), min_size=1, max_size=200), st.floats(0.5, 5), st.data())
def test_parts_cover_a_run_and_are_of_nearly_one_length(steps, longest, data):
    times = [0.0]
    for step in steps:
        times.append(times[-1] + step)
    first = data.draw(st.integers(0, len(steps) - 1))
    end = data.draw(st.integers(first + 1, len(steps)))
    found = parts(first, end, times, longest)
    assert [t for a, b in found for t in range(a, b)] == [*range(first, end)]
    lengths = [times[b] - times[a] for a, b in found]
    assert max(lengths) <= longest + 0.2 + 1e-6, "the longest by at most a frame"
    assert max(lengths) - min(lengths) <= 0.4 + 1e-6
    if times[end] - times[first] <= longest:
        assert len(found) == 1


RANGE = st.tuples(st.integers(0, 80), st.integers(1, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(RANGE, st.lists(st.integers(0, 100), max_size=8), st.lists(RANGE, max_size=4))
def test_shots_and_dissolves_cover_each_frame_once(section, cuts, blends):
    first, end = section
    apart = []
    for a, b in sorted(blends):
        if not apart or a > apart[-1][1]:
            apart.append((a, b))
    shots, inside = pieces(first, end, cuts, apart)
    assert sorted(t for a, b in shots + inside for t in range(a, b)) == [*range(first, end)]
    mixed = {t for a, b in apart for t in range(a, b)}
    assert all(not mixed & {*range(a, b)} for a, b in shots)
    for cut in cuts:
        assert not any(a < cut < b for a, b in shots), "no shot goes on through a cut"


@given(st.lists(st.sampled_from("ab"), max_size=30), st.integers(0, 50))
def test_ranges_say_the_labels_again(labels, first):
    found = ranges(labels, first)
    assert [label for a, b, label in found for _ in range(a, b)] == labels
    assert all(x[1] == y[0] and x[2] != y[2] for x, y in pairwise(found))
