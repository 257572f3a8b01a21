"""Work done in a process of its own."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from expportrait.errors import ClipError, MachineFault
from expportrait.machine import aside


def test_it_returns_and_raises_what_the_function_does():
    assert aside(divmod, 7, 2) == (3, 1)
    assert aside(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        aside(divmod, 7, 0)
    with pytest.raises(ClipError, match="too short"):
        aside(too_short)


def too_short():
    raise ClipError("too short")


def test_its_end_from_outside_is_the_machines_fault():
    with pytest.raises(MachineFault, match="killed was ended"):
        aside(killed)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_ends_with_a_parent_that_is_killed():
    """Else whatever reads the parent's output, such as the tee of a rule's log, waits for good."""
    script = "import time; from expportrait.machine import aside; print('at work', flush=True); aside(time.sleep, 100)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "at work\n"
        until, children = time.monotonic() + 60, []
        while len(children) < 2 and time.monotonic() < until:  # the tracker of resources and the one at work
            time.sleep(0.1)
            children = psutil.Process(parent.pid).children()
        time.sleep(2)  # so that it is in the middle of its work
        parent.kill()
        parent.communicate(timeout=20)
        assert not psutil.wait_procs(children, timeout=10)[1]


def test_it_ends_with_an_interrupt_of_its_parent():
    """A job that is told to end does not first do the work."""
    script = ("import signal, sys, time; from expportrait.machine import aside; "
              "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); print('at work', flush=True); "
              "aside(time.sleep, 100)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "at work\n"
        time.sleep(5)
        parent.terminate()
        try:
            assert parent.wait(timeout=20) == 143
        finally:
            parent.kill()
