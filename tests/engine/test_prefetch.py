"""Two clips at once: order, turns, faults, and that nothing comes out differently."""

import threading
import time

import numpy as np
import pytest

from expportrait.engine.loop import run
from expportrait.engine.prefetch import AHEAD, Stopped, Turns, ahead, by_workers, in_order, worthwhile
from expportrait.engine.stage import Stage
from expportrait.errors import ClipError, MachineFault
from tests.engine.test_loop import Bench


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    bench = Bench(tmp_path)
    bench.orders = {}
    return bench


def stage(process):
    return Stage("crop", 1, ("crop",), (), process, overlaps=True)


def test_threads_of_the_job_are_respected(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert worthwhile("cuda:0") and not worthwhile("cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert worthwhile("cpu")


def test_items_are_made_ahead_in_order_but_not_far():
    made = []
    items = ahead(made.append(i) or i for i in range(50))
    assert next(items) == 0
    time.sleep(0.1)
    assert len(made) <= 1 + AHEAD
    assert [*items] == [*range(1, 50)]


def test_what_goes_wrong_ahead_is_raised_at_its_place():
    def items():
        yield 1
        raise ClipError("no face")

    made = ahead(items())
    assert next(made) == 1
    with pytest.raises(ClipError, match="no face"):
        next(made)


def test_who_takes_no_more_ends_the_thread():
    before = threading.active_count()
    items = ahead(iter(int, 1))
    next(items)
    items.close()
    assert threading.active_count() == before


def test_what_nobody_took_from_ends_too():
    before, made = threading.active_count(), []

    def items():
        while True:
            time.sleep(0.05)
            yield made.append(0)

    ahead(items(), size=100).close()
    assert threading.active_count() == before
    assert len(made) <= 2
    assert [*ahead(range(3), wanted=False)] == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_give_things_in_order_and_are_not_far_ahead(workers):
    begun, taken, far = [], [], []

    def make(number, name):
        begun.append(number)
        time.sleep(0.002 * (number % 3 == 0))  # the first one is done last
        return number, name

    for item in by_workers(make, ((number, str(number)) for number in range(20)), workers):
        time.sleep(0.004)
        taken.append(item)
        far.append(len(begun) - len(taken))
    assert taken == [(number, str(number)) for number in range(20)]
    assert max(far) == (workers + 1 if workers else 0)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_as_many_are_at_work_at_once_as_there_are_workers(workers):
    meeting = threading.Barrier(workers, timeout=30)
    assert sum(1 for _ in by_workers(lambda _: meeting.wait(), ((n,) for n in range(4 * workers)), workers)) == (
        4 * workers
    )


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_what_goes_wrong_at_a_worker_is_raised_at_its_place_and_ends_the_others(workers):
    before, made = threading.active_count(), []

    def make(number):
        if number == 3:
            raise ClipError("no face")
        made.append(number)
        return number

    items = by_workers(make, ((number,) for number in range(10**6)), workers)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ClipError, match=r"^no face$"):
        next(items)
    with pytest.raises(StopIteration):
        next(items)
    assert threading.active_count() == before and len(made) <= 3 + workers + 1


def test_workers_end_when_nobody_wants_more():
    before = threading.active_count()
    items = by_workers(lambda number: time.sleep(0.01), ((number,) for number in range(10**6)), 4)
    next(items)
    items.close()
    assert threading.active_count() == before


def test_one_clip_is_written_while_the_next_is_computed(bench):
    seen, writing = [], threading.Event()

    def process(clip, out):
        def items():
            for number in range(3):
                seen.append(f"compute {clip.row.clip}")
                if clip.row.clip == "b":
                    assert writing.wait(10), "a is not being written"
                yield number

        assert [*clip.computed(items())] == [0, 1, 2]
        out.array("x", np.ones(3))
        seen.append(f"write {clip.row.clip}")
        if clip.row.clip == "a":
            writing.set()
            while "compute b" not in seen:
                time.sleep(0.01)

    index = run(stage(process), bench.rows, bench.config)
    assert [*index] == ["a", "b", "c"] and {outcome.status for outcome in index.values()} == {"ok"}
    computed = [line.split()[1] for line in seen if line.startswith("compute")]
    assert computed == sorted(computed) and len(computed) == 9


def test_the_next_clip_computes_when_the_last_item_is_made_not_when_it_is_taken(bench):
    started = threading.Event()

    def process(clip, out):
        for number in clip.computed(range(3), waiting=3):
            if clip.row.clip == "b":
                started.set()
            elif clip.row.clip == "a" and number == 0:
                assert started.wait(10), "b waits for a to be written"
        out.array("x", np.ones(3))

    assert {outcome.status for outcome in run(stage(process), bench.rows, bench.config).values()} == {"ok"}


def test_one_at_a_time_and_the_earliest_first():
    turns, order = Turns(), []

    def work(number):
        turns.wait(number)
        order.append(number)
        time.sleep(0.01)
        turns.leave(number)

    waiting = [threading.Thread(target=work, args=[number]) for number in (3, 1, 2)]
    for thread in waiting:
        thread.start()
    time.sleep(0.05)
    assert order == []
    turns.leave(4)  # found done before it came to its turn
    turns.leave(0)
    for thread in waiting:
        thread.join()
    turns.wait(5)
    assert order == [1, 2, 3]


def test_each_clip_keeps_its_own_failure(bench):
    def process(clip, out):
        for _ in clip.computed(range(3)):
            pass
        if clip.row.clip == "b":
            raise ClipError("no face")
        out.array("x", np.ones(3))

    index = run(stage(process), bench.rows, bench.config)
    assert [(outcome.status, outcome.why) for outcome in index.values()] == [
        ("ok", ""),
        ("failed", "no face"),
        ("ok", ""),
    ]
    assert sorted(path.name for path in (bench.config.results / "crop").iterdir()) == [
        "a.zarr",
        "b.failed.json",
        "c.zarr",
        "index.costs.jsonl",
    ]


def test_a_fault_of_the_machine_stops_the_other_clip_and_leaves_nothing_half_done(bench):
    computed = []

    def process(clip, out):
        out.array("x", np.ones(3))
        for step in clip.computed(range(1000)):
            computed.append(clip.row.clip)
            time.sleep(0.005)
            if clip.row.clip == "a" and step == 3:
                raise MemoryError("not enough")

    with pytest.raises(MachineFault):
        run(stage(process), bench.rows, bench.config)
    assert [path.name for path in (bench.config.results / "crop").iterdir()] == ["index.costs.jsonl"]
    assert len(computed) < 100 and "c" not in computed


def test_a_clip_that_fails_in_the_middle_gives_its_turn_away(bench):
    kept = []

    def process(clip, out):
        passing = clip.computed(range(3))
        kept.append(passing)  # not even closed
        next(passing)
        if clip.row.clip == "a":
            raise ClipError("no face")
        out.array("x", np.ones(3))

    index = run(stage(process), bench.rows, bench.config)
    assert [outcome.status for outcome in index.values()] == ["failed", "ok", "ok"]


def test_whoever_leaves_early_stops_the_rest():
    turns, done = Turns(), []

    def work(number):
        turns.wait(number)
        time.sleep(0.01)
        turns.leave(number)
        done.append(number)
        return number

    outcomes = in_order(work, range(100), 2, turns)
    assert next(outcomes) == (0, 0)
    outcomes.close()
    assert len(done) <= 3
    with pytest.raises(Stopped):
        turns.wait(50)
