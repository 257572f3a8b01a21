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
