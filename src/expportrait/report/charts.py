"""Small SVG charts as text, coloured by the page's style sheet (classes, no colours here)."""

import math
import re
from collections.abc import Callable
from html import escape
from itertools import pairwise

import numpy as np

Scale = Callable[[float], float]
Points = dict[str, np.ndarray]  # name -> (n, 2), step and value

WIDTH = 420
LEFT, RIGHT = 42, 8  # margins of the plot, user units
POINTS = 160  # a curve has at most about so many
BUDGET = 640  # and all curves of the fit's losses together: a chart stays under 15 kB
SMALLEST = 1e-5  # of the largest value in a chart of losses: what is below is not drawn
KEY = 14  # height of a line of keys
SMOOTH = 13  # points of a running mean, of at most POINTS
# of the fit's stages, docs/proxy.md
LETTERS = {"rigid": "a", "landmarks": "b", "coarse": "c", "static": "d", "dynamic": "e", "final": "e"}


def loss_chart(loss: np.ndarray, stages: list[tuple[str, int]], terms: tuple[str, ...]) -> str:
    """Curves of the fit on a logarithmic scale, empty where there is nothing to draw.

    loss (n, len(terms)), NaN where a term was not computed; ``stages``: (name, first step) in order, each marked with
    its letter, and each as wide as any other: some have hundreds of steps, some two.
    """
    positive = np.where(np.isfinite(loss) & (loss > 0), loss, np.nan).astype(float)
    if not np.isfinite(positive).any():
        return ""
    positive[positive < SMALLEST * np.nanmax(positive)] = np.nan
    names = [name for k, name in enumerate(terms) if np.isfinite(positive[:, k]).any()]
    keys, lines = _keys({name.replace("_", " "): k for k, name in enumerate(terms) if name in names})
    top, height = 20 + KEY * lines, 176 + KEY * lines
    bounds = [first for _, first in stages] + [len(loss)]
    x = _by_stage(bounds)
    points = min(POINTS, BUDGET // len(names))
    curves = [(k, _binned(np.log10(positive[:, k]), bounds, points)) for k, name in enumerate(terms) if name in names]
    y, body = _log_axis(np.concatenate([points[:, 1] for _, parts in curves for points in parts]), height - 18, top)
    for number, (name, first) in enumerate(stages):
        last = bounds[number + 1]
        left, right = x(first - 0.5), x(last - 0.5)
        shade = " even" if number % 2 else ""
        body.append(f'<rect class="band{shade}" x="{left:.1f}" y="{top}" width="{max(0, right - left):.1f}" '
                    f'height="{height - 18 - top}"/>')  # fmt: skip
        label = escape(LETTERS.get(name, name))
        body.append(f'<text class="stage" x="{(left + right) / 2:.1f}" y="{top - 5}">'
                    f"<title>{escape(name)}: steps {first} to {last - 1}</title>{label}</text>")  # fmt: skip
    for k, parts in curves:
        body += [_line(points, x, y, f"s{k}") for points in parts]
    body += _steps(len(loss), height)
    return _svg(height, body + keys, "Loss of the fit by step, logarithmic")


def _by_stage(bounds: list[int]) -> Scale:
    """Where a step is drawn, the stages between ``bounds`` being equally wide; half a step of room at either end."""
    places = np.linspace(LEFT, WIDTH - RIGHT, len(bounds))
    return lambda step: float(np.interp(step, np.array(bounds) - 0.5, places))


def training_chart(curves: dict[str, np.ndarray], title: str, seen: Points | None = None) -> str:
    """Curves (n,) by step on a logarithmic scale, as running means; behind them, pale, the first curve as it is; over
    them, with a dot each, what was ``seen`` at some steps."""
    top, height = 20, 190
    points = {}
    for name, values in curves.items():
        positive = np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(float)
        found = _binned(positive, [0, len(values)])
        points |= {name: found[0]} if found else {}
    if not points:
        return ""
    steps = max([*map(len, curves.values()), *(int(p[:, 0].max()) for p in (seen or {}).values() if len(p))])
    means = {name: np.stack([p[:, 0], np.log10(_running(p[:, 1]))], 1) for name, p in points.items()}
    own = next(iter(points.values())).copy()
    own[:, 1] = np.log10(own[:, 1])
    dotted = _logarithms(seen or {})
    y, body = _log_axis(np.concatenate([p[:, 1] for p in (own, *means.values(), *dotted.values())]), height - 18, top)
    x = _scale(0, max(1, steps - 1), LEFT, WIDTH - RIGHT)
    styles = {name: k for k, name in enumerate(curves) if name in points}
    body.append(_line(own, x, y, f"s{styles[next(iter(points))]} pale"))
    body += [_line(p, x, y, f"s{styles[name]}") for name, p in means.items()]
    styles |= {name: k for k, name in enumerate(dotted, len(curves))}
    body += [part for name, p in dotted.items() for part in _dotted(p, x, y, f"s{styles[name]}")]
    return _svg(height, body + _steps(steps, height) + (_keys(styles)[0] if len(styles) > 1 else []), title)


def looks_chart(seen: Points, steps: int, title: str, logarithmic: bool = False) -> str:
    """What was ``seen`` at some of the ``steps``, a dot each; empty where there is nothing. ``logarithmic``: where the
    values differ enough."""
    top, height = 20, 190
    points = {name: p for name, p in seen.items() if len(p)}
    if not points:
        return ""
    every = np.concatenate([p[:, 1] for p in points.values()])
    logarithmic = logarithmic and every.min() > 0 and every.max() > 2 * every.min()  # else it has too few round values
    points = _logarithms(points) if logarithmic else points
    values = np.concatenate([p[:, 1] for p in points.values()])
    y, body = (_log_axis if logarithmic else _axis)(values, height - 18, top)
    x = _scale(0, max(1, steps), LEFT, WIDTH - RIGHT)
    styles = {name: k for k, name in enumerate(points)}
    body += [part for name, p in points.items() for part in _dotted(p, x, y, f"s{styles[name]}")]
    return _svg(height, body + _steps(steps, height) + _keys(styles)[0], title)


def _logarithms(seen: Points) -> Points:
    """Those above 0; curves without any are left out."""
    kept = {name: p[p[:, 1] > 0] for name, p in seen.items() if len(p)}
    return {name: np.stack([p[:, 0], np.log10(p[:, 1])], 1) for name, p in kept.items() if len(p)}


def _dotted(points: np.ndarray, x: Scale, y: Scale, style: str) -> list[str]:
    dots = [f'<circle class="{style} dot" cx="{x(a):.1f}" cy="{y(b):.1f}" r="2"/>' for a, b in points]
    return ([_line(points, x, y, style)] if len(points) > 1 else []) + dots


def error_chart(rows: list[tuple[str, str, np.ndarray]], shown: int) -> str:
    """One small chart a row, (name, unit, values (T,)), over the frames; a line marks frame ``shown``."""
    each, right = 60, WIDTH - RIGHT
    frames = len(rows[0][2])
    x = _scale(0, max(1, frames - 1), LEFT, right)
    body = []
    for number, (name, unit, values) in enumerate(rows):
        top = number * each + 16
        bottom = top + each - 24
        values = values.astype(float)
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        low, high = float(known.min()), float(known.max())
        room = max(0.1 * (high - low), 0.02 * abs(high), 1e-6)
        y = _scale(low - room, high + room, bottom, top)
        told = f"mean {_short(known.mean())}{escape(unit)}, {_short(low)} to {_short(high)}"
        body.append(f'<text class="key" x="{LEFT}" y="{top - 5}">{escape(name)}</text>'
                    f'<text class="tick end" x="{right}" y="{top - 5}">{told}</text>'
                    f'<rect class="band even" x="{LEFT}" y="{top}" width="{right - LEFT}" '
                    f'height="{bottom - top}"/>')  # fmt: skip
        body.append(_grid(y(float(known.mean())), _short(known.mean())))
        if frames > 1:
            body.append(f'<line class="mark" x1="{x(shown):.1f}" x2="{x(shown):.1f}" y1="{top}" y2="{bottom}"/>')
            body += [_line(part, x, y, f"s{number}") for part in _binned(values, [0, frames])]
        else:
            body.append(f'<circle class="s{number}" cx="{(LEFT + right) / 2}" cy="{y(float(known[0])):.1f}" r="3"/>')
    height = len(rows) * each + 8
    if frames > 1:
        body.append(f'<text class="tick" x="{LEFT}" y="{height - 2}">frame 0</text>')
        body.append(f'<text class="tick end" x="{WIDTH - RIGHT}" y="{height - 2}">{frames - 1}</text>')
    return _svg(height, body, "Errors of the fit by frame")


def _svg(height: int, body: list[str], title: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{"".join(body)}</svg>'


def _log_axis(values: np.ndarray, bottom: float, top: float) -> tuple[Scale, list[str]]:
    """Where a decimal logarithm is drawn, and the grid."""
    low, high = float(values.min()), float(values.max())
    pad = max(0.05, 0.04 * (high - low))
    low, high = low - pad, high + pad
    y = _scale(low, high, bottom, top)
    return y, [_grid(y(math.log10(tick)), _tick(tick)) for tick in _decades(low, high)]


def _axis(values: np.ndarray, bottom: float, top: float) -> tuple[Scale, list[str]]:
    """Where a value is drawn, and the grid: from end to end, with some room."""
    low, high = float(values.min()), float(values.max())
    room = max(0.08 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-6)
    y = _scale(low - room, high + room, bottom, top)
    ticks = np.linspace(low, high, 3) if high > low else [low]
    labels = (re.sub(r"^0\.", ".", _short(float(tick))) for tick in ticks)  # there is room for five letters
    return y, [_grid(y(float(tick)), label) for tick, label in zip(ticks, labels, strict=True)]


def _steps(count: int, height: float) -> list[str]:
    return [f'<text class="tick" x="{LEFT}" y="{height - 4}">0</text>',
            f'<text class="tick end" x="{WIDTH - RIGHT}" y="{height - 4}">{count} steps</text>']  # fmt: skip


def _keys(names: dict[str, int]) -> tuple[list[str], int]:
    """The keys, and in how many lines. ``names``: name -> number of its style."""
    body, at, line = [], float(LEFT), 0
    for name, k in names.items():
        width = 30 + 6.2 * len(name)
        if at > LEFT and at + width > WIDTH:
            at, line = float(LEFT), line + 1
        y = 8 + KEY * line
        body.append(f'<line class="s{k}" x1="{at:.0f}" x2="{at + 12:.0f}" y1="{y}" y2="{y}"/>'
                    f'<text class="key" x="{at + 16:.0f}" y="{y + 4}">{escape(name)}</text>')  # fmt: skip
        at += width
    return body, line + 1


def _running(values: np.ndarray) -> np.ndarray:
    """Mean over SMOOTH neighbours, fewer at the ends."""
    width = min(SMOOTH, len(values))
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _grid(y: float, label: str) -> str:
    return (f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick end" x="{LEFT - 4}" y="{y + 4:.1f}">{label}</text>')  # fmt: skip


def _line(points: np.ndarray, x: Scale, y: Scale, style: str) -> str:
    """points (n, 2)."""
    if len(points) == 1:
        return f'<circle class="{style}" cx="{x(points[0, 0]):.1f}" cy="{y(points[0, 1]):.1f}" r="1.5"/>'
    text = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    return f'<polyline class="{style}" points="{text}"/>'


def _binned(values: np.ndarray, bounds: list[int], most: int = POINTS) -> list[np.ndarray]:
    """Means over bins of steps, about ``most`` of them, never across ``bounds``: one (n, 2) of step and mean for each
    part that has values."""
    parts = []
    for first, last in pairwise(bounds):
        width = max(1, math.ceil((last - first) * (len(bounds) - 1) / most))
        points = []
        for start in range(first, last, width):
            part = values[start : min(start + width, last)]
            known = part[np.isfinite(part)]
            if len(known):
                points.append((start + (len(part) - 1) / 2, known.mean()))
        if points:
            parts.append(np.array(points))
    return parts


def _decades(low: float, high: float) -> list[float]:
    """Round values between 10^low and 10^high, two to six of them."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, *range(2, 10))):
        ticks = [s * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for s in steps]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) >= 2:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / 6))]


def _tick(value: float) -> str:
    """Short enough for the margin."""
    return (
        f"{value:g}"
        if value >= 1e-3
        else f"{value:.2g}".replace("e-0", "e-")
        if value < 1e-4
        else f"{value * 1e4:.2g}e-4"
    )


def _short(value: float) -> str:
    return f"{value:.3g}"
