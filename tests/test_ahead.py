import threading
import time

import pytest

from expportrait.ahead import ahead


def test_the_order_is_kept():
    assert list(ahead(range(50), 3)) == list(range(50))
    assert list(ahead(())) == []


def test_the_next_is_made_while_one_is_used():
    made = []

    def items():
        for k in range(4):
            made.append(k)
            yield k

    running = ahead(items())
    assert next(running) == 0
    until = time.monotonic() + 5
    while 1 not in made and time.monotonic() < until:
        time.sleep(0.01)
    assert 1 in made and 3 not in made  # no more than one waits, and one is in the making
    assert list(running) == [1, 2, 3]


def test_what_fails_there_fails_here():
    def items():
        yield 1
        raise ValueError("there")

    running = ahead(items())
    assert next(running) == 1
    with pytest.raises(ValueError, match="there"):
        next(running)


def test_stopping_early_stops_the_work():
    def endless():
        while True:
            yield 0

    before = threading.active_count()
    running = ahead(endless())
    next(running)
    running.close()
    assert threading.active_count() == before
