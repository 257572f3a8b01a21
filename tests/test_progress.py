import io
import time

from expportrait import progress


def test_a_log_gets_whole_lines_and_the_listener_hears_the_same(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    heard = []
    for i in progress.progress(range(3), 3, "proxy ann: fit", heard.append):
        progress.say(f"a line of its own {i}")
    text = capfd.readouterr().err
    assert "\r" not in text and "\x1b" not in text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("a line")] == [f"a line of its own {i}" for i in range(3)]
    assert lines[-1].startswith("proxy ann: fit: 3 of 3, ") and heard[-1] == "proxy ann: fit: 3 of 3"


def test_one_bar_moves_through_all_parts_and_what_is_said_goes_to_the_log(capfd, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0)
    log = io.StringIO()
    with progress.Whole("film", {"crop": 2, "fit": 8}, log) as whole:
        with whole.part("crop"):
            for row in progress.progress(range(2), 2, "crop"):
                for again in ("look", "cut"):  # two passes over a row
                    for _ in progress.progress(range(4), 4, f"crop {row}: {again}", lambda text: None):
                        time.sleep(0.03)
        with whole.part("fit"):
            progress.say("fit: done")
            for _ in progress.progress(range(4), 4, "fit a: fit", lambda text: None):
                time.sleep(0.25)
    progress.say("wrote it")
    lines = capfd.readouterr().err.splitlines()
    assert lines.pop() == "wrote it" and log.getvalue() == "fit: done\n"
    assert all(line.startswith("film") for line in lines)
    shares = [int(line.split(": ")[-1].split(" %")[0]) for line in lines]
    assert shares == sorted(shares) and shares[-1] == 100
    crops = [share for share, line in zip(shares, lines, strict=True) if ": crop: " in line]
    assert 10 in crops and max(crops) <= 20, "a row of two is half of its part"
