"""What was measured as plain tables: a line a pair and method, and a line a frame of those."""

from collections.abc import Iterable, Iterator

from expportrait.metrics.pair import METRICS

BY_PAIR = ("pair", "mode", "method", "size", "frames", "result_without_face", "driver_without_face", *METRICS)
BY_FRAME = ("pair", "mode", "method", "frame", "face_in_result", "face_in_driver", *METRICS)


def pair_lines(rows: Iterable[dict]) -> Iterator[list]:
    """The cells of BY_PAIR, of rows of the table; empty where there is no number."""
    for row in rows:
        missed = row["no_face"] or {}
        about = {"result_without_face": missed.get("result"), "driver_without_face": missed.get("driver")}
        yield [_cell((row | about)[name]) for name in BY_PAIR]


def frame_lines(known: dict) -> Iterator[list]:
    """The cells of BY_FRAME, of a pair's file: every frame that was measured, also those without a face."""
    for row in known["rows"]:
        values, faces = (known[of][row["method"]] for of in ("values", "faces"))
        for t, frame in enumerate(known["frames"]):
            seen = [int(faces[of][t]) for of in ("result", "driver")]
            numbers = [_cell(values[name][t]) if name in values else "" for name in METRICS]
            yield [row["pair"], row["mode"], row["method"], frame, *seen, *numbers]


def _cell(value: object) -> object:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
