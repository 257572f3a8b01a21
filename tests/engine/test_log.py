"""The log of a training."""

from expportrait.engine.log import in_short, in_words, read_log, shares, write_log

OLD = {"step": 0, "loss": 0.5, "learning_rate": 1e-5, "seconds": 2.0, "waiting": 0.1}
NEW = {"step": 1, "loss": 0.25, "gradient": 1.5, "learning_rate": 1e-5, "seconds": 2.0, "waiting": 0.1, "tokens": 53248,
       "tflops": 412.0, "floor": 2.5, "memory": 31.25, "other": 0.4}  # fmt: skip


def test_rows_of_older_versions_go_on_with_those_of_this_one(tmp_path):
    file = tmp_path / "loss.csv"
    write_log(file, [OLD, NEW])
    assert read_log(file) == [OLD, NEW]
    write_log(file, [NEW, OLD])  # as after a return to the older version
    assert read_log(file) == [NEW, OLD]


def test_a_line_that_was_cut_short_is_dropped_wherever_it_was_cut(tmp_path):
    file = tmp_path / "loss.csv"
    write_log(file, [NEW, NEW | {"step": 2}])
    text = file.read_text().rstrip()
    begin, last = text.rindex("\n") + 1, text.rindex(",")
    for end in range(begin + 1, last):
        file.write_text(text[:end])
        assert read_log(file) == [NEW], text[:end]


def test_a_row_in_words():
    assert in_words(NEW) == ("loss 0.25, gradient 1.5, learning rate 1e-05, 2 s a step, 53,248 tokens, "
                             "412 TFLOP/s a process, 2.5 times the floor, 31.2 GiB, 5.0% of it waiting for data, "
                             "20.0% not the transformer")  # fmt: skip
    assert in_words(OLD) == "loss 0.5, learning rate 1e-05, 2 s a step, 5.0% of it waiting for data"
    assert in_short(NEW) == ", 2.5x floor, 31.2 GiB, 5% waiting, 20% not DiT" and in_short(OLD) == ""
    assert shares(NEW) == {"waiting_share": 0.05, "other_share": 0.2} and shares(OLD) == {"waiting_share": 0.05}
